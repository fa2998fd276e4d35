"""The failure of a command."""

from __future__ import annotations


class CommandError(Exception):
    """The command failed; the message is one sentence for the person at the terminal."""
