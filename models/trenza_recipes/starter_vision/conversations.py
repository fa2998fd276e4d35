"""Conversations about pictures, as tokens: what the model reads, what it has to say, and where it should look meanwhile."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from trenza_recipes.starter_chat.tokenizer import START, Tokenizer
from trenza_recipes.starter_vision.language import LanguageName
from trenza_recipes.starter_vision.questions import KINDS, LANGUAGES, Question, Segment, ask
from trenza_recipes.starter_vision.surface import SYSTEM_MESSAGES, written_by_people
from trenza_recipes.starter_vision.world import Scene, random_scene

PATCH = -1
"""Stands for a patch of a picture among the tokens."""
TOKENS = 165
"""How long a conversation is in training before the last question is asked."""

_SYSTEM_SHARE = 0.12
_NO_PICTURE_SHARE = 0.05
_LATE_SHARE = 0.06
_SECOND_PICTURE_SHARE = 0.07
_PICTURE_FIRST_SHARE = 0.6
_OTHER_LANGUAGE_SHARE = 0.15


class Look(NamedTuple):
    """A position, and the figures of a scene from which the next token is read; their place is told from another one."""

    position: int
    scene: int
    figures: tuple[int, ...]
    against: int | None


@dataclass
class Conversation:
    """Tokens, with PATCH for the patches of `scenes` one after the other; which of them the model says itself; looks."""

    tokens: list[int] = field(default_factory=list)
    spoken: list[bool] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)

    def add(self, tokens: list[int], *, spoken: bool = False) -> None:
        """Append tokens."""
        self.tokens += tokens
        self.spoken += [spoken] * len(tokens)


class Writer:
    """Puts conversations into the chat template."""

    def __init__(self, tokenizer: Tokenizer, patches: int) -> None:
        self._tokenizer, self._patches = tokenizer, patches
        start = tokenizer.id_of(START)
        if start is None:
            raise ValueError("the tokenizer has no token that opens a message")
        self._start = start

    def _open(self, conversation: Conversation, role: str) -> None:
        conversation.add([self._start, *self._tokenizer.encode(role + "\n")])

    def _close(self, conversation: Conversation, *, spoken: bool = False) -> None:
        conversation.add([self._tokenizer.end_id], spoken=spoken)
        conversation.add(self._tokenizer.encode("\n"))

    def system(self, conversation: Conversation, text: str) -> None:
        """A system message."""
        self._open(conversation, "system")
        conversation.add(self._tokenizer.encode(text))
        self._close(conversation)

    def user(self, conversation: Conversation, text: str, scene: Scene | None, *, picture_first: bool = True) -> None:
        """A question, with a picture or without."""
        self._open(conversation, "user")
        picture = [PATCH] * self._patches if scene is not None else []
        if scene is not None:
            conversation.scenes.append(scene)
        words = self._tokenizer.encode(text)
        conversation.add([*picture, *words] if picture_first else [*words, *picture])
        self._close(conversation)

    def open_answer(self, conversation: Conversation) -> None:
        """The opening of an answer that is yet to be said."""
        self._open(conversation, "assistant")

    def assistant(self, conversation: Conversation, answer: tuple[Segment, ...], against: int | None = None) -> None:
        """An answer, with looks at the newest picture."""
        self.open_answer(conversation)
        for text, figures in answer:
            tokens = self._tokenizer.encode(text)
            if figures:
                first = len(conversation.tokens) - 1
                scene = len(conversation.scenes) - 1
                conversation.looks += [Look(first + offset, scene, figures, against) for offset in range(len(tokens))]
            conversation.add(tokens, spoken=True)
        self._close(conversation, spoken=True)


def _draw(rng: random.Random, scene: Scene, language: LanguageName) -> Question:
    kinds, shares = list(KINDS), list(KINDS.values())
    while True:
        question = ask(scene, language, rng, rng.choices(kinds, shares)[0])
        if question is not None:
            return question


def training_conversation(
    writer: Writer, rng: random.Random, count: int | None = None, tokens: int = TOKENS
) -> Conversation:
    """A conversation of about `tokens` of which nothing is held out; `count` fixes how many figures its pictures have."""
    found = Conversation()
    language: LanguageName = rng.choice(list(LANGUAGES))
    if rng.random() < _SYSTEM_SHARE:
        writer.system(found, rng.choice(SYSTEM_MESSAGES))
    scene = random_scene(rng, count)
    without = rng.random() < _NO_PICTURE_SHARE
    shown = False
    show_from = 1 if rng.random() < _LATE_SHARE else 0
    second_at = rng.randint(1, 3) if rng.random() < _SECOND_PICTURE_SHARE else -1
    turns = 0
    budget = tokens * (0.3 if without else 1)
    while len(found.tokens) < budget:
        said_in: LanguageName = language if rng.random() > _OTHER_LANGUAGE_SHARE else rng.choice(list(LANGUAGES))
        shows = not without and ((not shown and turns >= show_from) or (shown and turns == second_at))
        if shows and shown:
            scene = random_scene(rng, count)
        shown = shown or shows
        question = _draw(rng, scene, said_in)
        text = written_by_people(question.text, rng, said_in)
        writer.user(found, text, scene if shows else None, picture_first=rng.random() < _PICTURE_FIRST_SHARE)
        if shown:
            writer.assistant(found, question.answer, question.against)
        else:
            writer.assistant(found, ((LANGUAGES[said_in].answers["no picture"], ()),))
        turns += 1
    return found
