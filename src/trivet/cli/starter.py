"""The text of a first `trivet.toml`: what was found as settings, and every other setting as a comment.

Not here: what is found (`offers.py`) and where the text goes (`init.py`).
Invariants: the text can be read back; with the `#` taken from any of its settings it still can; no key is in it; what
an engine calls itself cannot end a comment or a string.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from trivet.cli.offers import Offers, Unused, lines, quoted
from trivet.cli.text import clean
from trivet.config import PolicySettings, Settings, TargetSettings
from trivet.version import VERSION

_HEAD: Final = f"""\
# Written by `trivet init` (Trivet {VERSION}) from what it found.
#
# "# " begins an explanation. "#" without a space begins a setting that is not in force: take the # away to use it.
# No key belongs in this file, only where it is: "env:NAME" or "file:PATH".
# After a change: `trivet doctor` checks the file; `trivet serve` takes it while it runs.

# ---- Targets: one model at one place each. ----
# A client that asks for a target by its name gets it: unchanged and uncached.
"""

_REMOTE: Final = """\
#headers = { "x-team" = "search" }  # sent with each request; never a key
#http = "1.1"  # "2": many requests on one connection; needs: pip install 'trivet[http2]'
#proxy = "environment"  # as HTTPS_PROXY and NO_PROXY say; or "http://proxy.example:3128", or "env:NAME" with a password
#warm = 1  # connections opened at the start and kept open"""
_TLS: Final = '#tls = { ca = "corp.pem" }  # trusted instead of the system\'s certificates; cert and key: who we are'
_EMBEDDED: Final = (
    "#engine = { context = 4096, slots = 2, threads = 0 }  # tokens for a request; requests at a time; 0: every core"
)
_TIMEOUTS: Final = '#timeouts = { connect = "5s", first_byte = "2m", idle = "1m" }'

_LACKS: Final = (
    '#lacks = ["images"]  # tools, images, audio, schema: requests that need one of these go to others of a policy'
)

_POLICIES: Final = """\
# ---- Policies: a name that clients ask for, and who may answer. ----
"""

_CACHE: Final = """\
mode = "exact"           # the same request again; "verified" also questions that are alike; "off" asks each time
#max_error = 0.01         # of "verified": at most this share of all answers are wrong hits
#threshold = 0.93         # of "static": serves from this cosine on
#judge = "likeness"       # who says that two answers say the same: also "equality", or a target or policy to ask
#auto_off = true          # likeness is left alone where looking costs more than hits save
#ttl = "24h"              # how long an answer may be served
#partition = ["customer"] # customer, feature, agent: labels of the request that keep answers apart
#max_temperature = 1.0    # requests with a higher one are not cached; 0 is strict
#tools = false            # true: answers that call tools are cached too
"""

_REST: Final = """\
# ---- Where the gateway listens. ----
[server]
#host = "127.0.0.1"        # another address only once there is a key: trivet keys create NAME --tenant TENANT
#port = 8088
#workers = 1               # processes on the one port; each uses about a core
#max_body_bytes = 50_000_000
#tls = { cert = "cert.pem", key = "key.pem" }
#timeouts = { head = "30s", idle = "75s", stall = "60s", grace = "10s" }

# ---- The ledger: one entry for each request, never its text. ----
[ledger]
#store = "sqlite"
#durability = "process"    # "power": each answer waits for the disk, and survives a power cut too
#path = "/var/lib/trivet"  # a folder; below TRIVET_HOME if not set

# ---- The cache: one for all policies. ----
[cache]
#kind = "tiers"
#max_entries = 100_000
#max_bytes = 268_435_456

# ---- What turns texts into vectors. ----
[embedder]
#kind = "builtin"          # "minilm" tells more apart, and needs: pip install 'trivet[embed]'
# kind = "target" asks another place, for money: target = "NAME" of one above that answers /v1/embeddings. It is shown
# the questions. With timeout = "2s", after which a look is a miss; max_tokens = 256: what its model reads of a text.
# kind = "onnx": path = "FOLDER" with model.onnx, and vocab.txt or tokenizer.json; pooling = "mean" or "cls".
# kind = "sentence-transformers" or "fastembed": model = "NAME"; needs: pip install 'trivet[fastembed]', or the other.
#threads = 1               # for one batch of texts

# ---- Models that Trivet runs itself. ----
[models]
#path = "/srv/models"      # where their files are kept; below ~/.cache if not set
"""


def text(offers: Offers, settings: Settings) -> str:
    """Write the file."""
    parts = [_HEAD, *_targets(offers, settings), *_unused(offers.unused), _POLICIES]
    parts += [_policy(name, policy, settings) for name, policy in settings.policies.items()] or [_no_policy(settings)]
    return "\n".join([*parts, _aliases(settings), _REST])


