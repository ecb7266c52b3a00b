"""The kept answers on the disk, so that a restart does not begin with nothing and workers share what they keep.

Not here: what is looked up (`shelf.py` has all of it in memory). One thread does all the work, in groups.
Invariants: nothing here delays or fails a request; the event loop gets what is read in pieces, each when it has taken
the one before; a file that cannot be read is set aside under another name and a new one begun; vectors of another
embedder are not loaded, but their answers are; what another process kept or took off is heard of in `EVERY_S`.
"""

import asyncio
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from trivet.cache.semantic.graph import unit
from trivet.cache.semantic.graphs import Drawn, Graphs
from trivet.cache.semantic.look import Kept
from trivet.cache.semantic.shelf import Answer
from trivet.seams import Clock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EVERY_S = 0.05
"""How often other processes are listened to: one PRAGMA of 2 us."""

GROUP = 500
"""Changes in one transaction."""

LOADED_AT_ONCE = 200
"""Answers that are handed to the event loop together: under 2 ms of its time."""

MAX_WAITING = 20_000
"""Changes that wait for a disk that is slow or full; after that the oldest answers are simply not on it."""

VERSION = 1
_PAUSE_S = 1.0
"""After a failure, before the next try."""
_GONE_KEPT = 100_000
"""Of what was taken off, so that a process that slept for a while still hears of it."""

_TABLES = f"""
CREATE TABLE IF NOT EXISTS answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL UNIQUE, embedder TEXT NOT NULL, answer BLOB NOT NULL,
    vector BLOB, expires_ns INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS expiry ON answers (expires_ns);
CREATE TABLE IF NOT EXISTS gone (seq INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS learned (
    policy TEXT NOT NULL, decider TEXT NOT NULL, embedder TEXT NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (policy, decider, embedder)
);
PRAGMA user_version = {VERSION};
"""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answer).decode


class Loaded(NamedTuple):
    """An answer that was read."""

    answer: Answer
    vector: "NDArray[np.float32] | None"
    in_graph: bool = False
    """Whether the graph that was drawn for its scope has the vector already."""
    behind: bool = False
    """It has no vector of this embedder, and nobody has tried to make one."""


class Hearer(Protocol):
    """Hears what is in the file; called in the event loop."""

    def drawn(self, drawn: Drawn) -> None:
        """Take a graph, before the answers whose vectors are in it."""
        ...

    def loaded(self, rows: Iterable[Loaded]) -> None:
        """Take answers that were read, or that another process kept."""
        ...

    def gone(self, numbers: Iterable[int]) -> None:
        """Take off what another process took off."""
        ...


class Row(NamedTuple):
    """An answer as it is written."""

    number: int
    answer: bytes
    vector: bytes | None
    expires_ns: int
    tried: bool = True
    """Whether the embedder was asked for a vector: then it has none where there is none."""

    @classmethod
    def of(cls, answer: Answer, vector: "NDArray[np.float32] | None", *, tried: bool = True) -> "Row":
        """Make it now: the answer may change before it is written."""
        halves = None if vector is None else vector.astype("float16").tobytes()
        return cls(answer.number, _encode(answer), halves, answer.expires_ns, tried)


class _Learned(NamedTuple):
    policy: str
    decider: str
    state: bytes


class _Changed(NamedTuple):
    number: int
    kept: bytes


class _Removed(NamedTuple):
    number: int


class _Moved(NamedTuple):
    row: Row


class _Known(NamedTuple):
    embedder: str


