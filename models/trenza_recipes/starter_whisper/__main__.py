"""The recipe as commands: train, export, evaluate."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trenza_recipes.starter_whisper", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train, going on from the checkpoint in FOLDER if there is one")
    training.add_argument("folder", type=Path)
    training.add_argument("--samples", type=int, help="how many samples to learn from")
    training.add_argument("--falling", type=int, help="from which sample on the learning rate falls to zero")
    training.add_argument("--threads", type=int, help="processor threads")
    exporting = commands.add_parser("export", help="write the checkpoint in FOLDER as a CTranslate2 folder, 8 bits")
    exporting.add_argument("folder", type=Path)
    exporting.add_argument("target", type=Path)
    evaluating = commands.add_parser("evaluate", help="have a CTranslate2 folder hear held-out sentences")
    evaluating.add_argument("model", type=Path)
    evaluating.add_argument("--count", type=int, default=100, help="sentences per kind and language")
    evaluating.add_argument("--seed", type=int, default=1)
    evaluating.add_argument("--shown", type=int, default=3, help="mistakes to print per kind and language")
    return parser.parse_args()


def main() -> None:
    """Run one command; each imports only what it needs."""
    given = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.command == "train":
        from trenza_recipes.starter_whisper.train import Settings, train

        chosen = {name: getattr(given, name) for name in ("samples", "falling", "threads")}
        train(given.folder, replace(Settings(), **{name: value for name, value in chosen.items() if value is not None}))
    elif given.command == "export":
        from trenza_recipes.starter_whisper.export import export

        export(given.folder, given.target)
    else:
        from trenza_recipes.starter_whisper.evaluate import evaluate

        evaluate(given.model, given.count, given.seed, given.shown)


if __name__ == "__main__":
    main()
