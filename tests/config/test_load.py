"""`trivet.toml` to settings: what is taken, and for what is refused, the line and the words."""

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.config import Secret, Settings, embedder_kind, home, load, models_folder, parse, secret
from trivet.config import seconds as in_seconds
from trivet.config.conflicts import conflicts
from trivet.config.misfits import misfits
from trivet.config.places import places
from trivet.errors import ConfigError

WHOLE = """
[targets.small]
provider = "llamacpp"
model    = "qwen2.5-coder-0.5b-instruct"
region   = "local"
price    = { hour = "$0.08", slots = 2 }
engine   = { context = 2048, slots = 2 }

[targets.large]
provider = "openai"
model    = "gpt-4o"
region   = "us"
api_key  = "env:OPENAI_API_KEY"
price    = { input = "$2.50", output = "$10", cached = "$1.25" }
timeouts = { connect = "500ms", first_byte = "90s" }

[targets.openai]
provider = "openai"
api_key  = "env:OPENAI_API_KEY"

[policies.support]
pool      = ["small", "large"]
baseline  = "large"
residency = ["local", "us"]

[policies.support.cache]
mode      = "exact"
ttl       = "24h"
partition = ["customer"]

[aliases]
"gpt-4o-mini" = "small"
"gpt-4o"      = "support"
"gpt-4.1"     = "openai/gpt-4.1"

[server]
port = 9000

[ledger]
durability = "power"
"""

TARGET = '[targets.a]\nprovider = "openai"\nmodel = "m"\n'
POLICY = TARGET + '[policies.p]\npool = ["a"]\n'


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, source="trivet.toml")
    return str(caught.value)


def test_a_whole_file_becomes_one_tree() -> None:
    settings = parse(WHOLE, source="t.toml")
    assert settings.source == "t.toml"
    assert [(name, t.name, t.model) for name, t in settings.targets.items()] == [
        ("small", "small", "qwen2.5-coder-0.5b-instruct"),
        ("large", "large", "gpt-4o"),
        ("openai", "openai", "*"),
    ]
    assert settings.policies["support"].cache.partition == ("customer",)
    assert in_seconds(settings.targets["large"].timeouts.connect) == 0.5
    assert settings.targets["large"].timeouts.idle == "1m"
    assert settings.server.port == 9000
    assert settings.ledger.durability == "power"


@pytest.mark.parametrize(
    ("span", "seconds"), [("250ms", 0.25), ("30s", 30), ("5m", 300), ("24h", 86_400), ("7d", 604_800), ("1.5h", 5400)]
)
def test_a_span_is_a_number_with_a_unit(span: str, seconds: float) -> None:
    assert in_seconds(span) == seconds


