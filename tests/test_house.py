"""The house rules that a reader would otherwise have to trust: read off the source, by its syntax tree."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "trivet"
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
ROOMS = ("pipeline.py", "labels", "cache", "routing", "ledger", "upstream", "server", "wire")
"""What runs in virtual time too, so it may not reach for time, chance, the environment or a socket of its own."""

TESTED_ELSEWHERE: Mapping[str, str] = {
    "__main__.py": "tests/e2e/test_kill.py",  # every child there is started by `python -m trivet`
    "config/conflicts.py": "tests/config/test_load.py",  # what is refused is seen where a file is read
    "config/misfits.py": "tests/config/test_load.py",
    "config/places.py": "tests/config/test_load.py",
    "config/secret.py": "tests/config/test_load.py",
    "config/settings.py": "tests/config/test_load.py",
    "testing/cache_suite.py": "tests/cache/test_exact.py",  # a suite is tested by what passes it
    "testing/embedder_suite.py": "tests/embed/test_builtin.py",
    "testing/provider_suite.py": "tests/upstream/test_openai.py",
    "testing/router_suite.py": "tests/routing/test_fixed.py",
    "testing/store_suite.py": "tests/testing/test_memory.py",
}

REACHES: Mapping[str, set[str]] = {
    # The edges of the process: where the clock, the dialer and the environment that are passed on come from.
    "ledger/journal.py": {"os.getpid"},
    "ledger/keys.py": {"secrets.token_hex", "secrets.token_urlsafe"},  # a key must not be repeatable by a seed
    "ledger/writer.py": {"time.sleep"},  # in a thread of its own
    "server/http.py": {"loop.create_server"},  # on a socket that is passed in
    "server/run.py": {"socket.socket"},
    "upstream/anthropic.py": {"os.environ"},  # where a key is read from, once
    "upstream/discover.py": {"asyncio.open_connection"},  # looks for engines before there is a gateway
    "upstream/engine.py": {"os.environ", "os.getpid"},  # what a child process is started with
    "upstream/engine_child.py": {"os.environ", "os.getpid", "os.getppid", "time.sleep"},  # is that child process
    "upstream/gemini.py": {"os.environ"},  # where a key is read from, once
    "upstream/http.py": {"loop.create_connection"},  # is the Dialer of a running server
    "upstream/openai.py": {"os.environ"},  # where a key is read from, once
    "upstream/out.py": {"os.environ"},  # where a proxy is read from, once
}
_WORLDLY = re.compile(
    r"time\.(time|monotonic|perf_counter|process_time|sleep|localtime|gmtime)(_ns)?"
    r"|datetime\.datetime\.(now|utcnow|today)|datetime\.(now|utcnow|today)|date\.today"
    r"|random\.(?!Random$)\w+|secrets\.\w+|uuid\.\w+|os\.(environ\w*|getenv\w*|urandom|getpid|getppid)"
    r"|socket\.(socket|create_connection|create_server|socketpair)|asyncio\.(open_connection|start_server)"
    r"|(urllib\.request|http\.client|requests|httpx)\.\w+|\w*loop\w*\.(create_connection|create_server)"
)


def tree_of(module: Path) -> ast.Module:
    return ast.parse((SOURCE / module).read_text(), filename=str(module))


def dotted(node: ast.AST) -> str:
    """Write `a.b.c` for an attribute of names; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        above = dotted(node.value)
        return above and f"{above}.{node.attr}"
    return ""


