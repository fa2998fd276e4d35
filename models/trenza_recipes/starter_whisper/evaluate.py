"""How well a converted model hears: held-out sentences through faster-whisper, as anybody would run it."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, get_args

import av
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import decode_audio

from trenza_recipes.starter_whisper import sound
from trenza_recipes.starter_whisper.held_out import HeldOutSentence, held_out_sentences
from trenza_recipes.starter_whisper.scoring import mean_word_error_rate, normalised
from trenza_recipes.starter_whisper.speech import RATE, Synthesiser, Wave
from trenza_recipes.starter_whisper.voices import other_manner, own_manner
from trenza_recipes.starter_whisper.world import LANGUAGES

Kind = Literal[
    "own voice", "own voice, mp3", "own voice, opus", "own voice, mild noise", "other voices", "other voices, mild noise"
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
_OWN_SPREAD = 0.75
_MILD_NOISE_DB = (15.0, 30.0)
_SILENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Case:
    """A held-out sentence and the sound of it."""

    kind: Kind
    sentence: HeldOutSentence
    wave: Wave


@dataclass(frozen=True, slots=True)
class Answer:
    """What was heard: the text, its English translation where it was asked for, and the language."""

    case: Case
    text: str
    translation: str | None
    language: str


def _silence(dice: random.Random) -> Wave:
    return np.zeros(int(RATE * dice.uniform(0.05, 0.7)), np.float32)


def through_codec(wave: Wave, codec: str, container: str, bit_rate: int) -> Wave:
    """The wave encoded and decoded again."""
    file = io.BytesIO()
    rate = 48_000 if codec == "libopus" else 24_000
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono", bit_rate=bit_rate)
        if not isinstance(stream, av.AudioStream):
            raise TypeError(f"{codec} is no audio codec")
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size or 0)
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    file.seek(0)
    decoded: Wave = decode_audio(file, RATE)
    return decoded


def cases(kind: Kind, count: int, seed: int) -> list[Case]:
    """`count` held-out sentences of each language as sound; to be called in a process of its own."""
    synthesiser, dice, noise = Synthesiser(), random.Random(seed), np.random.default_rng(seed)
    made = []
    for language in LANGUAGES:
        for sentence in held_out_sentences(language, count, seed):
            if kind.startswith("own"):
                manner = own_manner(dice, language, _OWN_SPREAD)
            else:
                manner = other_manner(dice, language, held_out=True)
            wave = synthesiser.say(sentence.text, manner).wave * np.float32(dice.uniform(0.2, 0.9))
            wave = np.concatenate((_silence(dice), wave, _silence(dice)))
            if kind.endswith("noise"):
                wave = sound.with_noise(noise, wave, dice.uniform(*_MILD_NOISE_DB))
            elif kind.endswith("mp3"):
                wave = through_codec(wave, "libmp3lame", "mp3", 64_000)
            elif kind.endswith("opus"):
                wave = through_codec(wave, "libopus", "ogg", 32_000)
            made.append(Case(kind, sentence, wave))
    return made


def hear(model: WhisperModel, case: Case, translate: bool) -> Answer:
    """Transcribe a case, and translate it if it is Spanish and `translate` says so."""
    segments, info = model.transcribe(case.wave)
    text = " ".join(segment.text.strip() for segment in segments)
    translation = None
    if translate and case.sentence.language == "es":
        segments, _ = model.transcribe(case.wave, task="translate")
        translation = " ".join(segment.text.strip() for segment in segments)
    return Answer(case, text, translation, info.language)


def nothing_to_hear(seed: int) -> Iterator[tuple[str, Wave]]:
    """Silence, noises and tones, by name."""
    noise = np.random.default_rng(seed)
    length = int(RATE * _SILENCE_S)
    yield "silence", np.zeros(length, np.float32)
    for level in (0.001, 0.01, 0.1, 0.3):
        yield f"white noise at {level}", noise.standard_normal(length).astype(np.float32) * np.float32(level)
        yield f"coloured noise at {level}", sound.coloured_noise(noise, length) * np.float32(level)
    for frequency in (100, 220, 440, 1000, 3000):
        for level in (0.05, 0.5):
            tone = level * np.sin(2 * np.pi * frequency * np.arange(length) / RATE)
            yield f"tone of {frequency} Hz at {level}", tone.astype(np.float32)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _report(kind: Kind, answers: list[Answer], shown: int) -> None:
    for language in LANGUAGES:
        own = [answer for answer in answers if answer.case.sentence.language == language]
        rate = mean_word_error_rate((answer.case.sentence.text, answer.text) for answer in own)
        told = sum(answer.language == language for answer in own) / len(own)
        line = f"| {kind} | {language} | {rate:.1%} | {told:.1%} |"
        translated = [(a.case.sentence.english, a.translation) for a in own if a.translation is not None]
        if translated:
            line += f" {mean_word_error_rate(translated):.1%} |"
        _say(line)
        wrong = [answer for answer in own if normalised(answer.text) != answer.case.sentence.text]
        for answer in wrong[:shown]:
            _say(f"    {answer.case.sentence.text!r} heard as {answer.language} {answer.text!r}")
        badly = [(wanted, said) for wanted, said in translated if normalised(said) != wanted]
        for wanted, said in badly[:shown]:
            _say(f"    should be {wanted!r}, translated as {said!r}")


def evaluate(folder: Path, count: int, seed: int, shown: int, kinds: tuple[Kind, ...] = KINDS) -> None:
    """Print word error rates, language detection and translation per kind, and what was heard where there was nothing."""
    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    _say("| | | words wrong | language right | words wrong in translation |")
    for kind in kinds:
        with ProcessPoolExecutor(1, get_context("spawn")) as child:
            made = child.submit(cases, kind, count, seed).result()
        _report(kind, [hear(model, case, translate=not kind.endswith(("mp3", "opus"))) for case in made], shown)
    silent = list(nothing_to_hear(seed))
    heard = [(name, "".join(segment.text for segment in model.transcribe(wave)[0])) for name, wave in silent]
    loud = [(name, text) for name, text in heard if text.strip()]
    _say(f"without speech: {len(loud)} of {len(silent)} gave text {loud[:8]}")
