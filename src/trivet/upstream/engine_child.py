"""The child process of an `Engine`: loads one GGUF file and serves llama.cpp's own HTTP server on a loopback port.

    python -m trivet.upstream.engine_child

Its parent writes one `Order` as a line of JSON on stdin (the key among it: a command line can be read by every user of
the machine) and leaves stdin open. The child answers with one `Report` on stdout: the port it listens on, or why it
cannot. What llama.cpp says goes to stderr.

Invariant: it does not outlive its parent, however that ends. On Linux the kernel kills it, also while C++ holds the
interpreter; elsewhere a thread waits for the end of stdin, which comes at the latest when the model is loaded.

Not here: starting, watching and restarting it (`engine.py`).
"""

import ctypes
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

PROMPT_CACHE_MIB = 512
"""Of memory, at most, for the prefixes of prompts that have left their slot (llama.cpp's default is 8192): ten prompts
of 4096 tokens for Qwen2.5 0.5B, four for 1.5B. A prefix found again is not computed again: 26 to 49 times less TTFT
at 600 tokens."""

BATCH_TOKENS = 128
"""Of prompts, read in one step, during which no other slot gets a token. While one slot of Qwen2.5 0.5B read 2000
tokens, the other stood still for 33 s with llama.cpp's 2048, 6 s with 512 and 2 s with 128; the reading itself took
33, 20 and 21 s (2 busy cores, single runs)."""

HTTP_THREADS = 64
"""llama.cpp holds a thread for each request, waiting ones too; with its default of `slots + 4` a queue of requests
leaves none to answer /health with."""

NICENESS = 5
"""A model that computes takes every core for seconds. The gateway answers hits and other targets meanwhile, and needs
some hundred microseconds for each: it goes first. With 10 a model on a machine that others keep busy was starved."""

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


class Order(Struct, frozen=True, kw_only=True):
    """What to load and how to serve it."""

    path: str
    name: str
    """The model's name in answers."""
    key: str
    context: int
    """Tokens that one request may use."""
    slots: int
    threads: int
    parent: int
    """Process id of the parent."""


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it."""

    url: str = ""
    error: str = ""


def main() -> None:
    """Obey the order on stdin until stdin ends."""
    report = _take_stdout()
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    _die_with(order.parent)
    _go_last()
    try:
        server = _serve(order)
    except (ImportError, RuntimeError) as error:
        _send(report, Report(error=str(error)))
        sys.exit(1)
    _send(report, Report(url=server.listening_address))
    threading.Event().wait()


def _take_stdout() -> IO[bytes]:
    """Keep stdout for the report: whatever else is printed, by C++ too, goes to the log."""
    report = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return report


def _send(file: IO[bytes], report: Report) -> None:
    file.write(msgspec.json.encode(report) + b"\n")
    file.close()


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)
    threading.Thread(target=_wait_for_the_end_of_stdin, daemon=True).start()


def _wait_for_the_end_of_stdin() -> None:
    while os.read(0, 4096):  # not `sys.stdin`: its lock, held here, aborts the interpreter's own end
        pass
    os._exit(0)


def _go_last() -> None:
    """Leave the processor to the gateway whenever it wants it."""
    os.nice(NICENESS)
    # Where Linux shares time between sessions first (autogroup), niceness counts only within one, and this is one.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(f"{NICENESS}\n")


def _serve(order: Order) -> Any:
    """Load the model and listen. Holds the interpreter while it loads.

    Raises:
        ImportError: the runtime is not installed. RuntimeError: it cannot load the file; the log says why.
    """
    import xllamacpp  # 100 MB, and needed only here

    params = xllamacpp.CommonParams()
    params.model.path = order.path
    params.model_alias = {order.name}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [order.key]
    # One pool of cells for all slots, and a bound for each: without the bound one request may take the room of the
    # others, and llama.cpp then fails all of them.
    params.kv_unified = True
    params.n_parallel, params.n_ctx = order.slots, order.slots * order.context
    params.kv_unified_per_slot = order.context
    params.n_batch = BATCH_TOKENS
    params.ctx_shift = False  # nothing is cut off in silence: too long a prompt is refused
    params.cpuparams.n_threads = order.threads or _cores()
    params.n_threads_http = HTTP_THREADS
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.endpoint_metrics = params.endpoint_slots = True
    params.ui = False
    return xllamacpp.Server(params)


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


if __name__ == "__main__":
    main()
