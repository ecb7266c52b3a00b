"""Reads what is learned from: prompts, and how models did on them; Parquet, JSON Lines (plain or gzip) or CSV.

A folder has `prompts.*` (`pid`, `prompt`; optional `domain`, `ds`) and `outcomes.*` (`pid`, `model`, `score` in [0, 1];
optional `cost_usd`, `in_tok`, `out_tok`, `latency_s`, `ans`). A single file of outcomes that has a `prompt` column
stands for both. Other columns are ignored.

Not here: what is made of it. Invariant: what cannot be used is an error that names the file, the row and what to write;
no row is skipped in silence, none is guessed.
"""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError

KINDS = (".parquet", ".jsonl", ".jsonl.gz", ".csv")
"""Endings of files that are read, in the order in which a folder is searched."""

NUMBERS = ("score", "cost_usd", "in_tok", "out_tok", "latency_s")
"""Columns of outcomes that are numbers; NaN in a table where a row has none."""

_GZIP = b"\x1f\x8b"

_LINE_BYTES = 16_000_000
"""Of one line: more than a request may have."""

Columns = dict[str, list[Any]]


class Prompts(NamedTuple):
    """Prompts, each once."""

    pids: tuple[str, ...]
    texts: tuple[str, ...]
    domains: tuple[str, ...]
    """`ds/domain`, or the one that there is; "" where neither is said."""
    rows: dict[str, int]
    """Of each pid."""


class Outcomes(NamedTuple):
    """How models did: one element of each array for each (prompt, model)."""

    prompts: Prompts
    models: tuple[str, ...]
    """Sorted."""
    prompt: NDArray[np.int64]
    """[n], rows of `prompts`."""
    model: NDArray[np.int64]
    """[n], places in `models`."""
    numbers: dict[str, NDArray[np.float64]]
    """[n] for each name in `NUMBERS`; NaN where unknown."""
    answers: tuple[str, ...]
    """[n]: `ans`; two models agree where theirs are equal; "" where none was parsed."""

    def matrix(self, name: str = "score") -> NDArray[np.float64]:
        """Give a column of numbers as [prompts, models], NaN where there is no outcome."""
        made = np.full((len(self.prompts.pids), len(self.models)), np.nan)
        made[self.prompt, self.model] = self.numbers[name]
        return made


def read_outcomes(path: Path, *, need_score: bool = True) -> Outcomes:
    """Read a folder of `prompts.*` and `outcomes.*`, or a file of outcomes with a `prompt` column.

    Raises:
        ConfigError: something is missing, unreadable, not a number, or said twice and differently.
    """
    if path.is_dir():
        file = _find(path, "outcomes")
        prompts, columns = read_prompts(_find(path, "prompts")), _columns(file)
    else:
        file, columns = path, _columns(path)
        prompts = _prompts(file, _need(file, columns, "prompt", beside="or give a folder that has prompts.* too"))
    places, pids = columns.pop(_ROW), _texts(file, columns, "pid")
    names = _texts(file, columns, "model")
    models = tuple(sorted(set(names)))
    at = {name: i for i, name in enumerate(models)}
    if need_score:
        _need(file, columns, "score", beside="from 0, wrong, to 1, right")
    try:
        rows = np.array([prompts.rows[pid] for pid in pids], np.int64)
    except KeyError:
        i = next(i for i, pid in enumerate(pids) if pid not in prompts.rows)
        raise ConfigError(
            f"{file}, row {places[i]}: no prompt has the pid {pids[i]!r}. Add it to the prompts, or take the row out."
        ) from None
    numbers = {name: _numbers(file, columns, name, places=places) for name in NUMBERS}
    _check_scores(file, numbers["score"], places=places, need=need_score)
    model = np.array([at[name] for name in names], np.int64)
    answers = tuple("" if a is None else str(a) for a in columns.get("ans", [None] * len(pids)))
    kept = _once(file, rows * len(models) + model, numbers["score"], places=places)
    return Outcomes(
        prompts=prompts,
        models=models,
        prompt=rows[kept],
        model=model[kept],
        numbers={name: column[kept] for name, column in numbers.items()},
        answers=tuple(answers[i] for i in kept),
    )


def read_prompts(file: Path) -> Prompts:
    """Read a file of `pid`, `prompt` and, where it has them, `ds` and `domain`.

    Raises:
        ConfigError: a column is missing, a row has no text, or a pid has two texts.
    """
    columns = _columns(file)
    return _prompts(file, _need(file, columns, "prompt", beside="the text that is routed"))


_ROW = "\0row"
"""The name under which `_columns` keeps where each row stands."""


def _prompts(file: Path, columns: Columns) -> Prompts:
    places, pids, texts = columns[_ROW], _texts(file, columns, "pid"), _texts(file, columns, "prompt", empty=True)
    none = [None] * len(pids)
    sets, domains = columns.get("ds", none), columns.get("domain", none)
    rows: dict[str, int] = {}
    kept: list[int] = []
    for i, pid in enumerate(pids):
        before = rows.setdefault(pid, len(kept))
        if before == len(kept):
            kept.append(i)
        elif texts[kept[before]] != texts[i]:
            raise ConfigError(
                f"{file}, row {places[i]}: the pid {pid!r} had another prompt in row {places[kept[before]]}. "
                "Give each prompt a pid of its own."
            )
    labels = ("/".join(str(part) for part in (sets[i], domains[i]) if part) for i in kept)
    return Prompts(tuple(pids[i] for i in kept), tuple(texts[i] for i in kept), tuple(labels), rows)


