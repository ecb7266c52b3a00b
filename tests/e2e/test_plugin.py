"""A provider from another package: installed by pip, named in trivet.toml, used like a built-in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parent.parent / "examples" / "trivet-parrot"
PROGRAM = """
import openai, os
client = openai.OpenAI()
answer = client.chat.completions.create(model="polly", messages=[{"role": "user", "content": "Pretty bird"}])
print(answer.choices[0].message.content)
pieces = client.chat.completions.create(model="polly", messages=[{"role": "user", "content": "Who"}], stream=True)
print("".join(p.choices[0].delta.content or "" for p in pieces))
"""


def test_one_module_and_one_entry_point_line_make_a_provider(tmp_path: Path) -> None:
    installed, config = tmp_path / "site", tmp_path / "trivet.toml"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(installed), str(PACKAGE)], check=True)
    config.write_text('[targets.polly]\nprovider = "parrot"\nmodel = "bird"\n')
    env = {**os.environ, "PYTHONPATH": str(installed), "TRIVET_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}
    run = [sys.executable, "-m", "trivet", "run", "--config", str(config), "--", sys.executable, "-c", PROGRAM]
    done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "Pretty bird\nWho\n", done.stderr
    shown = [sys.executable, "-m", "trivet", "usage", "--by", "target", "--json"]
    assert '"polly"' in subprocess.run(shown, env=env, capture_output=True, text=True, timeout=60).stdout


def test_it_passes_the_suite_of_the_seam() -> None:
    env = {**os.environ, "PYTHONPATH": str(PACKAGE / "src")}
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(PACKAGE)]
    tests = str(PACKAGE / "tests" / "parrot_test.py")
    done = subprocess.run([*pytest_, tests], env=env, capture_output=True, text=True, timeout=60, cwd=PACKAGE)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
