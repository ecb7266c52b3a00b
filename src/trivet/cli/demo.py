"""`trivet demo`: a real gateway, real models in this machine, a few questions, and what they cost.

Not here: anything that a user could not do: the demo is a `trivet serve` of its own and the official `openai` client.
"""

import importlib.util
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from trivet.cli import gateway
from trivet.cli.text import table
from trivet.errors import TrivetError

if TYPE_CHECKING:
    from openai import OpenAI


class DemoError(TrivetError):
    """The demo could not show what it is for."""

    code, whose = "demo_failed", "operator"


@dataclass(frozen=True)
class Question:
    """One thing to ask, and how."""

    model: str
    words: str
    why: str
    expect: str
    """A word that a sensible answer has in it."""
    stream: bool = False


FRANCE, LENGTH, KEYWORD = (
    "What is the capital of France?",
    "In Python, what does len([1, 2, 3]) return?",
    "Which keyword defines a function in Python?",
)
FIRST = Question("auto", FRANCE, "policy `auto` asks the small model first; streamed", "Paris", stream=True)
OTHERS = (
    Question("large", LENGTH, "the large model, by its name", "3"),
    Question("small", LENGTH, "the small model, by its name", "3"),
    Question("auto", KEYWORD, "policy `auto` again", "def"),
    Question("auto", KEYWORD, "the same once more: an exact hit", "def"),
    Question("auto", FRANCE, "the first once more, not streamed this time: an exact hit too", "Paris"),
)
_SYSTEM = "You are a helpful assistant. Answer in one short sentence."
_POLL_S = 0.2


@dataclass(frozen=True)
class Told:
    """What came back for one question."""

    question: Question
    target: str
    hit: bool
    ttft_ms: float
    tokens: int
    cost_usd: str
    saved_usd: str


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the table instead of staying up.")
@click.option("--port", type=click.IntRange(0, 65535), default=8088, show_default=True, help="0 takes a free one.")
def command(*, once: bool, port: int) -> None:
    """See it work: real models in this machine, a few questions, what they cost.

    Fetches two small models once (1.6 GB), starts a gateway over them, asks it through the official `openai` client,
    and shows for each answer who gave it, how long it took and what it cost. No key is needed.
    """
    missing = [name for name in ("openai", "xllamacpp") if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"The demo needs {' and '.join(missing)}. Run: pip install 'trivet[demo]'")
    with _progress("Starting") as show, gateway.started(["--embedded", "--port", _free(port)], tell=show) as url:
        show("")
        _show(_ask_all(url))
        click.echo("The same numbers, kept: trivet usage --entries" + ("" if once else f"   and {url}/metrics"))
        if not once:
            _stay(url)


