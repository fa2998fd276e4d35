"""Training samples: a window of sound as Whisper sees it, the tokens it has to write, and where each of them is heard."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from trenza_recipes.starter_whisper import sound
from trenza_recipes.starter_whisper.held_out import is_held_out
from trenza_recipes.starter_whisper.sentences import Sentence, any_sentence, single_word
from trenza_recipes.starter_whisper.speech import RATE, Manner, Synthesiser, Utterance, Wave
from trenza_recipes.starter_whisper.tokenizer import Tokens
from trenza_recipes.starter_whisper.voices import other_manner, own_manner
from trenza_recipes.starter_whisper.world import LANGUAGES, Language, vocabulary

FRAME_S = 0.02
"""One position of the encoder."""
IGNORED = -100
LONGEST_ORDINAL = 15
_LONGEST_WINDOW_S = 29.5

WORD_CLASSES = tuple(dict.fromkeys(word for language in LANGUAGES for word in vocabulary(language)))
"""The words that a frame may belong to; class 0 is none of them."""
_WORD_CLASS = {word: place for place, word in enumerate(WORD_CLASSES, start=1)}

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Course:
    """What is taught at a time, as shares between 0 and 1."""

    single_words: float
    other_voices: float
    spoiled: float
    no_speech: float = 0.06
    several: float = 0.0
    long: float = 0.0
    prompted: float = 0.0
    translated: float = 0.4


@dataclass(frozen=True, slots=True)
class Sample:
    """One window: log-mel features (80, frames), tokens in and out, and what its frames and tokens are about.

    `labels[i]` is what must follow `tokens[: i + 1]`, or IGNORED. `looks` holds (place, first frame, end frame): to write the
    label at that place, look there. The last four have one entry per encoder frame.
    """

    mel: NDArray[np.float32]
    tokens: list[int]
    labels: list[int]
    looks: list[tuple[int, int, int]]
    frame_words: Labels
    frame_sounds: Labels
    frame_ordinals: Labels
    frame_previous: Labels


@dataclass(slots=True)
class _Script:
    """Tokens under construction."""

    tokens: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    looks: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, token: int, learnt: bool = True, look: tuple[int, int] | None = None) -> None:
        if self.tokens:
            self.labels.append(token if learnt else IGNORED)
            if look is not None:
                self.looks.append((len(self.labels) - 1, *look))
        self.tokens.append(token)


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A sentence said at a time of the window."""

    sentence: Sentence
    utterance: Utterance
    start_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.utterance.length_s


