"""What a hit saves: the same question asked of a real local model, of the exact cache, and asked in other words.

    python bench/hits.py [--embedders builtin,minilm] [--questions 8] [--out bench/results/YYYY-MM-DD-hits]

A gateway with the small embedded model (Qwen2.5-Coder 0.5B) and its engine share one core, the program that asks has
the other. Each question is asked once (a miss: the model answers), then again word by word, then in other words; what
`x-trivet-cache` says decides what a call counts as. Audits go on as they do, on the same core, so it is a busy one:
*quiet* leaves out calls during which the engine was at work. Times are from the first byte sent to the last byte read,
over one kept connection. Linux only: it reads /proc.
"""

import argparse
import datetime as dt
import http.client
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # `python bench/hits.py` looks beside the file only

from bench import machine
from bench.machine import GATEWAY_CORE, HARNESS_CORE, HERE, Process, free_port
from bench.report import table

CONFIG = """
[server]
port = {port}

[targets.small]
provider = "llamacpp"
model = "qwen2.5-coder-0.5b-instruct"
region = "local"
price = {{ hour = "$0.08", slots = 2 }}

[policies.p]
pool = ["small"]

[policies.p.cache]
mode = "verified"
max_error = 0.05

[embedder]
kind = "{embedder}"
"""

QUESTIONS = (
    "how do i reverse a list in python",
    "what is the difference between a process and a thread",
    "how do i undo the last commit in git",
    "what does the http status code 404 mean",
    "how do i read a text file line by line in python",
    "what is a foreign key in a database",
    "how do i sort a dictionary by its values in python",
    "what is the difference between tcp and udp",
)
AGAIN = 25
"""Times that each question is asked word by word."""
WAYS = (
    "{}?", "please tell me {}", "hello, {}", "{}, please", "hi there, {}?", "can you tell me {}", "{} thanks",
    "i want to know {}", "could you explain {}", "quick question: {}", "hey, {}", "tell me, {}", "{} exactly",
    "good morning, {}?", "i would like to know {}", "so, {}?", "one more thing: {}", "explain to me {}", "ok, {}",
    "please, {}?", "would you tell me {}?", "just wondering {}", "i am asking {}", "{}, thank you", "well, {}?",
)  # fmt: skip
TOKENS = 100
LOADED_WITHIN_S = 300.0
_QUIET_MS = 10.0
"""Processor time within one step of the clock: nobody was at work beside the call itself."""


class Call(NamedTuple):
    """One call, and what became of it."""

    embedder: str
    kind: str
    """`miss`, `exact` or `semantic`."""
    ms: float
    busy_ms: float
    """Processor time of the gateway and its engine meanwhile, in steps of 10 ms."""


class Asker:
    """One kept connection to a gateway."""

    def __init__(self, process: Process, port: int, embedder: str) -> None:
        self._process, self._embedder = process, embedder
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def ask(self, question: str) -> Call:
        """Ask, and wait for the whole answer."""
        messages = [{"role": "user", "content": question}]
        body = json.dumps({"model": "p", "messages": messages, "max_tokens": TOKENS, "temperature": 0})
        used, began = self._process.cpu_s(), time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        reply = self._connection.getresponse()
        answer = reply.read()
        took = time.perf_counter() - began
        assert reply.status == 200, answer[:500]
        assert json.loads(answer)["choices"][0]["message"]["content"], answer[:500]
        told = reply.headers["x-trivet-cache"]
        kind = told.split("kind=")[1].split(";")[0] if told.startswith("hit") else told
        return Call(self._embedder, kind, took * 1e3, (self._process.cpu_s() - used) * 1e3)

    def wait(self) -> None:
        """Wait until the model and the embedder are loaded: until a question in other words is a hit."""
        until = time.monotonic() + LOADED_WITHIN_S
        while time.monotonic() < until:
            try:
                self._connection.request("GET", "/readyz")
                reply = self._connection.getresponse()
                reply.read()
                if reply.status == 200:
                    break
            except ConnectionRefusedError:  # it is still starting
                self._connection.close()
            time.sleep(0.2)
        else:
            raise SystemExit(f"The model was not ready: {self._process.last_words()}")
        for turn in range(100):
            self.ask(f"say the number {turn}")
            if self.ask(f"say the number {turn}?").kind == "semantic":
                return
        raise SystemExit(f"The embedder was not ready: {self._process.last_words()}")