def _once(
    file: Path, keys: NDArray[np.int64], scores: NDArray[np.float64], *, places: Sequence[int]
) -> NDArray[np.int64]:
    """Give the first row of each (prompt, model). Raises ConfigError: a later one says something else."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(np.diff(keys[order]) == 0)
    one, other = order[same], order[same + 1]
    differ = np.flatnonzero((scores[one] != scores[other]) & ~(np.isnan(scores[one]) & np.isnan(scores[other])))
    if len(differ):
        a, b = int(one[differ[0]]), int(other[differ[0]])
        raise ConfigError(
            f"{file}, row {places[b]}: the score is {scores[b]:g}; row {places[a]} says {scores[a]:g} for the same "
            "prompt and model. Keep one, or write their mean."
        )
    first = np.ones(len(keys), bool)
    first[other] = False
    return np.flatnonzero(first)


def _check_scores(file: Path, scores: NDArray[np.float64], *, places: Sequence[int], need: bool) -> None:
    bad = np.flatnonzero((np.isnan(scores) & need) | (scores < 0) | (scores > 1))
    if len(bad):
        what = "missing or NaN" if np.isnan(scores[bad[0]]) else f"{scores[bad[0]]:g}"
        raise ConfigError(
            f"{file}, row {places[bad[0]]}: the score is {what}. Write a number from 0 (wrong) to 1 (right), or take "
            "the row out."
        )


def _numbers(file: Path, columns: Columns, name: str, *, places: Sequence[int]) -> NDArray[np.float64]:
    values = columns.get(name)
    if values is None:
        return np.full(len(places), np.nan)
    try:
        made = np.array([math.nan if v is None or v == "" else float(v) for v in values], np.float64)
    except (TypeError, ValueError):
        i = next(i for i, v in enumerate(values) if not _is_number(v))
        raise ConfigError(f"{file}, row {places[i]}: `{name}` is {values[i]!r}. Write a number.") from None
    bad = np.flatnonzero(np.isinf(made))
    if len(bad):
        raise ConfigError(f"{file}, row {places[bad[0]]}: `{name}` is infinite. Write a number.")
    return made


def _is_number(value: Any) -> bool:
    try:
        return value is None or value == "" or float(value) is not None
    except (TypeError, ValueError):
        return False


def _texts(file: Path, columns: Columns, name: str, *, empty: bool = False) -> list[str]:
    values = _need(file, columns, name, beside="a text")[name]
    for i, value in enumerate(values):
        if not isinstance(value, str) or not (value or empty):
            raise ConfigError(
                f"{file}, row {columns[_ROW][i] if _ROW in columns else i + 1}: `{name}` is "
                f"{'missing' if value is None else repr(value)[:60]}. Write a text."
            )
    return values


def _need(file: Path, columns: Columns, name: str, *, beside: str) -> Columns:
    if name not in columns:
        has = ", ".join(f"`{n}`" for n in columns if n != _ROW)
        raise ConfigError(f"{file} has no column `{name}`; it has {has or 'none'}. Add it: {beside}.")
    return columns


def _find(folder: Path, stem: str) -> Path:
    for kind in KINDS:
        if (file := folder / f"{stem}{kind}").exists():
            return file
    raise ConfigError(f"{folder} has no {stem} file. Write one of {', '.join(stem + kind for kind in KINDS)}.")


def _columns(file: Path) -> Columns:
    """Read a file into lists, one for each column, and `_ROW`. Raises ConfigError."""
    if not file.exists():
        raise ConfigError(f"There is no {file}.")
    if file.suffix == ".parquet":
        columns = _parquet(file)
    elif file.suffix == ".csv":
        columns = _gathered(_csv_rows(file))
    elif file.name.endswith((".jsonl", ".jsonl.gz")):
        columns = _gathered(_json_rows(file))
    else:
        raise ConfigError(f"{file}: its name does not say what it is. Known endings: {', '.join(KINDS)}.")
    if not columns.get(_ROW):
        raise ConfigError(f"{file} has no row in it.")
    return columns


def _parquet(file: Path) -> Columns:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            f"{file}: Parquet needs a package more. Run: pip install 'trivet[route]'. Or write {file.stem}.jsonl."
        ) from None
    try:
        table = parquet.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from error
    wanted = {"pid", "prompt", "ds", "domain", "model", "ans", *NUMBERS}
    read: Columns = {name: table.column(name).to_pylist() for name in table.column_names if name in wanted}
    return read | {_ROW: list(range(1, table.num_rows + 1))}


def _gathered(rows: Iterator[tuple[int, dict[str, Any]]]) -> Columns:
    columns: Columns = {_ROW: []}
    for number, row in rows:
        n = len(columns[_ROW])
        for name, value in row.items():
            columns.setdefault(name, [None] * n).append(value)
        columns[_ROW].append(number)
        for values in columns.values():
            if len(values) == n:
                values.append(None)
    return columns


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for number, line in enumerate(_lines(file), start=1):
        if line.strip():
            try:
                yield number, decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ConfigError(f"{file}, row {number}: {error}.") from error


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(_LINE_BYTES)
    try:
        text = io.StringIO(b"".join(_lines(file)).decode("utf-8-sig"), newline="")
        for number, row in enumerate(csv.DictReader(text), start=2):
            if None in row or None in row.values():
                raise ConfigError(
                    f"{file}, row {number}: it has not as many fields as the head. Quote what has commas."
                )
            yield number, dict(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no CSV in UTF-8: {error}.") from error


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            zipped = opened.read(2) == _GZIP
        with gzip.open(file) if zipped else file.open("rb") as lines:
            while line := lines.readline(_LINE_BYTES):
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