REFUSED = {
    TARGET + "http = 2\n": 'trivet.toml:4: targets.a.http: 2 is not "1.1" or "2".',
    TARGET + "proxy = 'proxy:3128'\n": (
        "trivet.toml:4: targets.a.proxy: This is not a proxy. "
        'Write one such as "http://proxy.example:3128", "env:NAME" or "environment".'
    ),
    TARGET + "proxy = 'socks5://proxy:3128'\n": (
        "trivet.toml:4: targets.a.proxy: This is not a proxy. "
        'Write one such as "http://proxy.example:3128", "env:NAME" or "environment".'
    ),
    TARGET + "proxy = 'http://me:secret@proxy:3128'\n": (
        "trivet.toml:4: targets.a.proxy: There is a name or password in it. "
        'Put all of it elsewhere and write "env:NAME" or "file:PATH".'
    ),
    TARGET + "base_url = 'http://10.0.0.5/v1'\ntls = { ca = 'a.pem' }\n": (
        "trivet.toml:5: targets.a.tls: The address is http, which has no certificates. Write https, or remove the line."
    ),
    TARGET + "tls = { key = 'a.key' }\n": (
        "trivet.toml:4: targets.a.tls.key: There is no `cert` that it would be the key of. Write that too."
    ),
    TARGET + "tls = { verify = false }\n": (
        "trivet.toml:4: targets.a.tls.verify: There is no such key. Known: ca, cert, key."
    ),
    TARGET + "warm = 101\n": "trivet.toml:4: targets.a.warm: 101 is not a whole number from 0 to 100.",
    "[targets.a]\nprovider = 'llamacpp'\nmodel = 'm'\nproxy = 'environment'\n": (
        "trivet.toml:4: targets.a.proxy: An embedded engine has none; "
        "with a `base_url` it is a server that runs already."
    ),
    POLICY + '[policies.p.cache]\nmode = "exact"\nttl = "24"\n': (
        'trivet.toml:8: policies.p.cache.ttl: "24" is not a length of time. Write a number with a unit, such as "24h".'
    ),
    "[server]\nhost = '127.0.0.1'\nport = '80'\n": (
        'trivet.toml:3: server.port: "80" is not a whole number from 0 to 65535.'
    ),
    "[server]\nport = 65536\n": "trivet.toml:2: server.port: 65536 is not a whole number from 0 to 65535.",
    "[cache]\nmax_entries = 0\n": "trivet.toml:2: cache.max_entries: 0 is not a whole number of at least 1.",
    "[server]\nprot = 80\n": (
        "trivet.toml:2: server.prot: There is no such key. Did you mean `port`? Known: host, port, workers, "
        "max_body_bytes, tls, timeouts."
    ),
    "serve = 3\n": (
        "trivet.toml:1: serve: There is no such key. Did you mean `server`? "
        "Known: targets, policies, aliases, server, ledger, cache, models, embedder."
    ),
    "server = 3\n": "trivet.toml:1: server: 3 is not a section. Write [server] and its keys below it.",
    "[targets.a]\nmodel = 'm'\n": "trivet.toml:1: targets.a: `provider` is missing.",
    "[ledger]\ndurability = 'pwer'\n": 'trivet.toml:2: ledger.durability: "pwer" is not "process" or "power".',
    POLICY + "[policies.p.cache]\ntools = 1\n": "trivet.toml:7: policies.p.cache.tools: 1 is not true or false.",
    POLICY + "[policies.p.cache]\nmax_temperature = 3\n": (
        "trivet.toml:7: policies.p.cache.max_temperature: 3 is not a number from 0 to 2."
    ),
    TARGET + "[policies.p]\npool = []\n": "trivet.toml:5: policies.p.pool: The list is empty. Write at least one.",
    TARGET + "[policies.p]\npool = 'a'\n": (
        'trivet.toml:5: policies.p.pool: "a" is not a list. Write it in brackets: [...].'
    ),
    TARGET + "[policies.p]\npool = [\n 'a',\n 7,\n]\n": (
        'trivet.toml:7: policies.p.pool.1: 7 is not text. Write it in quotes: "..."'
    ),
    "[targets.'a b']\nprovider = 'openai'\n": (
        'trivet.toml:1: targets."a b": "a b" is not a name. '
        "Write at most 128 letters, digits and . _ : @ -, beginning with a letter or digit."
    ),
    TARGET + "price = { input = 2.5, output = '$10' }\n": (
        "trivet.toml:4: targets.a.price.input: 2.5 is not an amount of dollars. "
        'Write it in quotes with the sign, such as "$0.15".'
    ),
    TARGET + "limits = { rpm = 5 }\n": (
        "trivet.toml:4: targets.a.limits: This version of Trivet does not have it yet. Remove the line."
    ),
    POLICY + "quality = '0.98 of large'\n": (
        'trivet.toml:6: policies.p.quality: Only route = "learned" or "clusters" weighs that. '
        "Write it, or remove the line."
    ),
    POLICY + "[policies.p.tokens]\nmax_output = 500\n": (
        "trivet.toml:6: policies.p.tokens: This version of Trivet does not have it yet. Remove the line."
    ),
    POLICY + "[policies.p.cache]\nmax_error = 0\n": (
        "trivet.toml:7: policies.p.cache.max_error: 0 is not a number above 0, at most 0.5."
    ),
    POLICY + "[policies.p.cache]\njudge = 'likenes'\n": (
        'trivet.toml:7: policies.p.cache.judge: There is no target or policy "likenes". Known: a, p. '
        'Or write "equality" or "likeness".'
    ),
    TARGET + "[targets.w]\nprovider = 'openai'\n[policies.p]\npool = ['a']\n[policies.p.cache]\njudge = 'w'\n": (
        'trivet.toml:9: policies.p.cache.judge: "w" takes any model, and what is asked is one model. '
        "Add a target that names it."
    ),
    TARGET + "[targets.e]\nprovider = 'embedder'\n[policies.p]\npool = ['a']\n[policies.p.cache]\njudge = 'e'\n": (
        'trivet.toml:9: policies.p.cache.judge: "e" makes embeddings and answers nothing. Write a target that does.'
    ),
    TARGET
    + "region = 'eu'\n[targets.b]\nprovider = 'openai'\nmodel = 'b'\nregion = 'us'\n"
    + "[policies.q]\npool = ['a', 'b']\n[policies.p]\npool = ['a']\nresidency = ['eu']\n"
    + "[policies.p.cache]\njudge = 'q'\n": (
        'trivet.toml:15: policies.p.cache.judge: It would show answers to "b", which is in "us", and `residency` '
        "leaves that out."
    ),
    POLICY + "[policies.p.cache]\nmode = 'likely'\n": (
        'trivet.toml:7: policies.p.cache.mode: "likely" is not "off", "exact", "static", "vcache", "verified" or '
        '"shadow".'
    ),
    POLICY + "route = 'best_of_n'\n": (
        'trivet.toml:6: policies.p.route: "best_of_n": This version of Trivet does not have it yet. '
        'Remove the line, or write "cascade", "classifier", "clusters", "fixed", "learned" or "rules".'
    ),
    POLICY + "route = 'fxed'\n": (
        'trivet.toml:6: policies.p.route: "fxed": no such router is installed. '
        'Remove the line, or write "cascade", "classifier", "clusters", "fixed", "learned" or "rules".'
    ),
    "[budgets.x]\nlimit = '$5/day'\n": (
        "trivet.toml:1: budgets: This version of Trivet does not have it yet. Remove the section."
    ),
    "[keys]\n": "trivet.toml:1: keys: This version of Trivet does not have it yet. Remove the section.",
    TARGET + "name = 'b'\n": (
        "trivet.toml:4: targets.a.name: There is no such key. "
        "Known: provider, model, base_url, api_key, region, headers, price, timeouts, "
        "http, proxy, tls, warm, lacks, engine."
    ),
    TARGET + "[policies.p]\npool = ['b']\n": ('trivet.toml:5: policies.p.pool.0: There is no target "b". Known: a.'),
    POLICY + "baseline = 'aa'\n": ('trivet.toml:6: policies.p.baseline: There is no target "aa". Did you mean "a"?'),
    "[targets.a]\nprovider = 'openai'\n[policies.p]\npool = ['a']\n": (
        'trivet.toml:4: policies.p.pool.0: "a" takes any model, and a policy needs to know which. '
        "Add a target that names one."
    ),
    TARGET + "[policies.p]\npool = ['a', 'a']\n": 'trivet.toml:5: policies.p.pool: "a" is in it more than once.',
    POLICY + "residency = ['eu']\n": (
        "trivet.toml:6: policies.p.residency: No target of the pool is in one of these regions, so none can answer. "
        'Have: "".'
    ),
    TARGET + "[policies.a]\npool = ['a']\n": (
        "trivet.toml:4: policies.a: A target has this name too. Clients could not tell them apart: rename one."
    ),
    TARGET + "[aliases]\na = 'a'\n": (
        "trivet.toml:5: aliases.a: A target or policy has this name already. Rename one, or remove the alias."
    ),
    TARGET + "[aliases]\n'gpt-4.1' = 'b'\n": (
        'trivet.toml:5: aliases."gpt-4.1": There is no target or policy "b". Known: a.'
    ),
    TARGET + "[aliases]\nx = 'a'\ny = 'x'\n": (
        'trivet.toml:6: aliases.y: "x" is an alias itself. Write the target or policy that it stands for.'
    ),
    "[targets.w]\nprovider = 'openai'\n[aliases]\nx = 'w'\n": (
        'trivet.toml:4: aliases.x: "w" takes any model. Write which: "w/MODEL".'
    ),
    TARGET + "price = { input = '$1', output = '$2', hour = '$3' }\n": (
        "trivet.toml:4: targets.a.price: Write either `input` and `output`, or `hour`, not both."
    ),
    TARGET + "price = { input = '$1' }\n": (
        'trivet.toml:4: targets.a.price: Write { input = "$0.15", output = "$0.60" }, dollars per million tokens, '
        'or { hour = "$0.80" }.'
    ),
    TARGET + "price = { input = '$1', output = '$2', slots = 4 }\n": (
        "trivet.toml:4: targets.a.price.slots: Only a price by the hour is divided by slots. Remove it."
    ),
    TARGET + "base_url = 'api.openai.com'\n": (
        'trivet.toml:4: targets.a.base_url: This is not a web address. Write one such as "https://api.openai.com/v1".'
    ),
    TARGET + "headers = { host = 'x' }\n": (
        "trivet.toml:4: targets.a.headers.host: This header belongs to the connection; Trivet writes it itself. "
        "Remove it."
    ),
    "[targets.a]\nprovider = 'llamacpp'\n": (
        "trivet.toml:1: targets.a: An embedded engine has one model. "
        'Write which, such as model = "qwen2.5-coder-0.5b-instruct".'
    ),
    "[targets.a]\nprovider = 'llamacpp'\nmodel = 'm'\napi_key = 'env:K'\n": (
        "trivet.toml:4: targets.a.api_key: An embedded engine has none; "
        "with a `base_url` it is a server that runs already."
    ),
    TARGET + "engine = { slots = 4 }\n": (
        'trivet.toml:4: targets.a.engine: Only an embedded engine (provider = "llamacpp") has these. Remove the line.'
    ),
    "[targets.e]\nprovider = 'embedder'\nmodel = 'bert'\n": (
        'trivet.toml:3: targets.e.model: "bert" is no embedder that is installed. Write "builtin", "fastembed", '
        '"minilm", "onnx" or "sentence-transformers".'
    ),
    "[targets.e]\nprovider = 'embedder'\nbase_url = 'http://127.0.0.1:9/v1'\n": (
        "trivet.toml:3: targets.e.base_url: An embedder runs in this process and has none. Remove the line."
    ),
    "[targets.e]\nprovider = 'embedder'\nengine = { slots = 4 }\n": (
        'trivet.toml:3: targets.e.engine: Only an embedded engine (provider = "llamacpp") has these. Remove the line.'
    ),
    "[embedder]\nkind = 'bert'\n": (
        'trivet.toml:2: embedder.kind: "bert" is no embedder that is installed. Write "builtin", "fastembed", '
        '"minilm", "onnx", "sentence-transformers" or "target".'
    ),
    "[embedder]\nthreads = 0\n": "trivet.toml:2: embedder.threads: 0 is not a whole number from 1 to 1024.",
    "[ledger]\nstore = 'postgres'\n": ('trivet.toml:2: ledger.store: "postgres" is not installed. Write "sqlite".'),
    "[a\n": "trivet.toml:1: Expected ']' at the end of a table declaration. This is not TOML.",
    "a = 1\n\na = 2\n": "trivet.toml:3: Cannot overwrite a value. This is not TOML.",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_wrong_is_refused_with_line_and_words(text: str) -> None:
    assert refused(text) == REFUSED[text]


def test_a_provider_that_is_not_installed_is_refused_with_the_known_ones() -> None:
    words = refused("[targets.a]\nprovider = 'opnai'\n")
    assert words.startswith('trivet.toml:2: targets.a.provider: "opnai" is not installed. Known: ')
    assert '"llamacpp"' in words
    assert '"openai"' in words


def test_everything_that_is_wrong_is_told_at_once() -> None:
    lines = refused("[server]\nport = 'x'\nhsot = 'y'\n[cache]\nmax_entries = 0\n").splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["trivet.toml:2", "server.port"],
        ["trivet.toml:3", "server.hsot"],
        ["trivet.toml:5", "cache.max_entries"],
    ]


