"""What a model engine looks like from the worker process that hosts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """The end of one request that the engine could not serve.

    `reason` is UPPER_SNAKE_CASE and machine-readable (it becomes `google.rpc.ErrorInfo.reason`); `message` is for people;
    `details` carries figures such as `{"prompt_tokens": "9000", "limit": "4096"}`.
    """

    reason: str
    message: str
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Emission:
    """One event of one request; `last` says that nothing follows for this request. `event` may be an `EngineFailure`."""

    request_id: str
    event: Any
    last: bool


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a loaded model turned out to be; sent once when loading is done.

    `slots` is how many requests the engine runs together, `memory_bytes` what the model holds by device
    (`{"cpu": …, "cuda:0": …}`), `properties` whatever else is worth showing (context length, quantisation …).
    """

    slots: int
    memory_bytes: Mapping[str, int]
    properties: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """One loaded model. All methods are called from one thread of the worker process; none but `step` may take long.

    `step` is schedule → run → post-process: it advances every running request by one step of the device and returns what
    came of it. A request that cannot be served ends with an `EngineFailure` emission instead of an exception; an
    exception out of `step` means that the engine is broken and the worker process ends.
    """

    @property
    def facts(self) -> ModelFacts:
        """What the loaded model is; constant."""

    def submit(self, request_id: str, request: Any) -> None:
        """Accepts a request; its events come out of later steps, the last one marked so."""

    def cancel(self, request_id: str) -> None:
        """Forgets a request; takes effect before the next step runs. Unknown ids are ignored. Nothing is emitted for it."""

    def step(self) -> Sequence[Emission]:
        """Runs one step and returns its events."""

    @property
    def busy(self) -> bool:
        """Whether another step has work to do."""

    def gauges(self) -> Mapping[str, float]:
        """Figures worth watching, by metric suffix (`"kv_used_ratio"`), read about once a second."""

    def close(self) -> None:
        """Frees the model."""


ProgressReporter = Callable[[float], None]
"""Called with the part loaded so far, from 0 to 1."""


class EngineLoader(Protocol):
    """Loads a model. Named by import path (`"trenza_chat.engines.llama:load"`) so that only the worker process imports it.

    Raises `ModelLoadError` with a sentence for people when the model cannot be loaded (file missing, corrupt, too large).
    """

    def __call__(self, spec: Any, report: ProgressReporter) -> Engine: ...


class ModelLoadError(Exception):
    """The model cannot be loaded; the message says why. `reason` is machine-readable."""

    def __init__(self, message: str, reason: str = "MODEL_LOAD_FAILED") -> None:
        super().__init__(message)
        self.reason = reason
