"""Runs the tests of embedders that stand on large libraries, in an environment of their own: `make embedders`.

    python -m tests.embed.run

`locks/embedders.txt` says with which versions; what those need besides is left to pip, because torch needs other
packages on other machines. Not here: the tests. Invariant: not one of them is skipped there.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.compat import environments
from tests.compat.run import read

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TESTS = ("test_pieces.py", "test_library.py", "test_sentences.py", "test_fast.py")


def main() -> int:
    """Run them; gives 1 if any failed or was skipped."""
    python = environments.ready("embedders", locks=HERE / "locks", whole=False)
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = [
            "-m",
            "pytest",
            "-q",
            "-rs",
            "-k",
            "not without_the",
            f"--junitxml={report}",
            *(str(HERE / test) for test in TESTS),
        ]
        env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run([python, *words], cwd=ROOT, env=env, check=False)
        passed, skipped, why = read(report.read_text() if report.exists() else "<testsuites/>")
    print(f"{passed} passed, {skipped} skipped, {len(why)} failed: {environments.versions(python, VERSIONS)}")
    return int(bool(done.returncode or skipped or why or not passed))


VERSIONS = ("sentence-transformers", "transformers", "torch", "fastembed", "tokenizers")


if __name__ == "__main__":
    sys.exit(main())
