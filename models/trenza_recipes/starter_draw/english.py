"""Scenes and requests put into English."""

from __future__ import annotations

import random
from itertools import product

from trenza_recipes.starter_draw.world import Colour, Figure, Scene

_ADJECTIVES = ("big", "small", "nice", "little", "bright", "pretty", "large", "simple", "beautiful", "single", "plain")

_POLITE = (
    "", "please", "could you", "can you", "can you please", "could you please", "would you", "will you", "I want you to",
    "I need you to", "let's", "try to", "now", "hello, please", "you must", "I ask you to", "you should", "hey, can you",
)  # fmt: skip
_VERBS = (
    "draw", "paint", "make", "create", "generate", "show", "sketch", "give", "render", "produce", "design",
)  # fmt: skip
_RECIPIENTS = ("", "", "me", "us", "my friend", "for me")
_KINDS = (
    "", "", "", "a picture of", "an image of", "a drawing of", "a picture with", "an image with", "an image showing",
    "an illustration of", "a picture that shows", "a simple drawing of", "a picture containing", "a sketch of",
    "one image of", "some art with", "an image that has",
)  # fmt: skip
_STATEMENTS = (
    "I want", "I'd like to see", "I need", "I wish for", "we want", "we need", "there is", "there should be", "picture:",
    "image:", "a picture of", "an image of", "a drawing of", "a photo of", "an illustration of", "let me see", "can I have",
    "may I have", "could I get", "can I see", "what I want is", "my son wants", "I am looking for", "I love", "imagine",
    "here is", "this is", "it shows", "it is", "I dream of", "how about", "what about", "do you know how to draw", "just",
    "simply", "a sketch of", "prompt:", "a painting of", "it would be great to have", "I was hoping for", "we see", "only",
    "you see", "think of", "I am thinking of", "bring me", "get me", "I can see", "my favourite is", "next:", "picture of",
    "image of", "drawing of", "an image with", "a picture with", "a simple image of", "the picture has", "it has", "with",
)  # fmt: skip

OPENERS = tuple(
    sorted(
        {" ".join(p for p in parts if p) for parts in product(_POLITE, _VERBS, _RECIPIENTS, _KINDS)} | set(_STATEMENTS)
    )
)
CLOSERS = (
    "please", "for me", "thanks", "thank you", "in it", "in the picture", "if you can", "right now", "for my daughter",
    "and nothing else", "in a simple style", "as an image", "okay", "would be nice", "for the school", "and that is all",
    "quickly", "if possible", "when you have time", "on my screen", "will do", "is what I need", "thank you very much",
    "for a card", "as a picture", "in the middle", "and thanks", "for my friend", "my dear", "is fine", "today", "now",
)  # fmt: skip

_BEHIND = (
    "on a {} background", "on a {} background", "on a {} background", "on {} background", ", {} background",
    "with a {} background", "with {} background", "on {}", "against a {} background", "in front of a {} background",
    ", the background is {}", "and the background should be {}", "over a {} background", "on {} paper", "on a {} canvas",
    "on a plain {} background", "; background {}", "on top of a {} background", ", and make the background {}",
)  # fmt: skip
_AHEAD = ("on a {} background, ", "a {} background with ", "{} background, ", "a {} background and ", "on {}, ")
_BESIDE = (
    "{a} and {b}", "{a} and {b}", "{a} and {b}", "{a}, {b}", "{a} next to {b}", "{a} beside {b}", "{a} and then {b}",
    "{a} to the left of {b}", "{a} left of {b}", "{b} to the right of {a}", "{b} right of {a}", "{a} with {b} to its right",
    "{a} on the left and {b} on the right", "{b} on the right and {a} on the left", "on the left {a}, on the right {b}",
    "{a} and {b} side by side", "{a} and {b} next to each other", "{a} on the left of {b}", "{b} on the right of {a}",
    "{b} with {a} to its left", "{a} by the side of {b}", "{a}, and {b} to the right", "{a} plus {b}", "{a} with {b}",
)  # fmt: skip
_STACKED = (
    "{a} above {b}", "{a} above {b}", "{a} over {b}", "{a} on top of {b}", "{b} below {a}", "{b} under {a}", "{b} beneath {a}",
    "{b} underneath {a}", "{a} at the top and {b} at the bottom", "{a} and {b} below it", "{a} with {b} below",
    "{b} with {a} above it", "{b} at the bottom and {a} at the top", "{a} and under it {b}", "{b} and above it {a}",
    "at the top {a}, at the bottom {b}", "{b} that is below {a}", "{a} which is above {b}", "{a} placed above {b}",
)  # fmt: skip


def describe(scene: Scene, rng: random.Random) -> str:
    """One of many ways to say what a scene shows; the white background often goes without saying."""
    text = _figures(scene, rng)
    if scene.background == "white" and rng.random() < 0.7:
        return text
    if rng.random() < 0.12:
        return rng.choice(_AHEAD).format(scene.background) + text
    behind = rng.choice(_BEHIND).format(scene.background)
    return text + ("" if behind[0] in ",;" else " ") + behind


def _figures(scene: Scene, rng: random.Random) -> str:
    if scene.arrangement == "alone":
        return _noun_phrase(scene.figures[0], rng)
    first, second = scene.figures
    if scene.figures[0] == scene.figures[1] and rng.random() < 0.7:
        return _equal_pair(scene, rng)
    if (
        first.shape == second.shape
        and first != second
        and None not in (first.colour, second.colour)
        and rng.random() < 0.12
    ):
        if scene.arrangement == "beside":
            return rng.choice((f"two {first.shape}s, one {first.colour} and one {second.colour}",
                               f"a {first.colour} and a {second.colour} {first.shape}"))  # fmt: skip
        return f"two {first.shape}s, a {first.colour} one above a {second.colour} one"
    ways = _BESIDE if scene.arrangement == "beside" else _STACKED
    return rng.choice(ways).format(a=_noun_phrase(first, rng), b=_noun_phrase(second, rng))


def _equal_pair(scene: Scene, rng: random.Random) -> str:
    figure = scene.figures[0]
    adjective = f"{rng.choice(_ADJECTIVES)} " if rng.random() < 0.1 else ""
    colour = f"{figure.colour} " if figure.colour else ""
    text = (
        rng.choice(("two ", "two ", "2 ", "a pair of ", "the two ", "a couple of "))
        + f"{adjective}{colour}{figure.shape}s"
    )
    if scene.arrangement == "beside":
        return text + rng.choice(("", "", "", " side by side", " next to each other"))
    return text + rng.choice(
        (", one above the other", " on top of each other", ", one below the other", " one over the other")
    )


def _noun_phrase(figure: Figure, rng: random.Random) -> str:
    article = rng.choice(("a", "a", "a", "one", "the", "")) if rng.random() < 0.9 else "an"
    adjective = rng.choice(_ADJECTIVES) if rng.random() < 0.12 else ""
    return " ".join(part for part in (article, adjective, _coloured(figure.shape, figure.colour, rng)) if part)


def _coloured(shape: str, colour: Colour | None, rng: random.Random) -> str:
    if colour is None:
        return shape
    if rng.random() < 0.88:
        return f"{colour} {shape}"
    ways = (
        "{1} in {0}",
        "{1} that is {0}",
        "{0} coloured {1}",
        "{1} of {0} colour",
        "{0} colored {1}",
        "{1} painted {0}",
    )
    return rng.choice(ways).format(colour, shape)
