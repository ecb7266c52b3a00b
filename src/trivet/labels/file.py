"""Labels on the disk: one SQLite file that all workers of a gateway share, written by a thread of its own.

Not here: which labels there are (`labels.py`), reading them for people (`report.py`).
Invariants: nothing here delays or fails a request; prompts are in this file and nowhere else, readable by its owner
alone, and overwritten when they are deleted; a policy has at most `max_entries`, none older than its `ttl`; what a
shadow may cost is taken off the day's budget before it is asked, in one transaction, so no number of tasks, workers or
restarts can spend it twice; a file that cannot be read is set aside, and then nothing more is spent that day.
"""

import asyncio
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from trivet.errors import LabelsError
from trivet.seams import Clock

FILE: Final = "labels.db"
VERSION: Final = 1
"""Of the tables; `_TABLES` says it too."""

GROUP: Final = 500
"""Changes in one transaction."""

MAX_WAITING: Final = 2_000
"""Changes that wait for a disk that is slow or full, some megabytes; what comes after that is not kept, and counted."""

WAIT_S: Final = 5.0
"""For an answer out of the file: whoever asks is a client with feedback, or a shadow that nobody waits for."""

TIDY_S: Final = 30.0
"""Between two looks for prompts that are too old, while nothing is written."""

_PAUSE_S: Final = 1.0
"""After a failure, before the next try."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS asked (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, policy TEXT NOT NULL, prompt TEXT NOT NULL,
    domain TEXT NOT NULL, target TEXT NOT NULL, probability REAL NOT NULL, router TEXT NOT NULL, cost_nanos INTEGER,
    at_ns INTEGER NOT NULL, expires_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS asked_policy ON asked (policy, seq);
CREATE INDEX IF NOT EXISTS asked_expiry ON asked (expires_ns);
CREATE TABLE IF NOT EXISTS labels (
    id TEXT NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL, score REAL NOT NULL, propensity REAL NOT NULL,
    likeness REAL, reference INTEGER NOT NULL, cost_nanos INTEGER, at_ns INTEGER NOT NULL,
    PRIMARY KEY (id, target, source)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS gone AFTER DELETE ON asked BEGIN DELETE FROM labels WHERE id = old.id; END;
CREATE TABLE IF NOT EXISTS spent (
    policy TEXT NOT NULL, day INTEGER NOT NULL, nanos INTEGER NOT NULL, PRIMARY KEY (policy, day)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
"""
"""`day`: since 1970, in UTC. `reference`: 1 where the label is what the other one was held against."""

EVERY: Final = ""
"""Stands for all policies in `spent`: a day whose sums were lost."""


SOURCES: Final = ("feedback", "shadow", "judge")
"""Of labels: a client said so; another target's answer was compared, by its words or by a model."""


class Asked(NamedTuple):
    """An answered request that labels may come for."""

    id: str
    tenant: str
    policy: str
    prompt: str
    domain: str
    target: str
    """Who answered."""
    probability: float
    """With which the router chose that one."""
    router: str
    """Digest of the router, "" where it has none."""
    cost_nanos: int | None
    at_ns: int
    expires_ns: int


class Label(NamedTuple):
    """What is known of one target's answer to a request; of one source the last one counts."""

    id: str
    target: str
    source: str
    """`feedback`, `shadow`, or `judge`: a shadow whose answer a model compared."""
    score: float
    """From 0, not good enough, to 1."""
    propensity: float
    """With which there came to be a label of this kind for this target."""
    likeness: float | None
    """Of two answers in prose: their cosine."""
    reference: bool
    """It is what the other answer was held against, and good by definition."""
    cost_nanos: int | None
    at_ns: int


class Spend(NamedTuple):
    """What a shadow cost in place of what was held for it."""

    policy: str
    day: int
    held: int
    nanos: int


class Said(NamedTuple):
    """Feedback: a question, because whoever gives it is told whether it was for something."""

    id: str
    tenant: str
    score: float
    at_ns: int


class Hold(NamedTuple):
    """May this be spent today? If so, it is."""

    policy: str
    day: int
    nanos: int
    limit: int


Change = Asked | Label | Spend
Question = Said | Hold


class _Waiting(NamedTuple):
    question: Question
    answer: Callable[[bool | None], None]
    """Called in the thread; None: it could not be asked."""
    is_over: Callable[[], bool]
    """Whether nobody waits for the answer any more."""


