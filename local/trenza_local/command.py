"""`trenza up`: the whole mesh in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from trenza_local.child import Hopeless
from trenza_local.components import KINDS, MODALITIES, components
from trenza_local.launcher import Launcher
from trenza_local.ports import ConfigurationError, require_free


def up(arguments: Sequence[str]) -> int:
    """Start the whole mesh on this machine; Ctrl-C stops it.

    Returns 0 after Ctrl-C, 1 with a line on standard error when the mesh cannot run.
    """
    options = _parser().parse_args(arguments)
    try:
        environ = {**os.environ, **_replicas(options.replicas)}
        installed = [modality for modality in MODALITIES if find_spec(KINDS[modality].module)]
        mesh = components(environ, installed, os.cpu_count() or 1)
        require_free(port for component in reversed(mesh) for port in component.ports)
        folder = _state_folder(options.state)
        asyncio.run(Launcher(mesh, folder, options.verbose).run())
    except (ConfigurationError, Hopeless) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the launcher listens to signals
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trenza up",
        description="Start the whole mesh on this machine; Ctrl-C stops it.",
        epilog="Settings are environment variables; those of the launcher are TRENZA_MODALITIES and TRENZA_<MODALITY>_REPLICAS.",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show everything that the components log, not warnings only"
    )
    parser.add_argument(
        "--replicas",
        metavar="MODALITY=N",
        action="append",
        default=[],
        help="how many replicas to run, as chat=2 (default: one of each modality)",
    )
    parser.add_argument("--state", type=Path, default=Path(".trenza"), help="folder for logs (default: .trenza)")
    return parser


def _replicas(wanted: Sequence[str]) -> Mapping[str, str]:
    """`chat=2` as the variable that says the same. Raises ConfigurationError."""
    variables = {}
    for word in wanted:
        modality, _, count = word.partition("=")
        if modality not in MODALITIES or not count.isdecimal():
            raise ConfigurationError(f"--replicas {word} is not like {MODALITIES[0]}=2")
        variables[f"TRENZA_{modality.upper()}_REPLICAS"] = count
    return variables


def _state_folder(wanted: Path) -> Path:
    try:
        (wanted / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot make the folder {wanted} ({error.strerror}); choose another with --state"
        ) from error
    return wanted
