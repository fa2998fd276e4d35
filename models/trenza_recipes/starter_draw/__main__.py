"""The recipe as commands: train, export, evaluate."""

from __future__ import annotations

import argparse
from pathlib import Path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trenza_recipes.starter_draw", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train from scratch; leaves a pipeline in FOLDER/pipeline")
    training.add_argument("folder", type=Path)
    training.add_argument("--minutes", type=float, help="minutes for all stages; fewer for a quick trial")
    training.add_argument("--threads", type=int, default=1, help="processor threads")
    exporting = commands.add_parser("export", help="write the pipeline in FOLDER in half precision")
    exporting.add_argument("folder", type=Path)
    exporting.add_argument("target", type=Path)
    evaluating = commands.add_parser(
        "evaluate", help="draw held-out prompts with a pipeline folder and judge the pictures"
    )
    evaluating.add_argument("pipeline", type=Path)
    evaluating.add_argument("--count", type=int, default=200, help="prompts")
    evaluating.add_argument("--seed", type=int, default=1)
    evaluating.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    evaluating.add_argument("--height", type=int, default=128)
    evaluating.add_argument("--width", type=int, default=128)
    evaluating.add_argument("--sheet", type=Path, help="save the first hundred pictures as one (PNG)")
    evaluating.add_argument("--shown", type=int, default=5, help="wrong prompts to print per number of steps")
    return parser.parse_args()


def main() -> None:
    """Run one command; each imports only what it needs."""
    given = _arguments()
    if given.command == "train":
        from trenza_recipes.starter_draw.train import Settings, train

        settings = Settings() if given.minutes is None else Settings().within(given.minutes)
        train(given.folder, settings, given.threads)
    elif given.command == "export":
        from trenza_recipes.starter_draw.export import export

        print(export(given.folder, given.target), "bytes")
    else:
        from trenza_recipes.starter_draw.evaluate import evaluate

        sides = (given.height, given.width)
        evaluate(given.pipeline, given.count, given.seed, tuple(given.steps), sides, given.sheet, given.shown)


if __name__ == "__main__":
    main()
