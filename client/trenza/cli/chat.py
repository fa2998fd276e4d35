"""`trenza chat`: a conversation at the terminal, or one question."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from contextlib import closing

from trenza.cli.errors import CommandError
from trenza.cli.gateway import GatewayApi, add_gateway_options

Message = dict[str, str]


def chat(arguments: Sequence[str]) -> int:
    """Talk to a model."""
    parser = argparse.ArgumentParser(
        prog="trenza chat", description="Talk to a model. Ctrl-C stops an answer, Ctrl-D ends."
    )
    parser.add_argument("model", nargs="?", help="default: the first chat model of the fleet")
    parser.add_argument("-m", "--message", help="ask this one thing and end; - reads it from standard input")
    parser.add_argument("-s", "--system", help="instructions for the model")
    add_gateway_options(parser)
    options = parser.parse_args(arguments)
    history: list[Message] = [{"role": "system", "content": options.system}] if options.system else []
    with closing(GatewayApi(options.url)) as api:
        model = options.model or first_chat_model(api)
        if options.message is not None:
            question = sys.stdin.read() if options.message == "-" else options.message
            answer(api, model, [*history, {"role": "user", "content": question}])
        else:
            print(f"{model}: say something", file=sys.stderr)
            converse(api, model, history, input)
    return 0


def first_chat_model(api: GatewayApi) -> str:
    """The first model that can hold a conversation; raises CommandError when there is none."""
    for model in api.models():
        if "chat" in model["capabilities"]:
            return str(model["id"])
    raise CommandError("the fleet has no chat model")


def converse(api: GatewayApi, model: str, history: list[Message], ask: Callable[[str], str]) -> None:
    """Question by question, until the person has no more. A failed answer ends nothing."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  gives `input` its editing and history

    while True:
        try:
            question = ask("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not question:
            continue
        turn = [*history, {"role": "user", "content": question}]
        try:
            history[:] = [*turn, {"role": "assistant", "content": answer(api, model, turn)}]
        except CommandError as error:
            print(f"error: {error}", file=sys.stderr)


def answer(api: GatewayApi, model: str, messages: list[Message]) -> str:
    """Prints the answer as it arrives and returns it, or as much as there was before Ctrl-C. Raises CommandError."""
    pieces: list[str] = []
    try:
        with closing(api.chat(model, messages)) as arriving:
            for piece in arriving:
                pieces.append(piece)
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pass
    print()
    return "".join(pieces)