def imported(tree: ast.Module) -> dict[str, str]:
    """Map each name that a module imports to where it comes from."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {
                (a.asname or a.name.split(".")[0]): (a.name if a.asname else a.name.split(".")[0]) for a in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {(a.asname or a.name): f"{node.module}.{a.name}" for a in node.names}
    return found


def reached(tree: ast.Module) -> Iterator[str]:
    """Give everything that a module reaches for in the world, under its true name."""
    names = imported(tree)
    annotations = {id(part) for node in ast.walk(tree) for hint in hints(node) for part in ast.walk(hint)}
    for node in ast.walk(tree):
        name = dotted(node)
        if not name or id(node) in annotations:
            continue
        first, _, rest = name.partition(".")
        true = ".".join(filter(None, (names.get(first, first if first not in STANDARD else ""), rest)))
        if _WORLDLY.fullmatch(true):
            yield true


def hints(node: ast.AST) -> Iterator[ast.AST]:
    """Give the type hints of a node: to name a type is not to use it."""
    for name in ("annotation", "returns"):
        hint = getattr(node, name, None)
        if isinstance(hint, ast.AST):
            yield hint


STANDARD = {"time", "random", "secrets", "uuid", "os", "socket", "datetime", "date", "asyncio"}
"""Where a module does not import one of these, a variable of that name is something else (`random: Random`)."""


def test_every_module_has_a_test_file_in_the_same_place() -> None:
    missing = []
    for module in MODULES:
        if module.name == "__init__.py":
            continue
        place = ROOT / TESTED_ELSEWHERE.get(str(module), f"tests/{module.with_name(f'test_{module.name}')}")
        if not place.exists() or ("def test_" not in place.read_text() and "Suite)" not in place.read_text()):
            missing.append(str(module))
    assert not missing
    assert all((SOURCE / name).exists() for name in TESTED_ELSEWHERE), "the list names a module that is gone"


def test_the_rooms_reach_for_no_time_chance_environment_or_socket_of_their_own() -> None:
    found: dict[str, set[str]] = {}
    for module in MODULES:
        if module.parts[0] in ROOMS and (reaching := set(reached(tree_of(module)))):
            found[str(module)] = reaching
    assert {
        name: what - REACHES.get(name, set()) for name, what in found.items() if what - REACHES.get(name, set())
    } == {}
    assert set(REACHES) <= set(found), "the list allows what nobody does"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import time\ntime.time()", "time.time"),
        ("from time import monotonic_ns as t\nt()", "time.monotonic_ns"),
        ("import random\nx = random.random()", "random.random"),
        ("import os\nos.environ['A']", "os.environ"),
        ("from os import environ\nenviron['A']", "os.environ"),
        ("import datetime\ndatetime.datetime.now()", "datetime.datetime.now"),
        ("import socket\nsocket.create_connection(())", "socket.create_connection"),
        ("def f(loop): loop.create_connection()", "loop.create_connection"),
    ],
)
def test_the_check_above_sees_through_imports(code: str, what: str) -> None:
    assert set(reached(ast.parse(code))) == {what}
    assert not set(reached(ast.parse("def f(random, clock): return random.random() + clock.now_ns()")))


def test_no_sql_is_built_from_values() -> None:
    """The class of LiteLLM's CVE-2026-42208: what goes to `execute` is text of ours, or a name for it."""
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            if not (
                isinstance(node, ast.Call) and dotted_end(node.func) in ("execute", "executemany", "executescript")
            ):
                continue
            for part in ast.walk(node.args[0]) if node.args else ():
                where = f"{module}:{node.lineno}"
                assert not isinstance(part, (ast.JoinedStr, ast.BinOp)), where
                assert not (isinstance(part, ast.Call) and dotted_end(part.func) in ("format", "join", "replace")), (
                    where
                )


def dotted_end(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "imp"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "torch.load",
}


def test_nothing_is_unpickled_evaluated_or_run_through_a_shell() -> None:
    for module in MODULES:
        tree = tree_of(module)
        assert not {name.split(".")[0] for name in imported(tree).values()} & FORBIDDEN_MODULES, module
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                assert dotted(node.func) not in FORBIDDEN_CALLS, f"{module}:{node.lineno}"
                assert not [k for k in node.keywords if k.arg == "shell"], f"{module}:{node.lineno}"


def test_nothing_is_decided_from_the_host_header_or_the_address_of_a_peer() -> None:
    """The class of CVE-2026-48710: only the path that was routed counts."""
    read_at_all = {"method", "path", "headers"}
    of_a_request = read_at_all | {"client", "query"}
    headers = {b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded", b"x-real-ip"}
    for module in MODULES:
        if module.parts[0] != "server":
            continue
        for node in ast.walk(tree_of(module)):
            where = f"{module}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute) and dotted(node.value) == "exchange" and node.attr in of_a_request:
                assert node.attr in read_at_all or isinstance(node.ctx, ast.Store), where
            if isinstance(node, ast.Constant) and str(module) != "server/reader.py":  # counts them: RFC 9112, 3.2
                assert node.value not in headers, where


def test_every_module_says_what_it_is_for_in_its_first_words() -> None:
    for module in MODULES:
        words = ast.get_docstring(tree_of(module))
        assert words, module
        assert words.split("\n")[0][-1] in ".:!?,;" or "\n" in words, module


def test_no_test_asserts_nothing() -> None:
    for path in sorted(path for path in (ROOT / "tests").rglob("*.py") if "build" not in path.parts):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert):
                assert not (isinstance(node.test, ast.Constant) and node.test.value), f"{path.name}:{node.lineno}"


def written() -> Iterator[Path]:
    """Give every text of ours: source, tests, docs, and what builds them."""
    for folder in ("src", "tests", "docs", "bench", ".ci", "requirements"):
        for path in sorted((ROOT / folder).rglob("*")):
            ours = "build" not in path.parts and "__pycache__" not in path.parts and path != Path(__file__)
            if path.is_file() and ours and path.suffix in {"", ".py", ".md", ".toml", ".txt", ".json", ".c", ".html"}:
                yield path
    yield from (path for path in sorted(ROOT.glob("*")) if path.is_file() and path.suffix in {"", ".md", ".toml"})


def test_no_file_names_a_machine_of_ours_or_a_registry() -> None:
    """Neither a path that exists on one machine alone, nor the host of a package registry: pip knows where that is."""
    registries = "|".join(
        ("index-" + "url", "pythonho" + "sted", "py" + r"pi\.org", "registry" + r"\.npm")
    )  # in halves: this file too
    paths = r"(?<![\w.~-])/(work|home|root|Users)/\w|[A-Z]:\\\\Users"
    pattern = re.compile(f"{registries}|{paths}")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in written()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found
