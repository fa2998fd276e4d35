"""The recipe as commands: train, export, evaluate."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trenza_recipes.starter_chat", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train from scratch; leaves a checkpoint and a report in FOLDER")
    training.add_argument("folder", type=Path)
    training.add_argument("--stage-steps", type=int, nargs=4, help="steps of the four stages; fewer for a quick trial")
    training.add_argument("--threads", type=int, help="processor threads")
    exporting = commands.add_parser("export", help="write the checkpoint in FOLDER as a GGUF file")
    exporting.add_argument("folder", type=Path)
    exporting.add_argument("target", type=Path)
    evaluating = commands.add_parser("evaluate", help="ask a GGUF file held-out questions through llama.cpp")
    evaluating.add_argument("model", type=Path)
    evaluating.add_argument("--count", type=int, default=100, help="questions per kind and language")
    evaluating.add_argument("--seed", type=int, default=1)
    evaluating.add_argument("--temperature", type=float, default=0.0)
    evaluating.add_argument("--shown", type=int, default=3, help="wrong answers to print per kind and language")
    return parser.parse_args()


def main() -> None:
    """Run one command; each imports only what it needs."""
    given = _arguments()
    if given.command == "train":
        from trenza_recipes.starter_chat.train import Settings, train

        settings = Settings()
        if given.threads is not None:
            settings = replace(settings, threads=given.threads)
        if given.stage_steps is not None:
            settings = settings.shortened(*given.stage_steps)
        train(given.folder, settings)
    elif given.command == "export":
        from trenza_recipes.starter_chat.export import export

        export(given.folder, given.target)
    else:
        from trenza_recipes.starter_chat.evaluate import evaluate

        evaluate(given.model, given.count, given.seed, given.temperature, given.shown)


if __name__ == "__main__":
    main()
