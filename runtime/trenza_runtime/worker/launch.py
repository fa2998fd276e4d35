"""Starts a process from one that runs gRPC, and waits for its end without blocking the event loop."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread


class ChildProcess:
    """A process that was started by the calling thread, which has to outlive it where it is to die with its parent.

    The event loop's own way of starting processes forks, and gRPC's fork handlers then crash in the child now and then.
    `subprocess` uses `vfork`, which runs no handlers; it blocks the event loop until the child's `exec`, some milliseconds.
    """

    def __init__(self, command: Sequence[str], pass_fds: Sequence[int], output_fd: int) -> None:
        """Starts it, with nothing to read and standard output and error on `output_fd`. Raises OSError."""
        self._popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output_fd, stderr=output_fd, pass_fds=pass_fds
        )
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        Thread(target=self._wait_in_thread, name=f"wait-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._popen.pid

    async def wait(self) -> int:
        """Waits for the end; returns the exit code, or minus the signal's number."""
        return await asyncio.shield(self._ended)

    def signal(self, number: int) -> None:
        """Sends a signal; one that comes after the end is dropped."""
        if not self._ended.done():
            with suppress(ProcessLookupError):
                self._popen.send_signal(number)

    def _wait_in_thread(self) -> None:
        code = self._popen.wait()
        with suppress(RuntimeError):  # the event loop may be closed by now
            self._ended.get_loop().call_soon_threadsafe(self._ended.set_result, code)
