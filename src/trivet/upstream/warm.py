"""Connections kept open before anybody asks, so that the first request need not wait for one (`warm = N`).

Not here: opening one (`Way.warm`). Invariants: nothing waits for it; a target that is down costs one attempt a minute
and one line until it is up again.
"""

import asyncio
from collections.abc import Callable

from trivet.upstream.reply import HttpError
from trivet.upstream.way import Way

_LOOK_S = 1.0
"""Between two looks at how many are open: so long a connection may be missing."""
_MOST_S = 60.0
"""Between two attempts at a target that is down, or that soon closes what nobody uses."""
_LASTED_S = 10.0
"""Gone sooner than this is as good as a failure: each time twice as long is waited. (Uvicorn closes after 5 s.)"""


async def keep_warm(way: Way, count: int, *, name: str, tell: Callable[[str], None]) -> None:
    """Keep at least `count` connections open, until cancelled."""
    loop = asyncio.get_running_loop()
    pause_s, opened_s, seen_s, told = _LOOK_S, 0.0, _LASTED_S, False
    while True:
        missing = count - way.connections().open
        if missing > 0:
            lasted = seen_s - opened_s >= _LASTED_S
            pause_s = _LOOK_S if lasted else min(2 * pause_s, _MOST_S)
            results = await asyncio.gather(*(way.warm() for _ in range(missing)), return_exceptions=True)
            failed = [error for error in results if error is not None]
            for error in failed:
                if not isinstance(error, HttpError):
                    raise error
            if failed and not told:
                tell(f"{name}: no connection could be opened ahead: {failed[0]} It is tried again, quietly.")
            told = bool(failed)
            opened_s = seen_s = loop.time()
        else:
            seen_s = loop.time()
            pause_s = _LOOK_S if seen_s - opened_s >= _LASTED_S else pause_s
        await asyncio.sleep(pause_s)