def calls(embedder: str, questions: int) -> Iterator[Call]:
    """Ask everything of a gateway with that embedder."""
    with ExitStack() as opened:
        folder, port = Path(opened.enter_context(tempfile.TemporaryDirectory())), free_port()
        (folder / "trivet.toml").write_text(CONFIG.format(port=port, embedder=embedder))
        models = str(Path("~/.cache/trivet/models").expanduser())
        process = Process(
            [sys.executable, "-m", "trivet", "serve", "--config", str(folder / "trivet.toml")],
            core=GATEWAY_CORE,
            folder=folder,
            env={"TRIVET_HOME": str(folder / "home"), "TRIVET_MODELS": models},
        )
        opened.callback(process.stop)
        asker = Asker(process, port, embedder)
        asker.wait()
        for question in QUESTIONS[:questions]:
            yield asker.ask(question)
            for way in WAYS:
                yield asker.ask(way.format(question))
            for _ in range(AGAIN):
                yield asker.ask(question)


def rows(made: list[Call]) -> list[list[str]]:
    """Make the rows of the table."""
    told = []
    for embedder in dict.fromkeys(call.embedder for call in made):
        ours = [call for call in made if call.embedder == embedder]
        miss = statistics.median(call.ms for call in ours if call.kind == "miss")
        for kind in ("miss", "exact", "semantic"):
            took = sorted(call.ms for call in ours if call.kind == kind)
            quiet = sorted(call.ms for call in ours if call.kind == kind and call.busy_ms <= _QUIET_MS)
            if not took:
                told.append([embedder, kind, "0", *["-"] * 5])
                continue
            middle = statistics.median(took)
            told.append(
                [
                    embedder,
                    kind,
                    str(len(took)),
                    f"{took[0]:.2f}",
                    f"{middle:.2f}",
                    f"{took[int(len(took) * 0.95)]:.2f}",
                    f"{statistics.median(quiet):.2f}" if quiet else "-",
                    f"{miss / middle:,.0f}",
                ]
            )
    return told


def main() -> None:
    """Measure, and write what was found."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedders", default="builtin,minilm")
    parser.add_argument("--questions", type=int, default=len(QUESTIONS))
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{today}-hits", help=".json and .md")
    given = parser.parse_args()
    os.sched_setaffinity(0, {HARNESS_CORE})
    made = [call for embedder in given.embedders.split(",") for call in calls(embedder, given.questions)]
    about = machine.described()
    command = f"python {shlex.join(['bench/hits.py', *sys.argv[1:]])}"
    heads = ["embedder", "", "calls", "least ms", "p50 ms", "p95 ms", "p50 ms, quiet", "times faster than a miss"]
    cores = f"gateway and engine on {GATEWAY_CORE}, the asker on {HARNESS_CORE}"
    busy = f"load average {os.getloadavg()[0]:.2f}"
    text = "\n\n".join(
        [
            f"# What a hit saves, {today}",
            f"    {command}",
            f"{about['cpu']}, {about['cores']} cores ({cores}), Python {about['python']}; {busy}.",
            f"Answers of at most {TOKENS} tokens.",
            table(heads, rows(made)),
        ]
    )
    told: dict[str, Any] = {"at": today, "command": command, "machine": about, "calls": [c._asdict() for c in made]}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.with_name(given.out.name + ".json").write_text(json.dumps(told, indent=1) + "\n")
    given.out.with_name(given.out.name + ".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
