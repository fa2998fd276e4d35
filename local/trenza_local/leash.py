"""Becomes a command that Linux kills when the launcher dies: `python leash.py LAUNCHER-PID COMMAND …`.

A program of its own, because code between fork and exec is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Does not return."""
    launcher_pid, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(launcher_pid):
            sys.exit(1)  # it died before this could be asked for
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
