"""What the documents say is so: their examples run, their tables are whole, their names exist."""

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import httpx2
import msgspec
import pytest
from msgspec import Struct

from tests.docs.conftest import FAIL, Gateway
from tests.docs.pages import (
    PAGES,
    ROOT,
    USUAL_URL,
    Block,
    Command,
    anchors,
    blocks,
    commands,
    prose_words,
    table,
)
from trivet import config, errors, seams, types
from trivet.cli.main import cli
from trivet.errors import ConfigError, TrivetError
from trivet.ledger import report
from trivet.upstream.openai import BASE_URLS
from trivet.weights import MODELS

ASK: dict[str, Any] = {"model": "support", "messages": [{"role": "user", "content": "What do the headers say?"}]}
COMPLETIONS = "/v1/chat/completions"


def _id(found: Block | Command) -> str:
    block = found.block if isinstance(found, Command) else found
    return f"{block.page}:{block.line}"


def _page(name: str) -> str:
    return (ROOT / name).read_text()


# Examples.


@pytest.mark.parametrize("block", blocks("toml"), ids=_id)
def test_an_example_of_settings_is_taken_or_refused_as_the_text_says(block: Block) -> None:
    if path := block.marked("from"):
        assert block.text in _page(path)
    elif words := block.marked("refused"):
        with pytest.raises(ConfigError) as refused:
            config.parse(block.text, source="trivet.toml")
        assert words in str(refused.value)
    else:
        config.parse(block.text, source="trivet.toml")


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"), ids=_id)
def test_an_example_in_python_runs(block: Block, gateway: Gateway, tmp_path: Path) -> None:
    if path := block.marked("from"):
        assert block.text in _page(path)
        return
    program = tmp_path / "example.py"
    program.write_text(block.text.replace(USUAL_URL, gateway.url))
    (tmp_path / "trivet.toml").write_text(gateway.config)
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=gateway.env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks("sql"), ids=_id)
def test_an_example_in_sql_is_answered_by_a_real_ledger(block: Block, gateway: Gateway) -> None:
    _ask(gateway)
    with closing(_ledger(gateway)) as db:
        assert db.execute(block.text).fetchall()


@pytest.mark.parametrize("command", commands(), ids=_id)
def test_a_command_is_one_that_exists(command: Command) -> None:
    program, *args = shlex.split(re.split(r" [|>&] ", command.words)[0])
    match program:
        case "trivet":
            _parse(args)
        case "make":
            assert re.search(rf"(?m)^{args[0]}:", _page("Makefile"))
        case "pip":
            extra = re.fullmatch(r"trivet\[(\w+)\]", args[1])
            assert extra
            assert extra[1] in tomllib.loads(_page("pyproject.toml"))["project"]["optional-dependencies"]
        case "curl" | "sqlite3":
            pass  # below
        case _:
            raise AssertionError(f"Nobody checks {program!r}.")


def _parse(args: list[str]) -> None:
    """Read a command line as `trivet` does, without running it."""
    command: click.Command = cli
    context = click.Context(command, help_option_names=["-h", "--help"])  # click remembers the first it was asked with
    while isinstance(command, click.Group) and not args[0].startswith("-"):
        name, found, args = command.resolve_command(context, args)
        assert found is not None, name
        command = found
    command.make_context(command.name, args, help_option_names=["-h", "--help"])


