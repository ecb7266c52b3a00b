"""The machine under a measurement: programs in C, processes on their cores, what they used, who else was busy.

Not here: what is measured (`gateway.py`) or against whom (`peers.py`). Linux only: it reads /proc.
Invariant: only processes started here are ever signalled, each as the group it leads, and all are ended.
"""

import contextlib
import os
import platform
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"
CORES = sorted(os.sched_getaffinity(0))
HARNESS_CORE, GATEWAY_CORE = CORES[0], CORES[-1]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_ENV_KEPT = ("PATH", "LANG", "LC_ALL")


def compiled(name: str) -> Path:
    """Compile `bench/NAME.c` where it, or the header, is newer than the program; give the program."""
    program, source = BUILD / name, HERE / f"{name}.c"
    newest = max(source.stat().st_mtime, (HERE / "net.h").stat().st_mtime)
    if program.exists() and program.stat().st_mtime > newest:
        return program
    BUILD.mkdir(exist_ok=True)
    fresh = BUILD / f"{name}.{os.getpid()}"  # put in place whole: another run may be using the old one
    subprocess.run(["cc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", fresh, source], check=True)
    fresh.replace(program)
    return program


def free_port() -> int:
    """Give a loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Process:
    """A program on one core, leading its own group and session, with what it and its children use."""

    def __init__(self, argv: Sequence[str | Path], *, core: int, folder: Path, env: Mapping[str, str]) -> None:
        """Start it in `folder`, with a bare environment and `env`; what it says goes to `folder/log`."""
        bare = {name: os.environ[name] for name in _ENV_KEPT if name in os.environ} | {"HOME": str(folder)}
        self._log = folder / "log"
        with _on(core), self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                argv, cwd=folder, env={**bare, **env}, stdout=log, stderr=log, start_new_session=True
            )

    def log(self) -> str:
        """Give what it has said so far."""
        return self._log.read_text(errors="replace")

    def last_words(self) -> str:
        """Give the last line that it has said."""
        said = self.log().strip().splitlines()
        return said[-1][:300] if said else "nothing"

    def ended(self) -> bool:
        """Say whether it has ended by itself."""
        return self._popen.poll() is not None

    def cpu_s(self) -> float:
        """Give the processor time of all its processes so far, ended children too (resolution 10 ms)."""
        return sum(sum(map(int, fields[11:15])) for fields in self._stats().values()) / _TICKS_PER_S

    def pss_mib(self) -> float:
        """Give its memory: the proportional share of all its processes."""
        kib = 0
        for pid in self._stats():
            with contextlib.suppress(OSError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                kib += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return kib / 1024

    def freeze(self) -> None:
        """Stop it where it stands, so that an idle gateway takes nothing from the one that is measured."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, kindly for 15 s."""
        if self.ended():
            return
        self.thaw()
        self._popen.terminate()
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)  # children that outlived it
            self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(self._popen.pid, number)

    def _stats(self) -> dict[int, list[str]]:
        """The fields of /proc/PID/stat after the name, of all processes in its session."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._popen.pid:
                    found[int(path.parent.name)] = fields
        return found


@contextlib.contextmanager
def _on(core: int) -> Iterator[None]:
    """What is started inside runs on that core, and all its children."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def busy_s() -> float:
    """Give the time that all cores together have been at work since the start, stolen time included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, _cpu_line()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


def _cpu_line() -> list[str]:
    return Path("/proc/stat").read_text().splitlines()[0].split()


def others_now(*, for_s: float = 1.0) -> float:
    """Measure how many cores others keep busy while nothing of ours runs."""
    before_s, began_s = busy_s(), time.monotonic()
    time.sleep(for_s)
    return (busy_s() - before_s) / (time.monotonic() - began_s)


def described() -> dict[str, str | int]:
    """Say what machine this is."""
    cpu = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line]
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": len(CORES),
        "gateway_core": GATEWAY_CORE,
        "harness_core": HARNESS_CORE,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "compiler": compiler,
    }


def said(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> str:
    """Run a short program to its end and give what it says. Raises RuntimeError with its last words."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(
            f"{shlex.join(Path(a).name for a in map(str, argv[:3]))}: {words[-1] if words else 'failed'}"
        )
    return done.stdout.strip()
