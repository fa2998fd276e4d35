"""Translates the audio API into requests of the speaking engines and their events back; pure, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from grpc import StatusCode
from trenza.audio.v1 import audio_pb2 as pb
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.models.manifest import ModelManifest

from trenza_audio.speaking import engine
from trenza_audio.speaking.core.languages import code_of
from trenza_audio.speaking.core.pieces import limit_for, split
from trenza_audio.speaking.core.voices import (
    DEFAULT_VOICE,
    OPENAI_VOICES,
    Cast,
    Role,
    UnknownLanguage,
    UnknownVoice,
    Voice,
)
from trenza_audio.speaking.core.wording import clean, speakable

MAX_INPUT_CHARS = 4096
"""The longest text, as OpenAI has it."""
MAX_CHUNK_BYTES = 2**18
_MAX_TEMPERATURE = 2.0
_NAMES_SHOWN = 60
_SHOWN_CHARS = 64

_FORMATS: Mapping[pb.AudioFormat.ValueType, engine.SoundFormat] = {
    pb.AUDIO_FORMAT_UNSPECIFIED: "mp3",
    pb.AUDIO_FORMAT_MP3: "mp3",
    pb.AUDIO_FORMAT_OPUS: "opus",
    pb.AUDIO_FORMAT_AAC: "aac",
    pb.AUDIO_FORMAT_FLAC: "flac",
    pb.AUDIO_FORMAT_WAV: "wav",
    pb.AUDIO_FORMAT_PCM: "pcm",
}


@dataclass(frozen=True)
class PieceLimits:
    """How many characters an engine speaks in one go; shorter sentences than `least_chars` go together with the next."""

    most_chars: int
    least_chars: int = 1


_PIECES: Mapping[str, PieceLimits] = {
    "espeak": PieceLimits(300),
    "bark": PieceLimits(180, 20),  # Bark hears itself for 13 seconds, and makes things up around a single word
    "kokoro": PieceLimits(250, 10),
}

Detect = Callable[[str, Sequence[str]], str]
"""The language of a text among some."""


@dataclass(frozen=True)
class Plan:
    """What is asked of the engine, and what the caller is told of it at once."""

    request: engine.SpeechRequest
    role: Role
    format: pb.AudioFormat.ValueType
    input_characters: int

    def started(self) -> pb.SpeakResponse:
        """The first message."""
        started = pb.SpeechStarted(
            format=self.format,
            sample_rate_hz=engine.sample_rate_of(self.request.format),
            voice=self.role.voice,
            language=self.role.language,
        )
        return pb.SpeakResponse(started=started)

    def responses(self, event: object, queued_s: float) -> Iterator[pb.SpeakResponse]:
        """The messages that an event of the engine becomes."""
        assert isinstance(event, engine.Spoken | engine.Finished)
        for begin in range(0, len(event.sound), MAX_CHUNK_BYTES):
            yield pb.SpeakResponse(chunk=event.sound[begin : begin + MAX_CHUNK_BYTES])
        steps = len(self.request.pieces)
        done = event.pieces_done if isinstance(event, engine.Spoken) else steps
        yield pb.SpeakResponse(progress=common_pb2.Progress(fraction=done / steps, step=done, steps=steps))
        if isinstance(event, engine.Finished):
            yield pb.SpeakResponse(summary=self._summary(event, queued_s))

    def _summary(self, finished: engine.Finished, queued_s: float) -> pb.SpeechSummary:
        tokens = common_pb2.TokenUsage(
            prompt_tokens=finished.prompt_tokens, completion_tokens=finished.completion_tokens
        )
        timings = common_pb2.Timings(queue_s=queued_s, prefill_s=finished.prefill_s, decode_s=finished.decode_s)
        return pb.SpeechSummary(
            duration_s=finished.duration_s,
            input_characters=self.input_characters,
            usage=tokens if finished.prompt_tokens or finished.completion_tokens else None,
            timings=timings,
        )


def invalid(param: str, message: str, reason: str = Reason.INVALID_ARGUMENT) -> RpcFault:
    """The fault for a field whose value cannot be honoured; `details["param"]` names the field as OpenAI does."""
    return RpcFault(StatusCode.INVALID_ARGUMENT, reason, message, {"param": param})


def plan(request: pb.SpeakRequest, manifest: ModelManifest, cast: Cast, detect: Detect) -> Plan:
    """What a request comes to with a model. Raises RpcFault INVALID_ARGUMENT naming the field that cannot be honoured."""
    text = _text(request.input)
    sound_format = _FORMATS.get(request.format)
    if sound_format is None:
        raise invalid("response_format", f"There is no format of the number {request.format}.")
    speed = _number(request.speed if request.HasField("speed") else None, "speed", manifest.defaults, *engine.SPEEDS)
    temperature = request.temperature if request.HasField("temperature") else None
    temperature = _number(temperature, "temperature", manifest.defaults, 0.0, _MAX_TEMPERATURE)
    role = _role(request, manifest, cast, text, detect)
    limits = _PIECES[manifest.engine]
    pieces = split(text, limit_for(role.language, limits.most_chars), limits.least_chars)
    speech = engine.SpeechRequest(
        pieces=pieces,
        voice=role.voice,
        language=role.tag,
        format=sound_format,
        speed=1.0 if speed is None else speed,
        temperature=temperature,
        seed=request.seed if request.HasField("seed") else None,
    )
    return Plan(speech, role, request.format or pb.AUDIO_FORMAT_MP3, len(request.input))


def _text(said: str) -> str:
    if len(said) > MAX_INPUT_CHARS:
        raise invalid("input", f"The input has {len(said)} characters, and at most {MAX_INPUT_CHARS} are spoken.")
    text = clean(said)
    if not speakable(text):
        raise invalid("input", "The input holds nothing that can be spoken.")
    return text


def _number(asked: float | None, name: str, defaults: Mapping[str, object], least: float, most: float) -> float | None:
    """What is asked for or else the manifest's default; None where neither says anything."""
    default = defaults.get(name)
    value = asked if asked is not None else float(default) if isinstance(default, int | float) else None
    if value is not None and not least <= value <= most:
        raise invalid(name, f"The {name} must be between {least:g} and {most:g}.")
    return value


