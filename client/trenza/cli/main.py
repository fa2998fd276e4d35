"""Finds the command that was asked for and runs it.

Any installed package adds a command through the entry-point group `trenza.commands`: a function that takes the arguments
after the command's name and returns the exit code. The first line of its docstring is its help.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from trenza.cli.errors import CommandError

GROUP = "trenza.commands"
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

Command = Callable[[Sequence[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `trenza …`; returns the exit code: 0 done, 1 failed, 2 asked wrongly."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands = {entry.name: entry for entry in entry_points(group=GROUP)}
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(commands))
        return 0 if words else EXIT_USAGE
    name, *rest = words
    if name not in commands:
        print(f"error: there is no command {name!r}\n\n{usage(commands)}", file=sys.stderr)
        return EXIT_USAGE
    try:
        command: Command = commands[name].load()
        return command(rest)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return 1


def usage(commands: Mapping[str, EntryPoint]) -> str:
    """What there is, a line for each command."""
    lines = [f"  {name:<8} {_summary(entry)}" for name, entry in sorted(commands.items())]
    return "\n".join(["usage: trenza COMMAND …", "", *lines, "", "`trenza COMMAND --help` says more."])


def _summary(entry: EntryPoint) -> str:
    """The first line of the command's docstring; one that cannot be loaded must not hide the others."""
    try:
        return str(entry.load().__doc__ or "").strip().partition("\n")[0]
    except Exception as error:
        return f"(cannot be loaded: {error})"