KEY = "sk-proj-Zx81mQd0v7Yt2Lk9"  # made up


@pytest.mark.parametrize(
    "text",
    [
        TARGET + f"api_key = '{KEY}'\n",
        TARGET + f"api_key = ['{KEY}']\n",
        TARGET + f"base_url = 'https://me:{KEY}@host/v1'\n",
        TARGET + f"base_url = '{KEY}'\n",
        TARGET + f"headers = {{ Authorization = 'Bearer {KEY}' }}\n",
        TARGET + f"headers = {{ api-key = '{KEY}' }}\n",
        TARGET + f"headers = {{ x = ['{KEY}'] }}\n",
        TARGET + f"[policies.p]\npool = ['{KEY}']\n",
        f"[targets.a]\nprovider = '{KEY}'\n",
        f"[server]\nport = '{KEY}'\n",
        f"[aliases]\nx = '{KEY}'\n",
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(text: str) -> None:
    words = refused(text)
    assert KEY not in words
    assert KEY[8:] not in words


@pytest.mark.parametrize("place", ["env:OPENAI_API_KEY", "file:/run/secrets/openai"])
def test_the_place_of_a_key_is_taken(place: str) -> None:
    assert parse(TARGET + f"api_key = '{place}'\n", source="t").targets["a"].api_key == place


def test_a_residency_that_leaves_some_of_the_pool_is_taken() -> None:
    text = TARGET + "region = 'eu'\n[targets.b]\nprovider = 'openai'\nmodel = 'n'\nregion = 'us'\n"
    settings = parse(text + "[policies.p]\npool = ['a', 'b']\nresidency = ['eu']\n", source="t")
    assert settings.policies["p"].residency == ("eu",)


# Which file is read.


def test_an_explicit_path_comes_before_the_environment_and_that_before_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("given.toml", "env.toml", "trivet.toml"), start=1):
        (tmp_path / name).write_text(f"[server]\nport = {number}\n")
    env = {"TRIVET_CONFIG": "env.toml"}
    assert load(Path("given.toml"), env).server.port == 1
    assert load(None, env).server.port == 2
    assert load(None, {}).server.port == 3
    assert load(None, {}).source == "trivet.toml"


def test_with_no_file_the_settings_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}) == Settings()