def _role(request: pb.SpeakRequest, manifest: ModelManifest, cast: Cast, text: str, detect: Detect) -> Role:
    voice = request.voice or str(manifest.defaults.get("voice", DEFAULT_VOICE))
    try:
        languages = cast.languages(voice)
        return cast.role(voice, request.language or detect(text, languages))
    except UnknownVoice:
        raise _unknown_voice(voice, manifest.name, cast) from None
    except UnknownLanguage:
        shown = ", ".join(languages[:_NAMES_SHOWN]) + (" and others" if len(languages) > _NAMES_SHOWN else "")
        message = f"The voice {_shown(voice)} does not speak {_shown(request.language)}; it speaks {shown}."
        raise invalid("language", message) from None


def _unknown_voice(voice: str, model: str, cast: Cast) -> RpcFault:
    own = [name for name in (listed.name for listed in cast.voices()) if name not in OPENAI_VOICES]
    more = f" and {len(own) - _NAMES_SHOWN} more, which the list of voices has" if len(own) > _NAMES_SHOWN else ""
    names = ", ".join([*OPENAI_VOICES, *own[:_NAMES_SHOWN]])
    return invalid("voice", f"The model {model} has no voice {_shown(voice)}; it has {names}{more}.")


def _shown(text: str) -> str:
    return repr(text[:_SHOWN_CHARS])


def voice_list(voices: Mapping[str, Sequence[Voice]], language: str) -> pb.ListVoicesResponse:
    """Voices by model as they are listed; only those of one language where one is given."""
    code = code_of(language) if language else ""
    return pb.ListVoicesResponse(
        voices=[
            pb.Voice(
                name=voice.name,
                model=model,
                languages=voice.languages,
                aliases=voice.aliases,
                description=voice.description,
            )
            for model, listed in sorted(voices.items())
            for voice in listed
            if not code or code in voice.languages
        ]
    )
