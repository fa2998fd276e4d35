"""Why a model could not be fetched, and the exit code that says so."""

from __future__ import annotations

import errno
from enum import IntEnum

_VOLUME_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
)


class ExitCode(IntEnum):
    """What the process ends with. Of several failures the first one counts."""

    DONE = 0
    """Every model is in place."""
    CRASHED = 1
    """A mistake of the program; the log has a traceback."""
    CONFIGURATION = 2
    """The configuration makes no sense; starting again would not help."""
    UNREACHABLE = 3
    """A source did not answer, or broke off, as often as it was tried."""
    REFUSED = 4
    """A source has no such thing, does not let us have it, or offers names that cannot be written."""
    CHECKSUM = 5
    """A file is not the one that was asked for."""
    VOLUME = 6
    """The models root cannot be written, is full, or has something else under the model's name."""
    LOCKED = 7
    """Another process fetches the same model, longer than this one was to wait."""
    MODEL = 8
    """What was fetched is no model: its manifest is missing or wrong."""
    STOPPED = 143
    """SIGTERM or SIGINT."""


class FetchFailure(Exception):
    """A model could not be fetched; the message is one sentence that says why."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Transient(FetchFailure):
    """A failure that may be gone when tried again."""

    def __init__(self, message: str) -> None:
        super().__init__(ExitCode.UNREACHABLE, message)


class Stopped(FetchFailure):
    """The process is to end."""

    def __init__(self) -> None:
        super().__init__(ExitCode.STOPPED, "stopped by a signal")


def volume_failure(error: OSError) -> FetchFailure | None:
    """The failure where the error is the volume's: full, read-only or not ours. None where it is something else."""
    if error.errno not in _VOLUME_ERRORS:
        return None
    return FetchFailure(ExitCode.VOLUME, f"the models root cannot be written: {error.strerror}")