class Sampler:
    """Makes samples, one after another, by one generator of randomness. Needs the process's only synthesiser."""

    def __init__(self, synthesiser: Synthesiser, seed: int) -> None:
        self._synthesiser = synthesiser
        self._dice = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        self._tokens = Tokens()
        self._features = FeatureExtractor()

    def sample(self, course: Course) -> Sample:
        """One sample of a course."""
        if self._dice.random() < course.no_speech:
            return self._silent()
        language = self._dice.choice(LANGUAGES)
        translated = language == "es" and self._dice.random() < course.translated
        spoken, wave = self._window(course, language)
        if self._dice.random() < course.spoiled:
            wave = self._spoiled(wave)
        loudness = 10 ** (self._dice.uniform(-20, 0) / 20)
        mel = self._mel(wave / np.float32(np.abs(wave).max() + 1e-6) * np.float32(loudness))
        script = self._script(spoken, language, translated, self._dice.random() < course.prompted)
        frames = mel.shape[1] // 2
        return Sample(mel, script.tokens, script.labels, script.looks, *_frame_labels(spoken, language, frames))

    def _mel(self, wave: Wave) -> NDArray[np.float32]:
        features: NDArray[np.float32] = self._features(wave).astype(np.float32)
        return features[:, : features.shape[1] // 2 * 2]

    def _sentence(self, course: Course) -> Sentence:
        if self._dice.random() < course.single_words:
            words = single_word(self._dice)
            return words if self._dice.random() < 0.5 else words + single_word(self._dice)
        while True:
            sentence = any_sentence(self._dice)
            if not is_held_out(sentence):
                return sentence

    def _manner(self, course: Course, language: Language) -> tuple[Manner, float]:
        if self._dice.random() < course.other_voices:
            return other_manner(self._dice, language), self._dice.uniform(0.93, 1.07)
        return own_manner(self._dice, language), 1.0

    def _written(self, words: tuple[str, ...]) -> str:
        """The words as somebody might write them, which changes how they are said."""
        text = " ".join(words)
        kind = self._dice.random()
        if kind < 0.5:
            return text
        if kind < 0.6 and len(words) > 2:
            place = self._dice.randrange(1, len(words))
            text = " ".join((*words[: place - 1], words[place - 1] + ",", *words[place:]))
        return text[0].upper() + text[1:] + self._dice.choice((".", ".", ".", "!", "?"))

    def _count(self, course: Course) -> int:
        if self._dice.random() < course.long:
            return self._dice.randint(4, 9)
        return self._dice.randint(2, 3) if self._dice.random() < course.several else 1

    def _window(self, course: Course, language: Language) -> tuple[list[_Spoken], Wave]:
        """One or several sentences with pauses before, between and after."""
        pauses = (0.0, 0.1) if self._dice.random() < 0.3 else (0.0, 0.5 if self._dice.random() < 0.8 else 1.5)
        parts: list[Wave] = [self._pause(*pauses)]
        spoken: list[_Spoken] = []
        time_s = len(parts[0]) / RATE
        manner, stretch = self._manner(course, language)
        for _ in range(self._count(course)):
            sentence = self._sentence(course)
            utterance = self._synthesiser.say(self._written(sentence.words(language)), manner, stretch)
            if time_s + utterance.length_s > _LONGEST_WINDOW_S:
                break
            spoken.append(_Spoken(sentence, utterance, time_s))
            parts += [utterance.wave * np.float32(self._dice.uniform(0.6, 1)), self._pause(0.35, 1.0)]
            time_s = sum(len(part) for part in parts) / RATE
        parts[-1] = self._pause(0.0, 0.4)
        return spoken, np.concatenate(parts)

    def _pause(self, shortest_s: float, longest_s: float) -> Wave:
        return np.zeros(int(RATE * self._dice.uniform(shortest_s, longest_s)), np.float32)

    def _spoiled(self, wave: Wave) -> Wave:
        if self._dice.random() < 0.35:
            wave = sound.coloured(self._noise, wave)
        if self._dice.random() < 0.2:
            wave = sound.in_a_room(self._noise, wave)
        if self._dice.random() < 0.35:
            wave = sound.narrowed(self._noise, wave)
        if self._dice.random() < 0.65:
            wave = sound.with_noise(self._noise, wave, self._dice.uniform(10, 45))
        return wave

    def _opening(self, script: _Script, language: Language, task: str) -> None:
        script.add(self._tokens.special(language))
        script.add(self._tokens.special(task), learnt=False)

    def _silent(self) -> Sample:
        """A window without speech: Whisper's word for it, and then nothing."""
        wave = sound.no_speech(self._noise, int(RATE * self._dice.uniform(0.3, 3.5)))
        script, tokens = _Script(), self._tokens
        script.add(tokens.special("startoftranscript"), learnt=False)
        self._opening(script, self._dice.choice(LANGUAGES), self._dice.choice(("transcribe", "translate")))
        script.labels[0] = tokens.special("nospeech")
        if self._dice.random() < 0.6:
            script.add(tokens.timestamp(0.0))
        else:
            script.add(tokens.special("notimestamps"), learnt=False)
        script.add(tokens.special("endoftext"))
        mel = self._mel(wave)
        none = np.zeros(mel.shape[1] // 2, np.int64)
        return Sample(mel, script.tokens, script.labels, [], none, none, none, none)

    def _script(self, spoken: list[_Spoken], language: Language, translated: bool, prompted: bool) -> _Script:
        script, tokens = _Script(), self._tokens
        if prompted:
            self._prompt(script, "en" if translated else language)
        script.add(tokens.special("startoftranscript"), learnt=False)
        pointless = language == "en" and self._dice.random() < 0.05
        task = "translate" if translated or pointless else "transcribe"
        self._opening(script, language, task)
        timed = self._dice.random() < 0.65
        if not timed:
            script.add(tokens.special("notimestamps"), learnt=False)
        for place, said in enumerate(spoken):
            if timed:
                script.add(tokens.timestamp(said.start_s if place else min(said.start_s, 1.0)))
            _write(script, tokens, said, language, translated)
            if timed:
                script.add(tokens.timestamp(said.end_s))
        script.add(tokens.special("endoftext"))
        return script

    def _prompt(self, script: _Script, language: Language) -> None:
        """What was heard before this window, which must not disturb."""
        script.add(self._tokens.special("startofprev"), learnt=False)
        for _ in range(self._dice.randint(1, 4)):
            for token in self._tokens.words(any_sentence(self._dice).words(language)):
                script.add(token, learnt=False)


def _word_frames(said: _Spoken) -> list[tuple[int, int]]:
    """The first and end frame of each word."""
    starts = [said.start_s + start for start in said.utterance.word_starts_s]
    ends = [*starts[1:], said.end_s]
    edges = [(round(start / FRAME_S), round(end / FRAME_S)) for start, end in zip(starts, ends, strict=True)]
    return [(first, max(end, first + 1)) for first, end in edges]


def _write(script: _Script, tokens: Tokens, said: _Spoken, language: Language, translated: bool) -> None:
    frames = _word_frames(said)
    if translated:
        words, places = said.sentence.translation(), said.sentence.links
    else:
        words = said.sentence.words(language)
        places = tuple(range(len(words)))
    for token, place in zip(tokens.words(words), places, strict=True):
        script.add(token, look=frames[place])


def _frame_labels(spoken: list[_Spoken], language: Language, frames: int) -> tuple[Labels, Labels, Labels, Labels]:
    """For every frame its word, its phoneme, which word of the sentence it is, and the word before that one."""
    words, sounds, ordinals, previous = (np.zeros(frames, np.int64) for _ in range(4))
    for said in spoken:
        for place, (first, end) in enumerate(_word_frames(said)):
            word = _WORD_CLASS[said.sentence.words(language)[place]]
            words[first:end] = word
            previous[end:] = word
            ordinals[first:end] = min(place + 1, LONGEST_ORDINAL)
            words[max(0, first - 1) : first + 1] = IGNORED
            previous[max(0, first - 1) : first + 1] = IGNORED
        heard = [*said.utterance.sounds, (said.utterance.length_s, 0)]
        for (start, kind), (end_s, _) in pairwise(heard):
            sounds[round((said.start_s + start) / FRAME_S) : round((said.start_s + end_s) / FRAME_S)] = kind
    return words, sounds, ordinals, previous
