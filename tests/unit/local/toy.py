"""A component for tests: keeps a story of starts and stops, and behaves as a file beside it says."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    """Runs until SIGTERM, unless its behaviour is another."""
    folder, name = Path(os.environ["TOY_FOLDER"]), os.environ["TOY_NAME"]

    def say(word: str) -> None:
        with (folder / "story").open("a") as story:
            story.write(f"{word} {name}\n")

    def stop(*_: object) -> None:
        say("stop")
        sys.exit(0)

    behaviour = folder / f"{name}.behaviour"
    mode = behaviour.read_text() if behaviour.exists() else ""
    if mode == "misconfigured":
        (folder / f"{name}.complained").touch()
        print("error: the toy is set up wrongly", file=sys.stderr)
        sys.exit(2)
    if mode == "broken":
        say("break")
        raise KeyError("a part is missing")
    say("start")
    signal.signal(signal.SIGINT, lambda *_: say("interrupt"))
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else stop)
    if mode == "talkative":
        print("x" * 2**21)
        print(json.dumps({"level": "warning", "event": "after the flood"}), flush=True)
        print(json.dumps({"level": "info", "event": "a whisper"}), flush=True)
    (folder / f"{name}.pid").write_text(str(os.getpid()))
    if mode == "slow":
        time.sleep(60)
    ready = Path(os.environ["TRENZA_READY_FILE"])
    draft = ready.with_suffix(".part")
    draft.write_text(json.dumps({"http_port": 1, "grpc_port": 2}))
    draft.rename(ready)
    (folder / f"{name}.ready").touch()
    if mode == "mortal":
        behaviour.unlink()
        sys.exit(3)
    while True:
        time.sleep(0.05)


main()
