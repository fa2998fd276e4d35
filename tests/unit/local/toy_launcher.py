"""A launcher of toys: scheduler, chat-0, chat-1 and gateway, related as in a real mesh."""

import asyncio
import os
import sys
from pathlib import Path

from trenza_local.child import Hopeless
from trenza_local.components import Component
from trenza_local.launcher import Launcher


def toy(name: str, needs: tuple[str, ...] = (), uses: tuple[str, ...] = ()) -> Component:
    """A component that runs the toy under this name."""
    return Component(name, "toy", environment={"TOY_NAME": name}, needs=needs, uses=uses)


mesh = [
    toy("scheduler"),
    toy("chat-0", needs=("scheduler",)),
    toy("chat-1", needs=("scheduler",)),
    toy("gateway", needs=("scheduler", "chat-0", "chat-1")),
]
try:
    asyncio.run(Launcher(mesh, Path(os.environ["TOY_FOLDER"]) / "state", verbose=False, stop_grace_s=3.0).run())
except Hopeless as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
