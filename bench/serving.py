"""One model service alone on this machine, for the benchmarks to measure from outside."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_LIMIT_S = 300.0


def one_model(root: Path, modality: str, engine: str, files: dict[str, Path]) -> Path:
    """A root of models in `root` with just one, named `bench`."""
    place = root / "bench"
    place.mkdir(parents=True)
    for key, path in files.items():
        (place / key).symlink_to(path.resolve())
    lines = [
        'name = "bench"',
        f'modality = "{modality}"',
        f'engine = "{engine}"',
        "[files]",
        *(f'{key} = "{key}"' for key in files),
    ]
    (place / "model.toml").write_text("\n".join(lines) + "\n")
    return root


@contextlib.contextmanager
def running_service(modality: str, models_root: Path, **settings: object) -> Iterator[str]:
    """The service of a modality, without scheduler and gateway; gives its address. `settings` as in docs/configuration.md."""
    settings = {"models_root": models_root, "grpc_port": 0, "metrics_port": -1, **settings}
    named = {f"TRENZA_{modality}_{name}".upper(): str(value) for name, value in settings.items()}
    with tempfile.TemporaryDirectory() as name:
        ready, log = Path(name) / "ready", Path(name) / "log"
        environment = {**os.environ, "TRENZA_READY_FILE": str(ready), "TRENZA_LOG_LEVEL": "warning", **named}
        with log.open("wb") as output:
            command = [sys.executable, "-m", f"trenza_{modality}"]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            try:
                yield f"127.0.0.1:{_port(process, ready, log)}"
            finally:
                process.terminate()
                process.wait()


def _port(process: subprocess.Popen[bytes], ready: Path, log: Path) -> int:
    end = time.monotonic() + START_LIMIT_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > end:
            sys.exit(f"the service did not start:\n{log.read_text()}")
        time.sleep(0.1)
    return int(json.loads(ready.read_text())["grpc_port"])
