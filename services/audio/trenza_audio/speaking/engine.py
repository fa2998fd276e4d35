"""What a speaking engine is asked and what it answers: plain data that crosses the border of the worker process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
SoundFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]

SAMPLE_RATE_HZ = 24_000
"""What all formats carry but Opus, which knows 48,000 only."""
OPUS_RATE_HZ = 48_000


def sample_rate_of(sound_format: SoundFormat) -> int:
    """Samples per second of what a format carries."""
    return OPUS_RATE_HZ if sound_format == "opus" else SAMPLE_RATE_HZ


MAX_PIECES = 4096
"""As many as an input can have characters."""
SPEEDS = (0.25, 4.0)
"""The slowest and the fastest speech, as OpenAI has it; 1 is the voice's own speed."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class EspeakSpec:
    """How to run espeak-ng: `words_per_minute` at speed 1, `pitch` from 0 to 99."""

    slots: int = 8
    words_per_minute: int = 175
    pitch: int = 50

    def __post_init__(self) -> None:
        _require(1 <= self.slots <= 256, "slots must be between 1 and 256")
        _require(80 <= self.words_per_minute <= 225, "words_per_minute must be between 80 and 225")
        _require(0 <= self.pitch <= 99, "pitch must be between 0 and 99")


@dataclass(frozen=True, slots=True)
class BarkSpec:
    """How to load a Bark: `model` is a folder or a hub id ("suno/bark-small")."""

    model: str
    slots: int = 8
    threads: int = 1
    device: Device = "auto"

    def __post_init__(self) -> None:
        _require(1 <= self.slots <= 256, "slots must be between 1 and 256")
        _require(self.threads >= 1, "threads must be at least 1")


@dataclass(frozen=True, slots=True)
class KokoroSpec:
    """How to load a Kokoro: its ONNX graph and its file of voices."""

    model: str
    voices: str
    slots: int = 8
    threads: int = 1
    device: Device = "auto"

    def __post_init__(self) -> None:
        _require(1 <= self.slots <= 256, "slots must be between 1 and 256")
        _require(self.threads >= 1, "threads must be at least 1")


SpeechSpec: TypeAlias = EspeakSpec | BarkSpec | KokoroSpec


def spec_for(manifest: ModelManifest, slots: int, threads: int, device: Device) -> SpeechSpec:
    """How to run a manifest's model, whose `[speaking]` table may say more. Raises ModelLoadError where that makes no sense."""
    table = manifest.tables.get("speaking", {})
    try:
        match manifest.engine:
            case "espeak":
                return EspeakSpec(slots, **_whole_numbers(table, "words_per_minute", "pitch"))
            case "bark":
                return BarkSpec(_bark_model(manifest, table), slots, threads, device)
            case "kokoro":
                files = {role: _file(manifest, role) for role in ("model", "voices")}
                return KokoroSpec(**files, slots=slots, threads=threads, device=device)
    except (TypeError, ValueError) as error:
        raise ModelLoadError(f"its manifest's table [speaking] is wrong: {error}", "MANIFEST_INVALID") from None
    raise ModelLoadError(f"{manifest.engine!r} is no engine that speaks", "ENGINE_MISSING")


def _whole_numbers(table: Mapping[str, Any], *names: str) -> dict[str, int]:
    return {name: int(table[name]) for name in names if name in table}


def _bark_model(manifest: ModelManifest, table: Mapping[str, Any]) -> str:
    if "model" in manifest.files:
        return str(manifest.files["model"])
    if hub := str(table.get("hub", "")):
        return hub
    message = "its manifest names neither a folder under files.model nor a model under speaking.hub"
    raise ModelLoadError(message, "MODEL_FILE_MISSING")


def _file(manifest: ModelManifest, role: str) -> str:
    if role not in manifest.files:
        raise ModelLoadError(f"its manifest names no file under files.{role}", "MODEL_FILE_MISSING")
    return str(manifest.files[role])


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """Asks for speech.

    `pieces` are spoken one after the other, `voice` is the engine's own name of a voice and `language` its own tag of a
    language. `speed` 1 is the voice's own; `temperature` and `seed` are for engines that sample.
    """

    pieces: tuple[str, ...]
    voice: str
    language: str
    format: SoundFormat = "mp3"
    speed: float = 1.0
    temperature: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        _require(0 < len(self.pieces) <= MAX_PIECES, f"there must be between 1 and {MAX_PIECES} pieces")
        _require(all(self.pieces), "a piece must not be empty")
        _require(SPEEDS[0] <= self.speed <= SPEEDS[1], f"speed must be between {SPEEDS[0]} and {SPEEDS[1]}")
        _require(self.temperature is None or 0 <= self.temperature <= 2, "temperature must be between 0 and 2")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A piece has been spoken: the encoded sound that is ready by now, and how many pieces are done."""

    sound: bytes
    pieces_done: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a speech: the last bytes, the length of the sound, and what it took.

    `prefill_s` is the time to the end of the first piece, `decode_s` that of the others; tokens are 0 where the engine counts
    none.
    """

    sound: bytes
    duration_s: float
    prefill_s: float
    decode_s: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