class File:
    """The file of one process."""

    def __init__(self, path: Path, *, clock: Clock, tell: Callable[[str], None]) -> None:
        self._path, self._clock, self._tell = path, clock, tell
        self._queue: SimpleQueue[Change | _Waiting | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._most: Mapping[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._version = self._tidied_ns = -1
        self._damage: Exception | None = None
        self.troubles: Counter[str] = Counter(disk=0, dropped=0)
        """Times that it could not be written; changes that were lost."""
        self.trouble = ""
        """Why it cannot be written at the moment; "" when it can."""

    @property
    def is_open(self) -> bool:
        """Whether `open` was called."""
        return self._thread is not None

    def open(self) -> None:
        """Begin to write, in the background. Whatever is wrong with the disk is told there."""
        self._thread = threading.Thread(target=self._run, name="trivet-labels", daemon=True)
        self._thread.start()

    def bound(self, most: Mapping[str, int]) -> None:
        """Have at most so many requests of each policy kept."""
        self._most = dict(most)

    def put(self, change: Change) -> bool:
        """Have something written, soon. False: too much waits already, and it is lost."""
        if self._thread is None or self._queue.qsize() >= MAX_WAITING:
            self.troubles["dropped"] += 1
            return False
        self._queue.put(change)
        return True

    async def ask(self, question: Question) -> bool:
        """Ask, after all that was put before. Raises LabelsError: the file cannot be used now."""
        if self._thread is None:
            return False
        if self.trouble:
            raise self._refusal()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bool | None] = loop.create_future()

        def answer(said: bool | None) -> None:  # noqa: FBT001  # a callback
            with suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(_answer, answered, said)

        self._queue.put(_Waiting(question, answer, answered.done))
        try:
            async with asyncio.timeout(WAIT_S):
                said = await answered
        except TimeoutError:
            said = None
        if said is None:
            raise self._refusal()
        return said

    def _refusal(self) -> LabelsError:
        why = self.trouble or f"the disk took longer than {WAIT_S:g} s"
        return LabelsError(f"Labels cannot be kept at the moment: {why}.")

    def close(self) -> None:
        """Write what waits, and stop; it waits for the disk."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ending.set()
            self._queue.put(None)
            thread.join()

    # In the thread.

    def _run(self) -> None:
        db: sqlite3.Connection | None = None
        waiting: list[Change | _Waiting] = []
        more, is_open = True, False
        while more or waiting:
            # What is wrong with the file, and what is too old in it, is found at once; after that there is time.
            taken = self._taken(GROUP - len(waiting), within_s=TIDY_S if is_open and not waiting else 0.0)
            more = more and None not in taken
            waiting += [one for one in taken if one is not None]
            try:
                if db is None:
                    db = self._connect()
                is_open = True
                self._write(db, waiting)
                waiting = []
                self._worked()
            except (sqlite3.Error, OSError) as error:
                self._failed(error)
                waiting = _refused(waiting)
                if db is not None:
                    db.close()
                db, is_open = None, False
                if self._ending.is_set():
                    lost = len(waiting) + len(_refused(self._rest()))
                    self.troubles["dropped"] += lost
                    self._tell(f"{lost} labels and prompts could not be written to {self._path}: {error}.")
                    break
                self._ending.wait(_PAUSE_S)
        if db is not None:
            db.close()

    def _taken(self, most: int, *, within_s: float) -> list[Change | _Waiting | None]:
        """Take what is waiting, at most so much; wait for the first."""
        taken: list[Change | _Waiting | None] = []
        with suppress(Empty):
            if within_s:
                taken.append(self._queue.get(timeout=within_s))
            while len(taken) < most:
                taken.append(self._queue.get_nowait())
        return taken

    def _rest(self) -> list[Change | _Waiting]:
        """Take all that is left: `close` puts None behind it."""
        rest: list[Change | _Waiting] = []
        with suppress(Empty):
            while (one := self._queue.get_nowait()) is not None:
                rest.append(one)
        return rest

    def _connect(self) -> sqlite3.Connection:
        lost = self._damage is not None
        if self._damage is not None:
            self._set_aside(self._damage)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # prompts are in it: for its owner alone
        self._path.chmod(0o600)
        db = connect(self._path)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}, and this is {VERSION}")
            db.executescript(_TABLES)
            if lost:
                db.execute("INSERT OR IGNORE INTO spent VALUES (?, ?, 0)", (EVERY, day(self._clock)))
        except BaseException:
            db.close()
            raise
        self._version = self._tidied_ns = -1
        return db

    def _set_aside(self, why: Exception) -> None:
        self._damage = None
        aside = self._path.with_suffix(".damaged")
        for end in ("-wal", "-shm"):
            Path(f"{self._path}{end}").unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # another process did
            self._path.replace(aside)
        self._tell(
            f"{self._path} cannot be read ({why}). It was set aside as {aside.name}, with the prompts that are in it; "
            "labels begin anew, and shadows tomorrow: what was spent on them today is not known any more."
        )

    def _write(self, db: sqlite3.Connection, waiting: Sequence[Change | _Waiting]) -> None:
        answers: list[tuple[_Waiting, bool]] = []
        db.execute("BEGIN IMMEDIATE")
        try:
            self._count(db)
            for one in waiting:
                if not isinstance(one, _Waiting):
                    self._change(db, one)
                elif not one.is_over():
                    answers.append((one, _asked(db, one.question)))
            self._tidy(db)
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            self._version = -1  # what was counted is not there
            raise
        for asked, said in answers:
            asked.answer(said)

    def _change(self, db: sqlite3.Connection, change: Change) -> None:
        try:
            self._counts.update(_changed(db, change))
        except (ValueError, OverflowError):  # an odd one must not stand in the way of those behind it
            self.troubles["dropped"] += 1

    def _count(self, db: sqlite3.Connection) -> None:
        """Count what there is anew where another process has changed something."""
        version = int(db.execute("PRAGMA data_version").fetchone()[0])
        if version != self._version:
            self._counts = Counter(dict(db.execute("SELECT policy, count(*) FROM asked GROUP BY policy").fetchall()))
            self._version = version

    def _tidy(self, db: sqlite3.Connection) -> None:
        """Take off what is too much, and now and then what is too old."""
        for policy, most in self._most.items():
            over = self._counts[policy] - most
            if over > 0:
                db.execute(_OLDEST, (policy, over))
                self._counts[policy] = most
        now_ns = self._clock.mono_ns()
        if self._tidied_ns < 0 or now_ns - self._tidied_ns >= TIDY_S * 1e9:
            self._tidied_ns = now_ns
            if db.execute("DELETE FROM asked WHERE expires_ns <= ?", (self._clock.now_ns(),)).rowcount:
                self._version = -1
            db.execute("DELETE FROM spent WHERE day < ?", (day(self._clock) - _DAYS_KEPT,))

    def _failed(self, error: Exception) -> None:
        # Locked, full, read-only: that passes. Anything else is about the file itself.
        if not isinstance(error, (sqlite3.OperationalError, sqlite3.ProgrammingError, OSError)):
            self._damage = error
        self.troubles["disk"] += 1
        if not self.trouble:
            self._tell(f"Labels cannot be written to {self._path} ({error}). Requests go on; some labels may be lost.")
        self.trouble = str(error)

    def _worked(self) -> None:
        if self.trouble:
            self._tell(f"Labels are written again: {self._path}.")
            self.trouble = ""


_DAYS_KEPT: Final = 400
"""Of what was spent a day."""

_OLDEST: Final = "DELETE FROM asked WHERE seq IN (SELECT seq FROM asked WHERE policy = ? ORDER BY seq LIMIT ?)"

_LABEL: Final = """INSERT OR REPLACE INTO labels
    SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM asked WHERE id = ?)"""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, in autocommit mode, so that what is deleted is overwritten."""
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
    # What was told to be kept, and money that was promised not to be spent twice, survive a power cut.
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    return db


