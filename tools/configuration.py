"""Writes `docs/configuration.md` from the settings of each process: `python tools/configuration.py`, or `--check`."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from trenza_audio.settings import AudioSettings
from trenza_chat.settings import ChatSettings
from trenza_gateway.settings import Settings as GatewaySettings
from trenza_images.settings import ImagesSettings
from trenza_runtime.rpc.tls import TlsSettings
from trenza_scheduler.settings import SchedulerSettings
from trenza_vision.settings import VisionSettings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
COMPONENTS: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("Between processes", TlsSettings),
    ("Gateway", GatewaySettings),
    ("Scheduler", SchedulerSettings),
    ("Chat", ChatSettings),
    ("Audio", AudioSettings),
    ("Images", ImagesSettings),
    ("Vision", VisionSettings),
)
HEAD = """# Configuration

Every process is configured by environment variables. A value that makes no sense is refused at start, in one line that names
the variable. This page is made from the code by `python tools/configuration.py`.

## Every process

| Variable | Default | Meaning |
|---|---|---|
| `TRENZA_LOG_LEVEL` | `info` | `debug`, `info`, `warning` or `error`. |
| `TRENZA_LOG_FORMAT` | `human` | `human` or `json`, one object a line. |
| `TRENZA_READY_FILE` | | Where the process writes its ports as JSON once it is ready. |

## The launcher (`make run`, `trenza up`)

| Variable | Default | Meaning |
|---|---|---|
| `TRENZA_MODALITIES` | all: `chat,audio,images,vision` | Which model services to install and start, separated by commas. |
| `TRENZA_<MODALITY>_REPLICAS` | `1` | How many replicas of each to start: `TRENZA_CHAT_REPLICAS` and so on. |

It passes the variables below on to the processes; replicas get names and ports of their own. They share one certificate, which
then has to name every component, the gateway and the scheduler among them.
"""
NOTES = {
    "Between processes": "All three or none, see [transport security](architecture.md#transport-security). They are read again "
    "when they change.\n",
}
UNITS = {"_s": "seconds", "_ms": "milliseconds", "_bytes": "bytes"}


def page() -> str:
    """The whole page."""
    sections = [HEAD]
    for title, settings in COMPONENTS:
        rows = [_row(settings, name, field) for name, field in settings.model_fields.items()]
        note = [NOTES[title]] if title in NOTES else []
        sections.append(
            "\n".join([f"## {title}\n", *note, "| Variable | Default | Meaning |", "|---|---|---|", *rows]) + "\n"
        )
    return "\n".join(sections)


def _row(settings: type[BaseSettings], name: str, field: FieldInfo) -> str:
    variable = f"{settings.model_config.get('env_prefix', '')}{name}".upper()
    unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
    if field.default_factory is not None:
        default = "by the machine"
    elif field.default is None or field.default == "":
        default = ""
    else:
        default = f"`{field.default}`" + (f" {unit}" if unit else "")
    return f"| `{variable}` | {default} | {field.description} |"


def main() -> None:
    """Writes the page, or says that it is out of date."""
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit("docs/configuration.md is out of date: run python tools/configuration.py")


if __name__ == "__main__":
    main()
