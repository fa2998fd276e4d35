"""The recipe as commands: train, export, evaluate."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trenza_recipes.starter_vision", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train from scratch, or on from the checkpoints in FOLDER")
    training.add_argument("folder", type=Path)
    training.add_argument("--pictures", type=int, help="pictures of the first stage; fewer for a quick trial")
    training.add_argument("--conversations", type=int, help="conversations of the second stage")
    exporting = commands.add_parser("export", help="write the checkpoint in FOLDER as two GGUF files")
    exporting.add_argument("folder", type=Path)
    exporting.add_argument("target", type=Path)
    evaluating = commands.add_parser("evaluate", help="ask the two files held-out questions through llama.cpp")
    evaluating.add_argument("model", type=Path, help="the folder of the two files")
    evaluating.add_argument("--count", type=int, default=50, help="questions per kind and language")
    evaluating.add_argument("--seed", type=int, default=1)
    evaluating.add_argument("--shown", type=int, default=3, help="wrong answers to print per kind and language")
    evaluating.add_argument("--drawings", type=int, default=100, help="pictures of starter-draw's world to describe")
    return parser.parse_args()


def main() -> None:
    """Run one command; each imports only what it needs."""
    given = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.command == "train":
        from trenza_recipes.starter_vision import seeing, talking

        first, second = seeing.Settings(), talking.Settings()
        if given.pictures is not None:
            first = replace(first, pictures=given.pictures)
        if given.conversations is not None:
            second = second.shortened(given.conversations)
        seeing.learn_to_see(given.folder, first)
        talking.Talking(given.folder, second).run()
    elif given.command == "export":
        from trenza_recipes.starter_vision.export import export_folder

        export_folder(given.folder, given.target)
    else:
        from trenza_recipes.starter_vision.evaluate import evaluate, evaluate_drawings

        evaluate(given.model, given.count, given.seed, given.shown)
        print(
            f"pictures of starter-draw's world described rightly: {evaluate_drawings(given.model, given.drawings, 1):.1%}"
        )


if __name__ == "__main__":
    main()
