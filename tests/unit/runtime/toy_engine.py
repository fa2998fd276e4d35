"""An engine without a model: counts, and misbehaves on request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trenza_runtime.worker.engine import Emission, EngineFailure, ModelFacts, ModelLoadError


class ToyEngine:
    """A request is how far to count, or a word that says how to misbehave."""

    facts = ModelFacts(slots=2, memory_bytes={"cpu": 1000}, properties={"kind": "toy"})

    def __init__(self) -> None:
        self._running: dict[str, tuple[Any, int]] = {}
        self._cancelled = 0

    def submit(self, request_id: str, request: Any) -> None:
        self._running[request_id] = (request, 0)

    def cancel(self, request_id: str) -> None:
        self._cancelled += self._running.pop(request_id, None) is not None

    def step(self) -> Sequence[Emission]:
        emissions = []
        time.sleep(0.002)
        for request_id, (request, count) in list(self._running.items()):
            if request == "abort":
                os.abort()
            if request == "hang":
                time.sleep(3600)
            if request == "raise":
                raise RuntimeError("broken")
            if request in ("refuse", "explode"):
                reason = "INVALID_ARGUMENT" if request == "refuse" else "DECODE_FAILED"
                emissions.append(Emission(request_id, EngineFailure(reason, f"I {request}."), last=True))
                del self._running[request_id]
                continue
            last = count + 1 == request
            emissions.append(Emission(request_id, count, last))
            self._running[request_id] = (request, count + 1)
            if last:
                del self._running[request_id]
        return emissions

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def gauges(self) -> Mapping[str, float]:
        return {"cancelled": self._cancelled, "slots_used": len(self._running)}

    def close(self) -> None:
        pass


def load(spec: Any, report: Callable[[float], None]) -> ToyEngine:
    """Loads as the spec says: `ok`, `slow`, `corrupt`, `mistake`, `abort`, `prints`."""
    report(0.5)
    if spec == "mistake":
        report(1 / 0)
    if spec == "prints":
        os.write(1, b"to standard output\n")
        os.write(2, b"to standard error\n")
    if spec == "corrupt":
        raise ModelLoadError("The file is no model.")
    if spec == "abort":
        os.abort()
    if spec == "slow":
        time.sleep(0.5)
    report(1.0)
    return ToyEngine()