@pytest.mark.parametrize("command", [c for c in commands() if c.words.startswith("curl ")], ids=_id)
def test_a_call_with_curl_is_answered_as_shown(command: Command, gateway: Gateway, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    options = ["--silent", "--output", str(tmp_path / "body"), "--write-out", "%{http_code}"]
    words = [*shlex.split(command.words.replace(USUAL_URL, gateway.url)), *options]
    done = subprocess.run(words, env=gateway.env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == (command.block.marked("status") or "200")
    if command.shown:
        assert json.loads((tmp_path / "body").read_text()) == json.loads(command.shown)


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if c.words.startswith(("trivet usage", "trivet keys list"))])
def test_a_command_that_only_looks_works_on_a_running_ledger(
    command: Command, gateway: Gateway, tmp_path: Path
) -> None:
    _ask(gateway)
    done = subprocess.run(
        shlex.split(command.words), cwd=tmp_path, env=gateway.env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_backup_is_whole(gateway: Gateway, tmp_path: Path) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("sqlite3 is not installed")
    _ask(gateway)
    (backup,) = [c.words for c in commands() if c.words.startswith("sqlite3 ")]
    subprocess.run(["bash", "-c", backup], cwd=tmp_path, env=gateway.env, check=True, timeout=60)
    with closing(sqlite3.connect(tmp_path / "ledger-copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM entries").fetchone()[0] > 0


def test_a_public_address_without_keys_is_refused_in_the_words_shown(clean_env: dict[str, str], tmp_path: Path) -> None:
    (command,) = [c for c in commands() if c.words == "trivet serve --host 0.0.0.0"]
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command.words)],
        cwd=tmp_path,
        env=clean_env | {"TRIVET_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (2, command.shown)


def test_an_error_of_settings_is_shown_as_it_is() -> None:
    (refused,) = [b for b in blocks("toml") if b.page == "docs/quickstart.md" and b.marked("refused")]
    with pytest.raises(ConfigError) as error:
        config.parse(refused.text, source="trivet.toml")
    assert f"trivet: {error.value}\n" in [b.text for b in blocks("text")]


def _ask(gateway: Gateway, **more: Any) -> httpx2.Response:
    return httpx2.post(gateway.url + COMPLETIONS, json=ASK | more.pop("body", {}), **more)


def _ledger(gateway: Gateway) -> sqlite3.Connection:
    """Open the ledger once an entry is in it; the gateway writes in groups."""
    path = Path(gateway.env["TRIVET_HOME"]) / "ledger"
    report.entries(path, since_ns=0, until_ns=2**62, limit=1, tell=print)
    db = sqlite3.connect(path / "ledger.db")
    for _ in range(200):
        if db.execute("SELECT count(*) FROM entries").fetchone()[0]:
            break
        time.sleep(0.05)
    return db


# Settings.

SECTIONS: tuple[tuple[str, type[Struct]], ...] = (
    ("## `[targets.NAME]`", config.TargetSettings),
    ("### `price`", config.PriceSettings),
    ("### `timeouts`", config.TimeoutSettings),
    ("### `tls`", config.TargetTlsSettings),
    ("### `engine`", config.EngineSettings),
    ("## `[policies.NAME]`", config.PolicySettings),
    ("## `[policies.NAME.cache]`", config.CacheSection),
    ("## `[policies.NAME.cascade]`", config.CascadeSection),
    ("## `[policies.NAME.classifier]`", config.ClassifierSection),
    ("## `[policies.NAME.labels]`", config.LabelsSection),
    ("## `[policies.NAME.shadow]`", config.ShadowSection),
    ("## `[server]`", config.ServerSettings),
    ("### `server.tls`", config.TlsSettings),
    ("### `server.timeouts`", config.ClientTimeouts),
    ("### `rules`", config.RuleSection),
    ("## `[ledger]`", config.LedgerSettings),
    ("## `[cache]`", config.CacheSettings),
    ("## `[embedder]`", config.EmbedderSettings),
    ("## `[models]`", config.ModelSettings),
)
CONFIGURATION = "docs/configuration.md"


def test_every_section_of_the_file_is_described() -> None:
    described = {section for _, section in SECTIONS}
    assert set(_sections(config.Settings)) - {config.Settings} == described
    assert "\n## `[aliases]`\n" in _page(CONFIGURATION)


def _sections(section: type[Struct]) -> Iterator[type[Struct]]:
    yield section
    for hint in get_type_hints(section).values():
        for inner in (hint, *get_args(hint)):
            if isinstance(inner, type) and issubclass(inner, Struct):
                yield from _sections(inner)


@pytest.mark.parametrize(("heading", "section"), SECTIONS, ids=lambda value: str(value).strip("# `"))
def test_every_key_of_a_section_is_described_with_its_default(heading: str, section: type[Struct]) -> None:
    described = {row[0].strip("`"): row[2] for row in table(CONFIGURATION, heading)}
    inside = {"name"} if section is config.TargetSettings else set()
    expected = {f.name: _default(f) for f in msgspec.structs.fields(section) if f.name not in inside}
    assert described == expected


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if default is None:
        return "none"
    plain = {} if isinstance(default, Struct) else default
    return f"`{json.dumps(plain)}`"


@pytest.mark.parametrize(("heading", "section"), SECTIONS, ids=lambda value: str(value).strip("# `"))
def test_the_example_of_a_key_is_one_that_it_takes(heading: str, section: type[Struct]) -> None:
    hints = get_type_hints(section, include_extras=True)
    for row in table(CONFIGURATION, heading):
        key, example = row[0].strip("`"), row[-1].strip("`")
        msgspec.convert(tomllib.loads(f"it = {example}")["it"], hints[key])


def test_every_provider_is_described_with_its_address() -> None:
    described = {row[0].strip("`"): row[2].strip("`") for row in table(CONFIGURATION, "### Providers")}
    assert set(described) == set(seams.names("trivet.provider"))
    assert {name: described[name] for name in BASE_URLS} == BASE_URLS


def test_every_embedded_model_is_described() -> None:
    described = {row[0].strip("`"): row[1:] for row in table("docs/local-models.md", "## Which models")}
    expected = {m.name: [f"{m.size_bytes / 1e6:,.0f} MB", m.quantization, f"{m.context:,}", m.licence] for m in MODELS}
    assert described == expected
    assert all(f"`{m.name}`" in _page(CONFIGURATION) for m in MODELS)


# What is said over HTTP.


def test_headers_that_the_documents_name_exist(gateway: Gateway) -> None:
    named = {name for page in PAGES for name in re.findall(r"x-trivet-[a-z]+(?:-[a-z]+)*", page.read_text())}
    answers = [_ask(gateway), _ask(gateway), _ask(gateway, body={"model": "nope"})]
    given = {name for answer in answers for name in answer.headers if name.startswith("x-trivet-")}
    assert given == {
        name for row in table("docs/http.md", "## Response headers") for name in re.findall(r"x-trivet-[a-z-]+", row[0])
    }
    for control in named - given:
        refusal = _ask(gateway, headers={control: "?"}).json().get("error", {})
        assert "no such control" not in refusal.get("message", ""), control


def test_the_parts_of_server_timing_are_all_explained(gateway: Gateway) -> None:
    parts = re.findall(r"(\w+);dur=", _ask(gateway).headers["server-timing"])
    text = next(p for p in _page("docs/http.md").split("\n\n") if p.startswith("`Server-Timing`"))
    assert re.findall(r"`(\w+)`", text)[: len(parts)] == parts


def test_the_report_of_a_stream_has_the_members_shown(gateway: Gateway) -> None:
    answer = _ask(gateway, body={"stream": True, "messages": [{"role": "user", "content": "And in a stream?"}]})
    *_, last, done = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert done == "[DONE]"
    (shown,) = [json.loads(b.text) for b in blocks("json") if b.page == "docs/http.md"]
    assert json.loads(last)["trivet"].keys() == shown.keys()


def test_every_route_is_listed_with_its_need_of_a_key(gateway: Gateway) -> None:
    routes = httpx2.get(f"{gateway.url}/openapi.json").json()["paths"]
    real = {
        f"`{method.upper()} {path}`": "yes" if operation["security"] else "no"
        for path, methods in routes.items()
        for method, operation in methods.items()
    }
    assert {row[0]: row[2] for row in table("docs/http.md", "# HTTP")} == real


def test_every_error_that_reaches_a_client_is_listed_with_its_status() -> None:
    listed = {
        (status, code)
        for row in table("docs/http.md", "## Errors")
        for status in row[0].split(", ")
        for code in re.findall(r"`(\w+)`", row[1])
    }
    ours = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, TrivetError)]
    internal = {ConfigError, errors.WeightsError, errors.RefusedError}
    missing = {(str(e.status), e.code) for e in ours if e not in internal} - listed
    assert not missing


