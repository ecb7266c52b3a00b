"""The file of settings, and what is here that it does not use.

Not here: the targets it names (`targets.py`) and who can read it (`modes.py`).
"""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from trivet.cli import offers
from trivet.cli.doctor.check import Check, bad, ok, warn
from trivet.cli.doctor.credentials import address
from trivet.config import Settings, load
from trivet.errors import ConfigError
from trivet.upstream import discover


def python_check() -> Check:
    """Look at the Python that runs this."""
    words = ".".join(map(str, sys.version_info[:3]))
    return ok("python", words) if sys.version_info >= (3, 11) else bad("python", words, "Use 3.11 or later.")


async def settings_checks(config: Path | None, env: Mapping[str, str]) -> tuple[list[Check], Settings | None]:
    """Read the file as `trivet serve` would, one line for each mistake; without targets, take what serve takes."""
    try:
        settings = load(config, env)
    except ConfigError as error:
        place = config or Path(env.get("TRIVET_CONFIG") or "trivet.toml")
        return list(_mistakes(error, place)), None
    if settings.targets:
        words = f"{settings.source}: targets {len(settings.targets)}, policies {len(settings.policies)}"
        return [ok("config", words)], settings
    found = discover.settings_from(discover.keys(env) + await discover.engines())
    settings = msgspec.structs.replace(settings, targets=found.targets, policies=found.policies, aliases=found.aliases)
    words = f"no targets in a file; using what is here: {', '.join(found.targets)}"
    return [ok("config", words)], settings


def _mistakes(error: ConfigError, path: Path) -> Iterator[Check]:
    for line in str(error).splitlines():
        place = re.match(r"(?P<file>.+?):(?P<line>\d+): ", line)
        if place:
            fix = f"Correct line {place['line']} of {place['file']}: until then nothing starts."
        else:
            fix = f"Name another with --config; or make it: trivet init --path {shlex.quote(str(path))}"
        yield bad("config", line, fix)


async def found_checks(settings: Settings | None, env: Mapping[str, str]) -> list[Check]:
    """Offer engines that answer and keys that are set, where no target uses them yet, as TOML to paste."""
    if settings is None:
        return []
    used = {address(target).rstrip("/") for target in settings.targets.values()}
    found = discover.keys(env) + await discover.engines()
    checks = []
    for one in found:
        if one.base_url not in used:
            what = f"{one.kind} at {one.base_url}" if one.models else f"{one.key.removeprefix('env:')} is set"
            checks.append(warn("found", f"{what}, and no target uses it. Add to trivet.toml:", toml(one)))
    return checks


def toml(found: discover.Found) -> str:
    """Write what was found as targets for trivet.toml."""
    return "\n".join(
        line for name, t in discover.settings_from([found]).targets.items() for line in offers.lines(name, t)
    )
