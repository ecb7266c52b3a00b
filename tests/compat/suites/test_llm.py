"""The `llm` command, as a person configures and types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Gateway

PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489")
MODELS = """
- model_id: gateway
  model_name: {model}
  api_base: {url}
  api_key_name: trivet
  supports_tools: true
  supports_schema: true
  vision: true
"""
TOOLS = '''
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
'''


@pytest.fixture
def home(gateway: Gateway, tmp_path: Path) -> Path:
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(model=gateway.model, url=gateway.url))
    (tmp_path / "keys.json").write_text(json.dumps({"trivet": gateway.key}))
    return tmp_path


def llm(home: Path, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        env={**os.environ, "LLM_USER_PATH": str(home)},
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_prompt_is_answered_as_a_stream_and_whole(home: Path) -> None:
    assert llm(home, "-m", "gateway", "good morning") == "You said: good morning"
    assert llm(home, "-m", "gateway", "--no-stream", "good evening") == "You said: good evening"


def test_what_is_piped_in_is_part_of_the_prompt(home: Path) -> None:
    assert llm(home, "-m", "gateway", "-s", "Be brief.", stdin="from a pipe") == "You said: from a pipe"


def test_a_conversation_goes_on_and_its_tokens_are_logged(home: Path) -> None:
    llm(home, "-m", "gateway", "first")
    assert llm(home, "-c", "second") == "You said: second"
    logged = json.loads(llm(home, "logs", "--json"))
    assert [(row["prompt"], row["input_tokens"], row["output_tokens"]) for row in logged] == [
        ("first", 4, 3),
        ("second", 14, 3),
    ]


def test_a_schema_makes_the_answer_a_document(home: Path) -> None:
    told = llm(home, "-m", "gateway", "--schema", "name, age int", "She is Mia, her age is 41.")
    assert json.loads(told) == {"name": "Mia", "age": 41}


def test_tools_are_called_until_there_is_an_answer(home: Path) -> None:
    told = llm(home, "-m", "gateway", "--functions", TOOLS, "What are add(1, 2) and add(3, 4)?")
    assert told == "The tools say: 3; 7"


def test_an_image_reaches_the_model(home: Path) -> None:
    image = home / "pixel.png"
    image.write_bytes(PIXEL)
    assert llm(home, "-m", "gateway", "look", "-a", str(image)) == "You said: look I see 1 image."