def day(clock: Clock) -> int:
    """Give the day, since 1970 in UTC."""
    return clock.now_ns() // 86_400_000_000_000


def _changed(db: sqlite3.Connection, change: Change) -> Counter[str]:
    """Write a change; gives what that adds to the requests of a policy."""
    match change:
        case Asked():
            new = db.execute(
                "INSERT OR IGNORE INTO asked (id, tenant, policy, prompt, domain, target, probability, router,"
                " cost_nanos, at_ns, expires_ns) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                change,
            ).rowcount
            return Counter({change.policy: new})
        case Label():
            db.execute(_LABEL, (*change, change.id))
        case Spend():
            db.execute(
                "UPDATE spent SET nanos = nanos + ? WHERE policy = ? AND day = ?",
                (change.nanos - change.held, change.policy, change.day),
            )
    return Counter()


def _asked(db: sqlite3.Connection, question: Question) -> bool:
    match question:
        case Said():
            found = db.execute(
                "SELECT target, probability, cost_nanos FROM asked WHERE id = ? AND tenant = ?",
                (question.id, question.tenant),
            ).fetchone()
            if found is None:
                return False
            target, probability, cost = found
            label = (question.id, target, "feedback", question.score, probability, None, 0, cost, question.at_ns)
            db.execute(_LABEL, (*label, question.id))
            return True
        case Hold():
            spent = dict(
                db.execute("SELECT policy, nanos FROM spent WHERE policy IN (?, ?) AND day = ?",
                           (question.policy, EVERY, question.day))
            )  # fmt: skip
            if EVERY in spent or spent.get(question.policy, 0) + question.nanos > question.limit:
                return False
            db.execute(
                "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET nanos = nanos + excluded.nanos",
                (question.policy, question.day, question.nanos),
            )
            return True


def _refused(waiting: Sequence[Change | _Waiting]) -> list[Change | _Waiting]:
    """Say to those who ask that it cannot be told now; give the rest, to be tried again."""
    for one in waiting:
        if isinstance(one, _Waiting):
            one.answer(None)
    return [one for one in waiting if not isinstance(one, _Waiting)]


def _answer(answered: "asyncio.Future[bool | None]", said: bool | None) -> None:  # noqa: FBT001  # a callback
    if not answered.done():
        answered.set_result(said)