class File:
    """One SQLite file, in WAL mode so that processes can share it."""

    def __init__(self, path: Path, *, clock: Clock, tell: Callable[[str], None]) -> None:
        self.path = self._path = path
        self._clock, self._tell = clock, tell
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._states: dict[tuple[str, str], bytes] = {}
        self._unsaved: dict[tuple[str, str], Callable[[], bytes]] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hearer: Hearer | None = None
        self._taken_up = threading.Event()
        self._taken_up.set()
        self._graphs = Graphs(path, clock=clock, tell=tell)
        self._embedder = ""
        self._seen = self._seen_gone = 0
        self._damage: Exception | None = None
        self._ending = threading.Event()
        self._saved_ns = 0
        self.trouble = ""
        """Why the disk does not take anything at the moment; "" when it does."""

    def open(self, embedder: str, hearer: Hearer) -> None:
        """Read what is there, in the background; who hears of it is called in this event loop.

        Args:
            embedder: the digest of the one whose vectors are wanted; "": not known yet, so none is.
        """
        self._embedder, self._hearer = embedder, hearer
        self._loop = asyncio.get_running_loop()
        self._read_states(embedder)
        self._thread = threading.Thread(target=self._run, name="trivet-cache", daemon=True)
        self._thread.start()

    def know(self, embedder: str) -> None:
        """Read what is there once more, with the vectors of this embedder: now it is known."""
        self._read_states(embedder)
        self._ask(_Known(embedder), always=True)

    def put(self, row: Row) -> None:
        """Have an answer written."""
        self._ask(row)

    def move(self, row: Row) -> None:
        """Have the vector of an answer written in the place of another embedder's, if the answer is still there."""
        self._ask(_Moved(row))

    def update(self, number: int, kept: Kept) -> None:
        """Have what a decider noted at a question written."""
        self._ask(_Changed(number, _encode(kept)))

    def remove(self, number: int) -> None:
        """Have an answer removed, here and in the other processes."""
        self._ask(_Removed(number), always=True)

    def crowd(self, scope: bytes, width: int) -> None:
        """Have a graph made for a scope that has too many vectors to compare with each, or too many that it lacks."""
        self._graphs.crowd(scope, width)

    def learned(self, policy: str, decider: str) -> bytes | None:
        """Give what the decider of a policy had learned when it was last saved, with this embedder."""
        return self._states.get((policy, decider))

    def learn(self, policy: str, decider: str, save: Callable[[], bytes]) -> None:
        """Have what a decider has learned written some time soon."""
        self._unsaved[policy, decider] = save

    def save(self, *, every_s: float = 0.0) -> None:
        """Take what deciders have learned by now, in the event loop, and have it written; not more often than that."""
        now_ns = self._clock.mono_ns()
        if now_ns - self._saved_ns < every_s * 1e9:
            return
        self._saved_ns = now_ns
        unsaved, self._unsaved = self._unsaved, {}
        for (policy, decider), save in unsaved.items():
            self._ask(_Learned(policy, decider, save()))

    def close(self) -> None:
        """Write what waits, and stop. Call `save` before."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ending.set()
            self._queue.put(None)
            thread.join()

    def _ask(self, change: Any, *, always: bool = False) -> None:
        if self._thread is not None and (always or self._queue.qsize() < MAX_WAITING):
            self._queue.put(change)

    # In the thread, but for `_read_states`.

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._graphs.close()

    def _work(self) -> None:
        assert self._hearer is not None
        self._draw(self._graphs.read_all(self._embedder))
        db: sqlite3.Connection | None = None
        version = -1
        waiting: list[Any] = []
        more = True
        while more or waiting:
            waiting += self._taken(GROUP - len(waiting))
            more = more and None not in waiting
            waiting = [change for change in waiting if change is not None]
            for known in [change for change in waiting if isinstance(change, _Known)]:
                waiting.remove(known)
                self._embedder, self._seen, version = known.embedder, 0, -1
                for drawn in self._graphs.read_all(self._embedder):
                    self._hand(self._hearer.drawn, drawn)
            try:
                db = db or self._connect()
                if waiting:
                    self._write(db, waiting)
                    waiting = []
                now = int(db.execute("PRAGMA data_version").fetchone()[0])
                if now != version:
                    self._follow(db)
                    version = now
                self._worked()
                self._draw(self._graphs.turn())
            except (sqlite3.Error, OSError, msgspec.MsgspecError, ValueError, OverflowError) as error:
                self._failed(error)
                if db is not None:
                    db.close()
                    db, version = None, -1
                if not more:
                    break  # closing: it is a cache, and what is not on the disk is asked again
                self._ending.wait(_PAUSE_S)
        if db is not None:
            db.close()

    def _draw(self, every: Iterable[Drawn]) -> None:
        """Hand graphs over. By itself, so that no variable of the thread keeps the last one's numbers."""
        assert self._hearer is not None
        for drawn in every:
            self._hand(self._hearer.drawn, drawn)

    def _taken(self, most: int) -> list[Any]:
        """Take what is waiting, at most so much; wait a moment for the first."""
        taken = []
        with suppress(Empty):
            taken.append(self._queue.get(timeout=EVERY_S))
            while len(taken) < most:
                taken.append(self._queue.get_nowait())
        return taken

    def _connect(self) -> sqlite3.Connection:
        if self._damage is not None:
            self._set_aside(self._damage)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # prompts are in it: for its owner alone
        db = sqlite3.connect(self._path, timeout=5.0, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last answers, and no more than them
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}, and this is {VERSION}")
            db.executescript(_TABLES)
            db.execute("DELETE FROM answers WHERE expires_ns <= ?", (self._clock.now_ns(),))
            db.execute("DELETE FROM gone WHERE seq <= (SELECT MAX(seq) FROM gone) - ?", (_GONE_KEPT,))
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, why: Exception) -> None:
        self._damage = None
        aside = self._path.with_suffix(".damaged")
        for end in ("-wal", "-shm"):
            Path(f"{self._path}{end}").unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # another process did
            self._path.replace(aside)
        self._seen = self._seen_gone = 0
        self._tell(f"{self._path} cannot be read ({why}). It was set aside as {aside.name}; the cache begins anew.")

    def _write(self, db: sqlite3.Connection, changes: Iterable[Any]) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                match change:
                    case Row():
                        db.execute(
                            "INSERT OR REPLACE INTO answers (number, embedder, answer, vector, expires_ns)"
                            " VALUES (?,?,?,?,?)",
                            self._row(change),
                        )
                    case _Moved(row):
                        db.execute(
                            "INSERT OR REPLACE INTO answers (number, embedder, answer, vector, expires_ns)"
                            " SELECT ?,?,?,?,? WHERE EXISTS (SELECT 1 FROM answers WHERE number = ?)",
                            (*self._row(row), row.number),
                        )
                    case _Changed():
                        found = db.execute("SELECT answer FROM answers WHERE number = ?", (change.number,)).fetchone()
                        if found is not None:
                            answer = _decode(found[0])
                            answer.kept = msgspec.msgpack.decode(change.kept, type=Kept)
                            db.execute(
                                "UPDATE answers SET answer = ? WHERE number = ?", (_encode(answer), change.number)
                            )
                    case _Removed():
                        db.execute("DELETE FROM answers WHERE number = ?", (change.number,))
                        db.execute("INSERT INTO gone (number) VALUES (?)", (change.number,))
                    case _Learned() if self._embedder:
                        db.execute(
                            "INSERT OR REPLACE INTO learned VALUES (?,?,?,?)",
                            (change.policy, change.decider, self._embedder, change.state),
                        )
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise

    def _row(self, row: Row) -> tuple[int, str, bytes, bytes | None, int]:
        return row.number, self._embedder if row.tried else "", row.answer, row.vector, row.expires_ns

    def _follow(self, db: sqlite3.Connection) -> None:
        """Hand over what is new: all of it at the start, then what other processes wrote."""
        assert self._hearer is not None
        rows = db.execute("SELECT seq, number FROM gone WHERE seq > ? ORDER BY seq", (self._seen_gone,)).fetchall()
        if rows:
            self._seen_gone = rows[-1][0]
            self._hand(self._hearer.gone, [number for _, number in rows])
        first, in_graph = not self._seen, Counter[bytes]()
        asked = db.execute(
            "SELECT seq, answer, CASE WHEN embedder = ?1 THEN vector END, embedder <> ?1 OR ?1 = '' FROM answers"
            " WHERE seq > ?2 ORDER BY seq",
            (self._embedder, self._seen),
        )
        while rows := asked.fetchmany(LOADED_AT_ONCE):
            loaded = self._read([(answer, vector, bool(behind)) for _, answer, vector, behind in rows])
            in_graph.update(one.answer.scope for one in loaded if one.in_graph)
            self._hand(self._hearer.loaded, loaded)
            self._seen = rows[-1][0]
            if self._ending.is_set():
                return
        if first:
            self._draw(self._graphs.found(in_graph))

    def _read(self, rows: Iterable[tuple[bytes, bytes | None, bool]]) -> list[Loaded]:
        """Decode rows, all vectors of a scope at once."""
        import numpy as np  # not before somebody needs it

        loaded = [Loaded(_decode(answer), None, behind=behind) for answer, _, behind in rows]
        alike: dict[tuple[bytes, int], list[tuple[int, bytes]]] = {}
        for place, (one, (_, vector, _)) in enumerate(zip(loaded, rows, strict=True)):
            if vector is not None:
                alike.setdefault((one.answer.scope, len(vector) // 2), []).append((place, vector))
        for (scope, width), some in alike.items():
            halves = np.frombuffer(b"".join(vector for _, vector in some), np.float16)
            vectors = unit(halves.reshape(len(some), width))
            numbers = np.array([loaded[place].answer.number for place, _ in some], np.uint64)
            there = self._graphs.has(scope, numbers, vectors).tolist()
            for n, (place, _) in enumerate(some):
                loaded[place] = Loaded(loaded[place].answer, vectors[n], there[n])
        return loaded

    def _hand(self, call: Callable[[Any], None], what: Any) -> None:
        """Give something to the event loop, once it has taken what it was given before.

        All at once, it would do nothing else until it is through with them.
        """
        assert self._loop is not None
        while not self._taken_up.wait(EVERY_S):
            if self._ending.is_set() or self._loop.is_closed():
                return
        self._taken_up.clear()
        try:
            self._loop.call_soon_threadsafe(self._take_up, call, what)
        except RuntimeError:  # the loop is closed: nobody asks any more
            self._taken_up.set()

    def _take_up(self, call: Callable[[Any], None], what: Any) -> None:
        try:
            call(what)
        finally:
            self._taken_up.set()

    def _read_states(self, embedder: str) -> None:
        if not (embedder and self._path.exists()):
            return
        try:
            with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as db:
                asked = db.execute("SELECT policy, decider, state FROM learned WHERE embedder = ?", (embedder,))
                self._states = {(policy, decider): state for policy, decider, state in asked}
        except sqlite3.Error:
            return  # the thread will find out, and say so

    def _failed(self, error: Exception) -> None:
        # Locked, full, read-only: that passes. Anything else is about the file itself.
        if not isinstance(error, (sqlite3.OperationalError, sqlite3.ProgrammingError, OSError)):
            self._damage = error
        if not self.trouble:
            self._tell(f"The cache cannot be written to {self._path} ({error}). It works on, in memory.")
        self.trouble = str(error)

    def _worked(self) -> None:
        if self.trouble:
            self._tell(f"The cache is written again: {self._path}.")
            self.trouble = ""
