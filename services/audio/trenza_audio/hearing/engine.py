"""What the hearing engine is asked and what it answers: plain data that crosses the border of the worker process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Task: TypeAlias = Literal["transcribe", "translate"]
Undecided: TypeAlias = Literal["none", "auto"]
"""Ways to cut sound that have no settings: in one go, or as the engine likes."""

MAX_PROMPT_CHARS = 16_384
MAX_HOTWORDS = 256
MAX_HOTWORD_CHARS = 128


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class WhisperSpec:
    """How to load a Whisper.

    `model` is a folder in CTranslate2's format, a name of faster-whisper's catalogue ("large-v3-turbo") or a hub id.
    Requests beyond `slots` wait, at most `max_waiting` of them. `batch` stretches of 30 seconds are heard in one step.
    `sound_limit_s` is the longest sound that a request may hold. Raises ValueError for values that cannot work.
    """

    model: str
    slots: int = 8
    batch: int = 8
    threads: int = 1
    device: Device = "auto"
    compute_type: str = "auto"
    beam_size: int = 5
    sound_limit_s: float = 6 * 3600.0
    max_waiting: int = 256

    def __post_init__(self) -> None:
        _require(1 <= self.slots <= 256, "slots must be between 1 and 256")
        _require(1 <= self.batch <= 128, "batch must be between 1 and 128")
        _require(self.threads >= 1, "threads must be at least 1")
        _require(self.beam_size >= 1, "beam_size must be at least 1")
        _require(self.sound_limit_s > 0, "sound_limit_s must be above 0")


@dataclass(frozen=True, slots=True)
class VoiceActivity:
    """How to cut sound where nobody speaks: how sure the detector must be, and milliseconds of padding and of silence.

    `gathers` puts what was cut together again, without the silence, up to what the model hears at once: Whisper is better
    and faster with more to hear. Without it every silence of that length ends a passage.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 400
    silence_duration_ms: int = 160
    gathers: bool = True

    def __post_init__(self) -> None:
        _require(0 < self.threshold < 1, "threshold must lie between 0 and 1")
        _require(0 <= self.prefix_padding_ms <= 10_000, "prefix_padding_ms must be between 0 and 10000")
        _require(0 <= self.silence_duration_ms <= 30_000, "silence_duration_ms must be between 0 and 30000")


@dataclass(frozen=True, slots=True)
class HearRequest:
    """Asks for what is said in a file.

    `path` is the upload as the service spooled it. `language` "" is detected. `temperature` None is 0 with the fallback to
    higher ones. `chunking` "none" hears the sound in one go, "auto" leaves the choice to the engine.
    """

    path: str
    task: Task = "transcribe"
    language: str = ""
    prompt: str = ""
    temperature: float | None = None
    words: bool = False
    logprobs: bool = False
    hotwords: tuple[str, ...] = ()
    chunking: VoiceActivity | Undecided = "none"

    def __post_init__(self) -> None:
        _require(len(self.prompt) <= MAX_PROMPT_CHARS, f"a prompt has at most {MAX_PROMPT_CHARS} characters")
        _require(len(self.hotwords) <= MAX_HOTWORDS, f"there can be at most {MAX_HOTWORDS} hotwords")
        _require(self.temperature is None or 0 <= self.temperature <= 1, "temperature must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class Started:
    """The sound has been understood; `duration_s` is 0 where the file does not say."""

    language: str
    language_probability: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Word:
    """A timed word, with the spaces and punctuation that touch it."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of a transcript with the natural logarithm of its probability and its raw bytes."""

    token: int
    text: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a transcript, in the order of the sound."""

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    mean_logprob: float
    compression_ratio: float
    no_speech_probability: float
    words: tuple[Word, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Advanced:
    """How much of the sound is done, in seconds; `total_s` is 0 where it is not known yet."""

    done_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a transcript: the sound's length, the seconds in which somebody speaks, and where the time went."""

    language: str
    duration_s: float
    speech_s: float
    queue_s: float
    prefill_s: float
    decode_s: float