def test_every_metric_is_described_and_every_described_one_exists(gateway: Gateway) -> None:
    _ask(gateway)
    _ask(gateway, body={"messages": [{"role": "user", "content": FAIL}]})
    text = httpx2.get(f"{gateway.url}/metrics").text
    real = set(re.findall(r"(?m)^# TYPE (\w+) (\w+)$", text))
    assert {(row[0].strip("`"), row[1]) for row in table("docs/operating.md", "## Metrics")} == real
    for name, *_, labels in table("docs/operating.md", "## Metrics"):
        series = re.search(rf"(?m)^{name.strip('`')}(?:_sum)?{{(.*)}}", text)
        assert series, name
        own = re.findall(r"`(\w+)`", labels.partition("(")[0].partition(":")[0])
        assert re.findall(r'(\w+)="', series[1]) == own


# The ledger.


def test_every_field_of_an_entry_is_described() -> None:
    named = set(re.findall(r"`(\w+)`", _page("docs/ledger.md")))
    kept = (
        types.Entry,
        types.Outcome,
        types.Timing,
        types.Attempt,
        types.Usage,
        types.Labels,
        types.Candidate,
        types.NearMiss,
        types.Fault,
        types.Baseline,
    )
    assert {f for struct in kept for f in struct.__struct_fields__} <= named


