"""The documents as tests see them: their fenced blocks, tables, links and headings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
USUAL_URL = "http://127.0.0.1:8088"
"""Where the documents say that the gateway is."""


class Block(NamedTuple):
    """One fenced block; `mark` is the comment in the line above it, without its brackets."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    def marked(self, word: str) -> str:
        """Give what stands after `word:` in the mark; "" if it is not that mark."""
        return self.mark.removeprefix(f"{word}:").strip() if self.mark.startswith(f"{word}:") else ""


class Command(NamedTuple):
    """A line of a console block that begins with `$ `, and what the document shows below it."""

    block: Block
    words: str
    shown: str


def blocks(*languages: str) -> list[Block]:
    """List the blocks of these languages in all documents."""
    return [block for page in PAGES for block in _blocks(page) if block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    lines, at, above = page.read_text().splitlines(), 0, ""
    while at < len(lines):
        if not lines[at].startswith("```"):
            above = lines[at].strip() or above
            at += 1
            continue
        end = lines.index("```", at + 1)
        mark = re.fullmatch(r"<!-- (.*) -->", above)
        text = "\n".join(lines[at + 1 : end]) + "\n"
        yield Block(str(page.relative_to(ROOT)), at + 1, lines[at][3:].strip(), text, mark[1] if mark else "")
        at, above = end + 1, ""


def commands() -> list[Command]:
    """List all commands that the documents tell a reader to type."""
    return [command for block in blocks("console", "bash") for command in _commands(block)]


def _commands(block: Block) -> Iterator[Command]:
    for part in re.split(r"(?m)^\$ ", block.text)[1:]:
        words, _, shown = part.partition("\n")
        yield Command(block, words.partition("  # ")[0].strip(), shown)


def table(page: str, heading: str) -> list[list[str]]:
    """Give the rows of the first table below a heading, without its head; cells without outer spaces."""
    text = f"\n{(ROOT / page).read_text()}".split(f"\n{heading}\n", 1)[1]
    section = re.split(r"(?m)^#+ ", text, maxsplit=1)[0]
    found = re.search(r"(?m)(^\|.*\n)+", section)
    assert found, (page, heading)
    rows = [[c.strip() for c in row.strip().strip("|").split(" | ")] for row in found[0].splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def anchors(page: Path) -> set[str]:
    """List the anchors of a page's headings, as the usual hosts make them."""
    prose = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    headings = re.findall(r"(?m)^#+ (.*)$", prose)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose_words(text: str) -> int:
    """Count the words that are read and not typed: fenced blocks, comments and addresses of links are left out."""
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    text = re.sub(r"<!--.*?-->|\]\([^)]*\)", "", text)
    return len(re.findall(r"[A-Za-z0-9$]\S*", text))