def test_a_file_that_was_named_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no file .*gone\.toml"):
        load(None, {"TRIVET_CONFIG": str(tmp_path / "gone.toml")})


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        load(tmp_path / "latin.toml", {})


def test_state_lives_at_trivet_home_then_xdg_then_below_home() -> None:
    assert home({"TRIVET_HOME": "/a", "XDG_DATA_HOME": "/b"}) == Path("/a")
    assert home({"XDG_DATA_HOME": "/b"}) == Path("/b/trivet")
    assert home({}) == Path.home() / ".local/share/trivet"


def test_models_live_at_trivet_models_then_the_setting_then_the_cache() -> None:
    set_ = parse("[models]\npath = '/m'\n", source="t")
    assert models_folder(set_, {"TRIVET_MODELS": "/a"}) == Path("/a")
    assert models_folder(set_, {}) == Path("/m")
    assert models_folder(Settings(), {"XDG_CACHE_HOME": "/c"}) == Path("/c/trivet/models")
    assert models_folder(Settings(), {}) == Path.home() / ".cache/trivet/models"


# Secrets.


def test_a_secret_is_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    assert secret("", {}) is None
    assert secret("env:K", {"K": KEY}) == Secret(KEY)
    assert secret(f"file:{tmp_path / 'key'}", {}) == Secret(KEY)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("env:GONE", "The environment variable GONE is not set, and a key is expected in it. Run: export GONE=..."),
        ("env:EMPTY", "The environment variable EMPTY is empty, and a key is expected in it."),
        ("env:TWO", "The environment variable TWO holds more than a key: one line of ASCII is expected."),
        ("file:/nowhere/key", "There is no file /nowhere/key, and a key is expected in it."),
        ("file:/", "The file / cannot be read (Is a directory), and a key is expected in it."),
    ],
)
def test_a_secret_that_is_not_there_says_where_it_is_expected(where: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        secret(where, {"EMPTY": " ", "TWO": f"{KEY}\n{KEY}"})
    assert str(caught.value) == words


def test_a_literal_key_is_not_a_place_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        secret(KEY, {})
    assert KEY not in str(caught.value)


def test_a_secret_is_masked_however_it_is_written() -> None:
    key = Secret(KEY)
    ways = [str(key), repr(key), f"{key}", f"{key!r}", f"{key:>40}", "%s" % key, repr([key]), repr({"k": key})]  # noqa: UP031
    assert all("sk-...2Lk9" in way and KEY not in way for way in ways)
    assert key.reveal() == KEY


@given(st.text(max_size=19))
def test_a_short_secret_shows_nothing_of_itself(value: str) -> None:
    assert str(Secret(value)) == "***"


def test_a_secret_cannot_be_stored() -> None:
    key = Secret(KEY)
    for store in (json.dumps, msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, copy.copy, hash, vars):
        with pytest.raises(TypeError):
            store(key)
    with pytest.raises(TypeError, match="never written"):
        key.__reduce_ex__(4)  # what pickling calls


def test_secrets_are_equal_by_value() -> None:
    assert Secret("é" + KEY) == Secret("é" + KEY)
    assert Secret(KEY) != Secret(KEY + "x")
    assert Secret(KEY) != KEY


# Whatever a file says.

_words = st.sampled_from(
    [
        "targets",
        "policies",
        "aliases",
        "server",
        "ledger",
        "cache",
        "models",
        "pool",
        "provider",
        "model",
        "price",
        "input",
        "hour",
        "headers",
        "timeouts",
        "engine",
        "mode",
        "ttl",
        "partition",
        "port",
        "store",
        "kind",
        "path",
        "source",
        "name",
        "budgets",
        "limits",
        "quality",
        "exact",
        "fixed",
        "openai",
        "llamacpp",
        "a",
        "b",
        "*",
        "$1",
        "24h",
    ]
)
_anything: st.SearchStrategy[Any] = st.recursive(
    st.one_of(_words, st.integers(), st.floats(), st.booleans(), st.text(max_size=5), st.datetimes()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_words, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(_words, _anything, max_size=4))
def test_what_no_check_refuses_is_a_tree(raw: dict[str, Any]) -> None:
    found = list(misfits(raw, Settings, ()))
    assert all(at and words.endswith((".", '"')) for at, words in found)
    if not found:
        list(conflicts(msgspec.convert(raw, Settings)))


# Where a key stands in the file.

_keys = st.from_regex(r"[a-z][a-z0-9_-]{0,6}", fullmatch=True)
_strange = st.sampled_from(["[a]", "x = 1", "# no", "a]b", "{", "}", ",", "=", "\\n", "''"])
_scalars: st.SearchStrategy[str] = st.one_of(
    st.integers().map(str),
    st.sampled_from(["true", "1.5", "1979-05-27T07:32:00Z", "0xff", "1e5"]),
    _strange.map(lambda s: f'"{s}"'),
    _strange.filter(lambda s: "'" not in s).map(lambda s: f"'{s}'"),
    _strange.map(lambda s: f'"""\n{s}\n\n"q" {s}"""'),
    st.just(r'"a\"]\\"'),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ",\n # ]\n".join(items) + "]"),
        st.dictionaries(_keys, inner, max_size=3).map(
            lambda d: "{" + ", ".join(f"{k} = {v}" for k, v in d.items()) + "}"
        ),
    ),
    max_leaves=5,
)


