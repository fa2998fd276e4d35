"""Where pictures are in a prompt: wherever the template puts what people sent, whatever else that says."""

from __future__ import annotations

import pickle
import re
from collections.abc import Generator, Iterable

import pytest
from trenza_llama.core.pictures import PictureRun, stand_ins
from trenza_llama.device import EncodedPart, PictureError, PictureLayout, PicturePart
from trenza_llama.engine import MAX_PICTURES, ChatMessage, ChatPrompt, Picture, TextPrompt
from trenza_llama.prompts import EncodedPrompt, PromptEncoder, PromptError
from trenza_llama.template import CHATML, VICUNA, ChatTemplate

CONTROLS = ["<|im_start|>", "<|im_end|>", "<s>"]
START, END, BOS = 1000, 1001, 1002
OPEN, CLOSE = 1500, 1501

TYPED = (
    "{% for message in messages %}{{ message['role'] }}:"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}[{{ part['text'] }}]{% endif %}{% endfor %};"
    "{% endfor %}"
)
"""A template like SmolVLM's, which knows contents in typed parts only."""


class Characters:
    """A vocabulary of single characters with ChatML's control tokens."""

    size = 2000
    longest_token_bytes = 12
    control_texts: Iterable[str] = CONTROLS

    def __init__(self, bos: int | None = None) -> None:
        self.bos = bos

    def piece(self, token: int, special: bool) -> bytes:
        return chr(token).encode()

    def ends_text(self, token: int) -> bool:
        return token == END

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        parts = re.split("(" + "|".join(map(re.escape, CONTROLS)) + ")", text) if parse_special else [text]
        tokens: list[int] = []
        for part in parts:
            if parse_special and part in CONTROLS:
                tokens.append(START + CONTROLS.index(part))
            else:
                tokens += [ord(char) % 1000 for char in part]
        return tokens


class Wide:
    """Sees a picture as an opening token, one part for each of its pixels' rows, and a closing token."""

    def layout(self, picture: Picture) -> PictureLayout:
        if picture.width > 9:
            raise PictureError("too wide")
        parts = (PicturePart(picture.width, 1, False),) * picture.height
        return ((OPEN,), *parts, (CLOSE,))

    def encode(self, picture: Picture) -> Generator[EncodedPart, None, None]:
        raise AssertionError("prompts are laid out without looking")


def picture(width: int, height: int = 1) -> Picture:
    return Picture.of(width, height, bytes(3 * width * height))


def encoder(source: str = CHATML, bos: int | None = None, sees: bool = True) -> PromptEncoder:
    return PromptEncoder(Characters(bos), ChatTemplate(source, "<s>", "</s>"), 1000, Wide() if sees else None)


def encode(*parts: str | Picture, source: str = "{{ messages[0].content }}", bos: int | None = None) -> EncodedPrompt:
    return encoder(source, bos).encode_with_pictures(ChatPrompt((ChatMessage("user", parts),)))


def letters(text: str) -> list[int]:
    return [ord(char) for char in text]


def seen(picture: Picture) -> list[int]:
    parts = [number for part in range(picture.height) for number in stand_ins(picture.key, part, picture.width)]
    return [OPEN, *parts, CLOSE]


def test_a_picture_is_where_it_was_put() -> None:
    one, two = picture(3), picture(2, 2)
    encoded = encode("a", one, "bc", two)
    assert encoded.tokens == [*letters("a"), *seen(one), *letters("bc"), *seen(two)]
    assert encoded.runs == [
        PictureRun(2, 3, 1, False, one.key, 0),
        PictureRun(9, 2, 1, False, two.key, 0),
        PictureRun(11, 2, 1, False, two.key, 1),
    ]
    assert encoded.pictures == {one.key: one, two.key: two}
    assert encoded.image_tokens == 7
    assert encoded.text_tokens == [97, OPEN, CLOSE, 98, 99, OPEN, CLOSE]
    assert [encoded.part_count(one.key), encoded.part_count(two.key)] == [1, 2]


def test_the_first_token_shifts_pictures() -> None:
    encoded = encode(picture(3), bos=BOS)
    assert encoded.tokens == [BOS, *seen(picture(3))]
    assert encoded.runs[0].start == 2


def test_pictures_of_several_turns() -> None:
    one, two = picture(1), picture(2)
    messages = (ChatMessage("user", (one, "x")), ChatMessage("assistant", "y"), ChatMessage("user", ("z", two)))
    tokens = encoder().encode(ChatPrompt(messages))
    first, second = (
        [START, *letters("user\n"), *seen(one), *letters("x"), END, 10],
        [START, *letters("assistant\ny"), END, 10],
    )
    third = [START, *letters("user\nz"), *seen(two), END, 10, START, *letters("assistant\n")]
    assert tokens == first + second + third


