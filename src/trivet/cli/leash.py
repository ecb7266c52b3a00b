"""`python -m trivet.cli.leash FD serve ...`: the command line, on a leash.

It ends when the process that holds the other end of the pipe FD does, also by kill -9: the kernel closes the pipe
then, on every system, which a signal at the parent's death does on Linux only. Not a command for people.
"""

import os
import signal
import sys
import threading

from trivet.cli.main import main


def _watch(fd: int) -> None:
    while os.read(fd, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_watch, args=(int(sys.argv.pop(1)),), daemon=True).start()
    main()