def _targets(offers: Offers, settings: Settings) -> Iterator[str]:
    last = next(name for name in reversed(settings.targets) if settings.targets[name].provider != "embedder")
    for name, target in settings.targets.items():
        words = [f"# {_about(target, offers)}", *lines(name, target)]
        if target.region == "local" and target.price is None:
            words.append('#price = { hour = "$0.80" }  # what an hour of this machine costs; unknown without it')
        elif not target.region:
            words.append('#region = "us"  # a word of yours, for `residency`')
            words.append('#price = { input = "$0.15", output = "$0.60" }  # a million tokens; else the list price')
        if name == last:
            embedded = target.provider == "llamacpp" and not target.base_url
            words.append("# Any target like this one can have these as well:")
            words += [_EMBEDDED if embedded else _REMOTE, _TIMEOUTS, _LACKS]
            words += [_TLS] if not embedded and not target.base_url.startswith("http:") else []
        yield "\n".join(words) + "\n"


def _about(target: TargetSettings, offers: Offers) -> str:
    """Say where a target came from."""
    if target.provider == "embedder":
        return "Makes embeddings in this process, and nothing else. Vectors of another model do not mix with its own."
    if target.api_key:
        where = target.api_key.removeprefix("env:")
        if target.model == "*":
            return f'{where}: any model of this provider; ask for "{target.name}/MODEL".'
        return f"{where}: one model by name, for the policy. Take the one that you use."
    for found in offers.engines:
        if found.base_url == target.base_url:
            return f"{found.kind} answers at {found.base_url}."
    return "Trivet runs this model itself. Its price is a guess at a small rented machine: put in your own."


def _unused(unused: Iterable[Unused]) -> Iterator[str]:
    words = [f"# {key.name}: {clean(key.why, most=200)}" for key in unused]
    if words:
        yield "\n".join(["# Found, and not used:", *words]) + "\n"
    for key in unused:
        if key.target is not None:
            yield "\n".join(f"#{line}" for line in lines(key.target.name, key.target)) + "\n"


def _policy(name: str, policy: PolicySettings, settings: Settings) -> str:
    own = name if name.isalnum() else quoted(name)
    regions = sorted({settings.targets[t].region for t in policy.pool} - {""})
    words = [
        f"[policies.{own}]",
        f"pool = {_list(policy.pool)}",
        f"baseline = {quoted(policy.baseline)}  # savings are counted against it: what you would ask without Trivet",
        "# In the order of the pool; the next is asked when one fails before its first word. Or the cheapest that is",
        "# good enough, by what was learned of each (docs/routing.md): hold one leg or two, the other is made small.",
        '#route = "learned"',
        '#router = "router.trivet"  # trivet route train OUTCOMES --out router.trivet',
        '#minimize = "cost"  # or "latency"; or maximize = "quality", and hold cost = "$0.002" a request',
        '#quality = "0.98"  # of the best one\'s; or "0.98 of NAME"',
        "#confidence = 0.9",
        '#ttft = "p95 <= 800ms"',
        '#sticky = "5m"  # how long a conversation may stay where its prompt is cached',
        f'# Or route = "classifier" and classifier = {{ model = {quoted(policy.pool[0])} }}: a small model says first',
        "# whether a request is simple, which takes its time (docs/policies.md).",
    ]
    if len(policy.pool) > 1:
        words.append(
            f'# Or route = "cascade" and cascade = {{ agree = {min(2, len(policy.pool) - 1)} }}: all but the last'
        )
        words.append("# answer first, and that one only where their answers do not settle it (docs/cascades.md).")
    words.append('#labels = { keep = true, max_entries = 100_000, ttl = "90d" }  # keeps prompts, to train routers on')
    if len(policy.pool) > 1:
        other = [t for t in policy.pool if settings.targets[t].region or not regions][-1]  # which `residency` allows
        words.append(
            f'#shadow = {{ share = 0.02, target = {quoted(other)}, budget = "$1/day" }}  # is asked too, to compare'
        )
    words.append(f"#rules = [{{ use = {_list(policy.pool[-1:])}, tools = true }}]  # who is asked first, and when")
    if regions:
        words.append(f"#residency = {_list(regions)}  # regions; targets elsewhere are never called")
    else:  # a policy that nobody may answer is refused
        words.append('# Once its targets have a `region`, residency = ["us"] keeps it from calling any elsewhere.')
    return "\n".join(words) + f"\n\n[policies.{own}.cache]\n{_CACHE}"


def _no_policy(settings: Settings) -> str:
    """Show how a policy is written, where no model is known that it could name."""
    target = msgspec.structs.replace(next(iter(settings.targets.values())), model="MODEL")
    words = [*lines("main", target), "[policies.auto]", 'pool = ["main"]']
    head = (
        "# A policy needs a target that names its model, and none is known at this address. Put yours in for MODEL:\n"
    )
    return head + "".join(f"#{line}\n" for line in words)


def _list(words: Iterable[str]) -> str:
    return f"[{', '.join(map(quoted, words))}]"


def _aliases(settings: Settings) -> str:
    name = next(iter([*settings.policies, *settings.targets]))
    words = ["# ---- Aliases: names that your programs ask for already. ----", "[aliases]"]
    words += [f"{quoted(alias)} = {quoted(target)}" for alias, target in settings.aliases.items()]
    taken = settings.aliases.keys() | settings.targets.keys()
    example = next(a for a in ("gpt-4o", "gpt-4o-mini", "my-model") if a not in taken)
    wild = settings.targets[name].model == "*" if name in settings.targets else False
    words.append(f"#{quoted(example)} = {quoted(f'{name}/{example}' if wild else name)}")
    return "\n".join(words) + "\n"