def test_the_same_picture_twice() -> None:
    one = picture(2)
    encoded = encode(one, "and", one)
    assert encoded.tokens == [*seen(one), *letters("and"), *seen(one)]
    assert len(encoded.pictures) == 1
    assert encoded.part_count(one.key) == 1


def test_templates_that_want_typed_parts_get_them() -> None:
    messages = (ChatMessage("user", ("a", picture(1), "b")), ChatMessage("assistant", "c"), ChatMessage("user", ("d",)))
    expected = [*letters("user:[a]["), *seen(picture(1)), *letters("][b];assistant:[c];user:[d];")]
    assert encoder(TYPED).encode(ChatPrompt(messages)) == expected


@pytest.mark.parametrize("source", [TYPED, CHATML, VICUNA])
def test_text_alone_in_whatever_form_is_the_same(source: str) -> None:
    plain, parts = (
        encoder(source).encode(ChatPrompt((ChatMessage("user", content),))) for content in ("ab", ("a", "b"))
    )
    assert plain == parts


def test_templates_that_know_both_get_strings() -> None:
    both = "{% set c = messages[0]['content'] %}{% if c is string %}{{ c }}{% else %}{{ c[0]['text'] }}!{% endif %}"
    assert encode("a", picture(1), source=both).tokens == [*letters("a"), *seen(picture(1))]


def test_control_tokens_beside_pictures_are_ordinary_text() -> None:
    encoded = encode("<|im_end|>", picture(1), "<|im_start|>", "<|im_", "end|>")
    assert encoded.tokens == [*letters("<|im_end|>"), *seen(picture(1)), *letters("<|im_start|><|im_end|>")]


def test_private_characters_of_the_text_are_no_pictures() -> None:
    tricky = chr(0xF0000) + chr(0xF0001)
    encoded = encode(tricky, picture(1), tricky)
    assert encoded.tokens == [*(ord(char) % 1000 for char in tricky), *seen(picture(1)), 0xF0000 % 1000, 0xF0001 % 1000]
    assert len(encoded.runs) == 1


def test_a_template_that_shows_no_pictures_is_not_believed() -> None:
    with pytest.raises(PromptError, match="leaves out a picture"):
        encode(picture(1), source="{{ messages | length }}")


def test_a_refusal_names_no_private_characters() -> None:
    with pytest.raises(PromptError, match=r"no \[picture\] here"):
        encode(picture(1), source="{{ raise_exception('no ' + messages[0].content + ' here') }}")


def test_pictures_need_a_projector() -> None:
    blind = encoder(sees=False)
    with pytest.raises(PromptError, match="reads text only") as caught:
        blind.encode(ChatPrompt((ChatMessage("user", ("what?", picture(1))),)))
    assert caught.value.reason == "PICTURES_UNSUPPORTED"
    assert blind.encode(ChatPrompt((ChatMessage("user", ("what?",)),)))


def test_a_picture_the_model_cannot_look_at() -> None:
    with pytest.raises(PromptError, match="too wide") as caught:
        encode(picture(10))
    assert caught.value.reason == "PICTURE_INVALID"


def test_too_many_pictures() -> None:
    assert encode(*[picture(1)] * MAX_PICTURES).image_tokens == MAX_PICTURES
    with pytest.raises(PromptError, match="at most") as caught:
        encode(*[picture(1)] * (MAX_PICTURES + 1))
    assert caught.value.reason == "PICTURE_INVALID"


def test_prompts_of_text_have_no_pictures() -> None:
    encoded = encoder().encode_with_pictures(TextPrompt("abc"))
    assert (encoded.tokens, encoded.runs, encoded.image_tokens) == (letters("abc"), [], 0)


@pytest.mark.parametrize(
    ("width", "height", "pixels", "key"),
    [
        (0, 1, b"", "a" * 64),
        (1, 1, b"ab", "a" * 64),
        (2, 1, b"abc", "a" * 64),
        (20_000, 1, bytes(60_000), "a" * 64),
        (1, 1, b"abc", "xyz"),
        (1, 1, b"abc", "A" * 64),
    ],
)
def test_pictures_that_are_none(width: int, height: int, pixels: bytes, key: str) -> None:
    with pytest.raises(ValueError, match="picture"):
        Picture(width, height, pixels, key)


def test_keys_tell_size_and_pixels_apart() -> None:
    keys = {picture(2, 3).key, picture(3, 2).key, picture(6, 1).key, Picture.of(2, 3, b"a" * 18).key}
    assert len(keys) == 4
    assert picture(2, 3).key == picture(2, 3).key


def test_pictures_cross_processes() -> None:
    prompt = ChatPrompt((ChatMessage("user", ("a", picture(2, 3))),))
    assert pickle.loads(pickle.dumps(prompt)) == prompt  # noqa: S301  its own bytes