def test_every_column_and_every_grouping_is_described(gateway: Gateway) -> None:
    _ask(gateway)
    named = set(re.findall(r"`(\w+)`", _page("docs/ledger.md")))
    with closing(_ledger(gateway)) as db:
        columns = {name for _, name, *_ in db.execute("PRAGMA table_info(entries)")}
    assert columns | set(get_args(report.By)) <= named


# The documents among themselves.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    for link in re.findall(r"\]\(([^)]+)\)", prose):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_files_that_the_documents_name_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"`((?:tests|bench|src|docs|requirements)/[\w./-]+)`", page.read_text()):
            assert (ROOT / path).exists() or path == "bench/results/", (page.name, path)


def test_every_dependency_has_its_entry() -> None:
    project = tomllib.loads(_page("pyproject.toml"))
    extras = project["project"]["optional-dependencies"].values()
    wanted = [*project["project"]["dependencies"], *(d for extra in extras for d in extra)]
    names = {re.split(r"[^\w-]", d)[0] for d in wanted} - {"trivet"}
    page = _page("docs/dependencies.md")
    assert names == {heading.split(" (")[0] for heading in re.findall(r"(?m)^### (.*)$", page)}
    rows = [row[0].rsplit(" ", 1)[0] for row in table("docs/dependencies.md", "## For development")]
    dev = {d.split("==")[0] for d in project["dependency-groups"]["dev"]}
    assert dev - names == set(rows)


def test_the_map_of_the_documents_is_whole() -> None:
    page = _page("docs/index.md")
    assert [
        p.name for p in PAGES if p.parent.name == "docs" and p.name != "index.md" and f"({p.name})" not in page
    ] == []


def test_a_reader_of_the_readme_can_type_the_first_command_soon() -> None:
    readme = _page("README.md")
    assert prose_words(readme.split("```console", 1)[0]) <= 60
    assert prose_words(readme.split("\n## What it promises", 1)[0]) <= 450