@given(st.dictionaries(_keys, st.dictionaries(_keys, _values, min_size=1, max_size=4), max_size=4), st.booleans())
@pytest.mark.slow
def test_each_key_is_found_in_its_line(sections: dict[str, dict[str, str]], dotted: bool) -> None:  # noqa: FBT001
    lines: list[str] = []
    expected: dict[tuple[Any, ...], int] = {}

    def add(text: str) -> int:
        lines.extend(text.split("\n"))
        return len(lines) - text.count("\n")

    for name, keys in sections.items():
        if not dotted:
            add(f"  [ {name} ] # [x]")
        for key, value in keys.items():
            expected[name, key] = add(f"{name}.'{key}' = {value}" if dotted else f'"{key}"= {value}  # , "')
    lines_of = places("\n".join(lines) + "\n")
    assert {path: lines_of.get(path) for path in expected} == expected


@pytest.mark.parametrize(("section", "kind"), [("", "minilm"), ("[embedder]\nkind = 'builtin'\n", "builtin")])
def test_a_target_that_names_no_embedder_has_the_one_of_the_file_and_is_no_wildcard(section: str, kind: str) -> None:
    settings = parse(section + "[targets.e]\nprovider = 'embedder'\n[policies.p]\npool = ['e']\n", source="t")
    assert settings.targets["e"].model == kind  # onnxruntime is installed for the tests
    assert embedder_kind(settings.embedder) == kind
