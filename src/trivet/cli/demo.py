"""`trivet demo`: a real gateway, real models in this machine, a few questions, and what they cost.

Not here: anything that a user could not do: the demo is a child `trivet serve` and the official `openai` client.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from trivet.errors import TrivetError


class DemoError(TrivetError):
    """The demo could not show what it is for."""

    code, whose = "demo_failed", "operator"


@dataclass(frozen=True)
class Question:
    """One thing to ask, and how."""

    model: str
    words: str
    why: str
    stream: bool = False
    expect: str = ""
    """A word that a sensible answer has in it."""


_SYSTEM = "You are a helpful assistant. Answer in one short sentence."

FIRST = Question(
    "auto", "What is the capital of France?", "the policy asks the small model first", stream=True, expect="Paris"
)
OTHERS = (
    Question("large", "In Python, what does len([1, 2, 3]) return?", "the large model, by its name", expect="3"),
    Question("small", "In Python, what does len([1, 2, 3]) return?", "the small model, by its name", expect="3"),
    Question("auto", "Which planet is known as the Red Planet?", "a new question", expect="Mars"),
    Question("auto", "Which planet is known as the Red Planet?", "asked again: an exact hit", expect="Mars"),
    Question("auto", "What is the capital of France?", "the first again, now not streamed", expect="Paris"),
)


@dataclass
class Told:
    """What came back for one question."""

    question: Question
    words: str
    target: str
    cache: str
    ttft_ms: float
    tokens: int
    cost: str
    saved: str


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the table instead of staying up.")
@click.option("--port", type=click.IntRange(0, 65535), default=8088, show_default=True, help="0 takes a free one.")
def command(*, once: bool, port: int) -> None:
    """See it work: real models in this machine, a few questions, what they cost.

    Fetches two small models once (1.6 GB), starts a gateway over them, asks it through the official `openai` client,
    and shows for each answer who gave it, how long it took and what it cost. No key is needed.
    """
    _needs("openai", "xllamacpp")
    with _gateway(port) as (url, child):
        told = _ask_all(url, child)
        _show(told, url)
        if not once:
            _stay(url, child)


def _needs(*modules: str) -> None:
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"The demo needs {' and '.join(missing)}: pip install 'trivet[demo]'.")


@contextmanager
def _gateway(port: int) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Start `trivet serve` as anyone would, on the embedded models whatever else is configured here."""
    ours, its = os.pipe()
    env = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY") and k != "TRIVET_CONFIG"}
    args = [sys.executable, "-m", "trivet", "serve", "--embedded", "--port", str(port), "--ready-fd", str(its)]
    child = subprocess.Popen(args, pass_fds=[its], env=env)
    os.close(its)
    try:
        with os.fdopen(ours) as pipe:
            line = pipe.readline()
        if not line:
            raise DemoError("The gateway did not start; the lines above say why. `--port 0` takes a free port.")
        yield json.loads(line)["url"], child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _ready(url: str) -> dict[str, str]:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as reply:  # noqa: S310  # our own child's address
            document = json.load(reply)
    except urllib.error.HTTPError as error:
        document = json.load(error)
    targets: dict[str, str] = document["targets"]
    return targets


def _wait_for(name: str, url: str, child: "subprocess.Popen[bytes]") -> None:
    """Wait until a target can answer, showing how far it is."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(f"{name}: starting") as status:
        while (state := _ready(url)[name]) != "ready":
            if child.poll() is not None or state.startswith("failed"):
                raise DemoError(f"Model {name!r} cannot be used: {state}")
            status.update(f"{name}: {state}")
            time.sleep(0.2)


def _ask_all(url: str, child: "subprocess.Popen[bytes]") -> list[Told]:
    import openai

    with openai.OpenAI(base_url=f"{url}/v1", api_key="not-needed-on-loopback", max_retries=0) as client:
        _wait_for("small", url, child)
        click.echo(f"\n> {FIRST.words}   ({FIRST.why}; streamed)")
        told = [_ask(client, FIRST)]
        _wait_for("large", url, child)
        for question in OTHERS:
            click.echo(f"\n> {question.words}   ({question.why})")
            told.append(_ask(client, question))
            click.echo(told[-1].words)
    return told


def _ask(client: Any, question: Question) -> Told:
    """Ask one question; a stream is printed as it comes."""
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question.words}]
    asked = {"model": question.model, "messages": messages, "temperature": 0, "max_tokens": 60}
    began = time.perf_counter()
    if not question.stream:
        reply = client.chat.completions.with_raw_response.create(**asked)
        answer, headers = reply.parse(), reply.headers
        spans = dict(span.split(";dur=") for span in headers["server-timing"].split(", "))
        return _told(
            question,
            words=answer.choices[0].message.content or "",
            report={
                "target": headers["x-trivet-target"],
                "cache": headers["x-trivet-cache"].split(";")[0],
                "ttft_ms": float(spans["ttft"]),
                "cost_usd": headers["x-trivet-cost-usd"],
                "saved_usd": headers.get("x-trivet-saved-usd", ""),
            },
            tokens=answer.usage.total_tokens,
        )
    words, first_ms, last = [], 0.0, None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        last = chunk
        piece = chunk.choices[0].delta.content if chunk.choices else None
        if piece:
            first_ms = first_ms or (time.perf_counter() - began) * 1000
            words.append(piece)
            click.echo(piece, nl=False)
    click.echo()
    if last is None:
        raise DemoError("The stream ended without a word.")
    report = (last.model_extra or {})["trivet"]
    return _told(question, words="".join(words), report={**report, "ttft_ms": first_ms}, tokens=last.usage.total_tokens)


def _told(question: Question, *, words: str, report: dict[str, Any], tokens: int) -> Told:
    if question.expect.lower() not in words.lower():
        click.echo(f"  (a better model would have said {question.expect!r})", err=True)
    return Told(
        question=question,
        words=words.strip(),
        target=report["target"],
        cache=report["cache"],
        ttft_ms=report["ttft_ms"],
        tokens=tokens,
        cost=report["cost_usd"],
        saved=report.get("saved_usd") or "",
    )


def _show(told: list[Told], url: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What happened", caption="Cost: machine time at the price that `trivet serve` printed above.")
    for name in ("model asked", "answered by", "decision"):
        table.add_column(name)
    for name in ("TTFT ms", "tokens", "cost $", "saved $ vs large"):
        table.add_column(name, justify="right")
    for one in told:
        decision = "exact hit" if one.cache in ("hit", "exact") else "call"
        row = (one.question.model, one.target, decision, f"{one.ttft_ms:.1f}", str(one.tokens), one.cost)
        table.add_row(*row, one.saved or ("" if one.question.model != "auto" else "not known yet"))
    click.echo()
    Console().print(table)
    hits = [one for one in told if one.cache in ("hit", "exact")]
    if len(hits) != 2 or {one.target for one in told} != {"small", "large"}:
        raise DemoError("The table above is not what the demo is for: two exact hits, and answers by both models.")
    click.echo(f"The same numbers: trivet usage --entries   ·   {url}/metrics")


def _stay(url: str, child: "subprocess.Popen[bytes]") -> None:
    click.echo(f"""
It stays up until Ctrl-C. Try it:

  curl {url}/v1/chat/completions -H 'content-type: application/json' -i \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Say hello in French."}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="any")
  client.chat.completions.create(model="auto", messages=[{{"role": "user", "content": "Say hello in French."}}])
""")
    try:
        child.wait()
    except KeyboardInterrupt:
        click.echo("Stopping.")
