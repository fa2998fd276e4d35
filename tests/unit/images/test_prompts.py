"""What of a prompt is read, and what is left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from studio import difference, draw, one, pictures
from trenza_images.engines import prompts
from trenza_images.engines.diffusers import DiffusersEngine

ROOM = 14
Engines = Callable[[str], DiffusersEngine]


@pytest.mark.parametrize(
    ("prompt", "tokens", "left_out"),
    [
        ("", 0, ""),
        ("a red circle", 3, ""),
        ("red " * ROOM, ROOM, ""),
        ("red " * ROOM + "Blue  star", ROOM, "Blue  star"),
        ("Red\n" * 50_000 + "star", ROOM, "Red\n" * (50_000 - ROOM) + "star"),
        (" " * 100_000 + "red", 1, ""),
    ],
)
def test_the_rest_of_a_prompt_is_told_as_it_was_written(
    engine: Engines, prompt: str, tokens: int, left_out: str
) -> None:
    reading = prompts.read(engine("sdxl")._pipelines.root, prompt)
    assert (reading.tokens, reading.left_out) == (tokens, left_out)


def test_a_pipeline_is_not_given_what_it_would_not_read(engine: Engines) -> None:
    reading = prompts.read(engine("sdxl")._pipelines.root, "a blue star " * 20_000)
    assert len(reading.given) < 2_000


def test_what_is_left_out_changes_nothing(engine: Engines) -> None:
    studio = engine("turbo")
    beginning = "red " * ROOM
    drawn = [pictures(one(studio, draw(beginning + end, steps=2)))[0] for end in ("", "star " * 5_000, "x" * 3_000)]
    assert difference(drawn[0], drawn[1]) == difference(drawn[0], drawn[2]) == 0


def test_a_tokenizer_without_positions_tells_the_rest_in_its_own_words(engine: Engines) -> None:
    class Slow:
        """Reads as slow tokenizers do: without telling where a token was."""

        is_fast = False

        def __init__(self) -> None:
            self._fast = engine("sdxl")._pipelines.root.tokenizer
            self.model_max_length = self._fast.model_max_length

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": self._fast(text, add_special_tokens=add_special_tokens)["input_ids"]}

        def __getattr__(self, name: str) -> object:
            return getattr(self._fast, name)

    class Pipe:
        tokenizer = Slow()

        def __call__(self, prompt: str) -> None: ...

    reading = prompts.read(Pipe(), "red " * ROOM + "blue star")
    assert (reading.tokens, reading.left_out.strip()) == (ROOM, "blue star")