def _free(port: int) -> str:
    """Give the port, or 0 (any) where something listens on it already."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return "0"
    return str(port)


@contextmanager
def _progress(words: str) -> Iterator[Any]:
    """Show one line that changes, on a terminal; in a log, a line for each change in words (not in numbers)."""
    from rich.console import Console

    console, said = Console(stderr=True), [""]
    status = console.status(words) if console.is_terminal else None
    if status is not None:
        status.start()

    def show(line: str) -> None:
        if status is not None:
            status.update(line) if line else status.stop()
            return
        shape = "".join(c for c in line if not c.isdigit())
        if line and shape != said[0]:
            click.echo(line, err=True)
        said[0] = shape

    try:
        yield show
    finally:
        show("")


def _wait_for(name: str, url: str) -> None:
    """Wait until a target can answer, showing how far it is."""
    with _progress(f"{name}: starting") as show:
        while (state := gateway.ready(url)) is not None and (words := state["targets"][name]) != "ready":
            if words.startswith("failed"):
                raise DemoError(f"Model {name!r} cannot be used: {words}")
            show(f"{name}: {words}")
            time.sleep(_POLL_S)
    if state is None:
        raise DemoError("The gateway has ended by itself.")


def _ask_all(url: str) -> list[Told]:
    import openai

    told: list[Told] = []
    with openai.OpenAI(base_url=f"{url}/v1", api_key="not-needed-on-loopback", max_retries=0) as client:
        for question in (FIRST, *OTHERS):
            _wait_for("large" if told else "small", url)
            click.echo(f"\n> {question.words}   ({question.why})")
            told.append(_streamed(client, question) if question.stream else _whole(client, question))
    return told


def _asked(question: Question) -> dict[str, Any]:
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question.words}]
    return {"model": question.model, "messages": messages, "temperature": 0, "max_tokens": 60}


def _whole(client: "OpenAI", question: Question) -> Told:
    """Ask and print; what happened is in the headers."""
    reply = client.chat.completions.with_raw_response.create(**_asked(question))
    answer, headers = reply.parse(), reply.headers
    _check(question, answer.choices[0].message.content or "", show=True)
    spans = dict(span.split(";dur=") for span in headers["server-timing"].split(", "))
    return Told(
        question=question,
        target=headers["x-trivet-target"],
        hit=headers["x-trivet-cache"].startswith("hit"),
        ttft_ms=float(spans["ttft"]),
        tokens=answer.usage.total_tokens if answer.usage else 0,
        cost_usd=headers["x-trivet-cost-usd"],
        saved_usd=headers.get("x-trivet-saved-usd", ""),
    )


def _streamed(client: "OpenAI", question: Question) -> Told:
    """Ask and print as it comes; what happened is in the last chunk."""
    words, last = "", None
    asked = {**_asked(question), "stream": True, "stream_options": {"include_usage": True}}
    for chunk in client.chat.completions.create(**asked):
        piece = chunk.choices[0].delta.content if chunk.choices else None
        if piece:
            words += piece
            click.echo(piece, nl=False)
        last = chunk
    click.echo()
    _check(question, words, show=False)
    if last is None or last.usage is None:
        raise DemoError("The stream ended without its last chunk.")
    report = (last.model_extra or {})["trivet"]
    return Told(
        question=question,
        target=report["target"],
        hit=report["decision"] == "serve",
        ttft_ms=report["ttft_ms"],
        tokens=last.usage.total_tokens,
        cost_usd=report["cost_usd"],
        saved_usd=report.get("saved_usd", ""),
    )


def _check(question: Question, words: str, *, show: bool) -> None:
    if show:
        click.echo(words.strip())
    if question.expect.lower() not in words.lower():
        raise DemoError(f"That makes no sense: {question.expect!r} was to be expected.")


def _show(told: list[Told]) -> None:
    """Print what happened, and fail if it is not what the demo is for."""
    click.echo("\nWhat happened\n")
    rows = [
        (
            one.question.model,
            one.target,
            "exact hit" if one.hit else "call",
            f"{one.ttft_ms:.1f}",
            str(one.tokens),
            _micros(one.cost_usd),
            _micros(one.saved_usd) if one.saved_usd else "not known yet" if one.question.model == "auto" else "-",
        )
        for one in told
    ]
    head = ("ASKED FOR", "ANSWERED BY", "DECISION", "TTFT MS", "TOKENS", "COST µ$", "SAVED µ$ AGAINST large")
    table(head, rows, numbers=(3, 4, 5, 6))
    click.echo("\nµ$: millionths of a dollar, at $0.08 an hour for a small machine. What `large` would have cost is")
    click.echo("estimated from its own pace, so it is not known before its first answer.")
    if sum(one.hit for one in told) != 2 or {one.target for one in told} != {"small", "large"}:
        raise DemoError("This is not what the demo is for: two exact hits, and answers by both models.")


def _micros(usd: str) -> str:
    return usd if usd == "unknown" else f"{float(usd) * 1e6:.1f}"


def _stay(url: str) -> None:
    click.echo(f"""
It stays up until Ctrl-C. Try it:

  curl -i {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Say hello in French."}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="any")
  client.chat.completions.create(model="auto", messages=[{{"role": "user", "content": "Say hello in French."}}])
""")
    try:
        while gateway.ready(url) is not None:
            time.sleep(2)
    except KeyboardInterrupt:
        click.echo("Stopping.")
        return
    raise DemoError("The gateway has ended by itself.")
