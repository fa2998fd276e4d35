"""English: how figures are named, asked for and told of."""

from __future__ import annotations

from trenza_recipes.starter_draw.world import Colour, Shape
from trenza_recipes.starter_vision.language import Words
from trenza_recipes.starter_vision.world import Ground

_NUMBERS = ("no", "one", "two", "three", "four")


def _figure(colour: Colour | None, shape: Shape | None, several: bool) -> str:
    noun = (shape or "figure") + ("s" if several else "")
    return f"{colour} {noun}" if colour else noun


def _a(colour: Colour | None, shape: Shape | None) -> str:
    named = _figure(colour, shape, False)
    return f"{'an' if named[0] in 'aeiou' else 'a'} {named}"


def _the(colour: Colour | None, shape: Shape | None, several: bool) -> str:
    return f"the {_figure(colour, shape, several)}"


def _of_the(colour: Colour | None, shape: Shape | None) -> str:
    return f"of the {_figure(colour, shape, False)}"


def _coloured(colour: Ground, shape: Shape | None, several: bool) -> str:
    return colour


def _number(count: int, shape: Shape | None) -> str:
    return _NUMBERS[count]


_PICTURE = ("picture", "image", "picture", "photo", "drawing")


def _over_pictures(*wordings: str) -> tuple[str, ...]:
    """Each wording with every word for a picture."""
    return tuple(w.replace("@", p) for w in wordings for p in (dict.fromkeys(_PICTURE) if "@" in w else ("",)))


ENGLISH = Words(
    name="en",
    figure=_figure,
    a=_a,
    the=_the,
    of_the=_of_the,
    coloured=_coloured,
    number=_number,
    sides={"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"},
    asked_sides={
        "left": ("to the left of", "left of", "on the left of", "on the left side of"),
        "right": ("to the right of", "right of", "on the right of", "on the right side of"),
        "above": ("above", "above", "over", "on top of"),
        "below": ("below", "below", "under", "beneath", "underneath"),
    },
    places={
        "left": "on the left",
        "right": "on the right",
        "top": "at the top",
        "bottom": "at the bottom",
        "middle": "in the middle",
    },
    conjunction="and",
    questions={
        "describe": _over_pictures(
            "What is in this @?", "What's in this @?", "What is in the @?", "What is shown in the @?", "What does this @ show?",
            "What can you see in this @?", "What do you see in the @?", "What do you see?", "What is this?", "What can you see?",
            "Describe this @.", "Describe the @.", "Describe this @, please.", "Please describe the @.", "Tell me what you see.",
            "Can you describe the @?", "Describe what you see.", "Tell me about this @.", "What does the @ contain?",
            "Describe the @ in one sentence.", "Describe this @ in detail.", "What is there in the @?", "What is drawn here?",
            "Which figures are in the @?", "What figures do you see?", "What objects are in this @?", "Explain this @.",
            "Give me a short description of this @.", "What am I looking at?", "Write a caption for this @.",
        ),
        "shapes": _over_pictures(
            "Which shapes are in the @?", "What shapes are in this @?", "Which shapes do you see?", "What shapes do you see?",
            "What shapes can you see in the @?", "Name the shapes.", "List the shapes in the @.", "Which shapes are there?",
            "What shapes are there?", "What shapes are shown?", "Which shapes does the @ show?", "Tell me the shapes in this @.",
            "What kinds of shapes are in the @?",
        ),
        "colours": _over_pictures(
            "Which colours do the figures have?", "What colours are the figures?", "Which colors do the shapes have?",
            "What colors are the shapes?", "What colours are the shapes in the @?", "Name the colours of the figures.",
            "List the colors of the shapes.", "Which colours do you see on the figures?", "What are the colors of the figures?",
            "What are the colours of the shapes?", "What colors are the figures in this @?", "Which colors are the figures?",
        ),
        "shape": _over_pictures(
            "What shape is it?", "What shape is this?", "Which shape is in the @?", "What shape is in this @?",
            "Which shape is it?", "What shape is shown?", "What shape do you see?", "What shape is the figure?",
        ),
        "colour": _over_pictures(
            "What colour is it?", "What color is it?", "What color is the figure?", "What colour is the shape?",
            "Which colour does the figure have?", "Which color is the shape?", "What is the color of the figure?",
        ),
        "colour of": _over_pictures(
            "What colour is {the}?", "What color is {the}?", "Which colour does {the} have?", "Which color is {the}?",
            "What is the colour of {the}?", "What is the color of {the}?", "Tell me the colour of {the}.",
            "What color does {the} have?", "What colour is {the} in the @?", "Of which colour is {the}?",
        ),
        "shape of": _over_pictures(
            "What shape is {the}?", "Which shape does {the} have?", "What is the shape of {the}?", "Which shape is {colour}?",
            "What shape is {colour}?", "What is {colour}?", "Which figure is {colour}?", "What shape does {the} have?",
            "What is {the}?", "Which shape is {the}?", "What {colour} shape is there?", "What {colour} figure is in the @?",
        ),
        "count": _over_pictures(
            "How many {figures} are there?", "How many {figures} are in the @?", "How many {figures} do you see?",
            "How many {figures} can you see?", "Count the {figures}.", "How many {figures} are in this @?", "How many {figures}?",
            "What is the number of {figures}?", "Tell me how many {figures} there are.", "How many {figures} does the @ show?",
            "How many {figures} can you count?", "How many {figures} are shown?",
        ),
        "where": _over_pictures(
            "Where is {the}?", "Where is {the} in the @?", "Where can you see {the}?", "Tell me where {the} is.",
            "Where do you see {the}?", "What is the position of {the}?", "In which part of the @ is {the}?",
        ),
        "relation": (
            "Where is {the} relative to {the_other}?", "Where is {the} compared to {the_other}?",
            "Where is {the}, seen from {the_other}?", "How are {the} and {the_other} placed?",
            "Is {the} left, right, above or below {the_other}?", "On which side of {the_other} is {the}?",
            "Where is {the} with respect to {the_other}?",
        ),
        "beside": _over_pictures(
            "What is {side} {the}?", "What's {side} {the}?", "Which figure is {side} {the}?", "What do you see {side} {the}?",
            "Which shape is {side} {the}?", "What can be seen {side} {the}?", "What is there {side} {the}?",
            "What shape is {side} {the}?", "Tell me what is {side} {the}.",
        ),
        "ground": _over_pictures(
            "What colour is the background?", "What color is the background?", "On what background?",
            "Which colour is the background?",
            "What is the background?", "What is the background colour?", "What is the color of the background?",
            "On which background are the figures?", "What is the background color of the @?", "What background does the @ have?",
            "What is the colour of the background?", "Which color does the background have?",
        ),
        "is there": _over_pictures(
            "Is there {a}?", "Is there {a} in the @?", "Do you see {a}?", "Can you see {a}?", "Can you see {a} in this @?",
            "Does the @ show {a}?", "Does the @ contain {a}?", "Do you see {a} in the @?", "Is {a} in the @?",
        ),
        "are there": _over_pictures(
            "Are there any {figures}?", "Are there {figures}?", "Are there any {figures} in the @?", "Do you see any {figures}?",
            "Can you see {figures}?", "Does the @ show any {figures}?",
        ),
        "is it": _over_pictures(
            "Is {the} {colour}?", "Is {the} {colour} in the @?", "Is the colour of {the} {colour}?",
            "Is the color of {the} {colour}?",
            "Is it true that {the} is {colour}?",
        ),
        "is ground": (
            "Is the background {colour}?", "Is it a {colour} background?", "Does it have a {colour} background?",
            "Is the colour of the background {colour}?", "Is the background color {colour}?",
        ),
        "is beside": (
            "Is {the} {side} {the_other}?", "Do you see {the} {side} {the_other}?",
            "Is it true that {the} is {side} {the_other}?",
            "Can you see {the} {side} {the_other}?",
        ),
        "are so many": _over_pictures(
            "Are there {number} {figures}?", "Do you see {number} {figures}?", "Are there exactly {number} {figures} in the @?",
            "Does the @ show {number} {figures}?", "Can you see {number} {figures}?",
        ),
        "other": _over_pictures(
            "What is the capital of France?", "What is the weather like?", "Who are you?",
            "What is your name?", "How old are you?",
            "What time is it?", "Who is the president?", "What is two plus two?", "What day is today?", "Tell me a joke.",
            "Who painted this @?", "When was this @ made?", "Is there a dog in the @?", "Do you see a cat?", "What is the price?",
            "How tall is it?", "Write a poem.", "What does the text say?", "Can you read the text?",
            "Is there a person in the @?",
            "What is the man wearing?", "Is it raining?", "Where was this @ taken?", "Who is in this @?", "Do you like music?",
            "What is the meaning of life?", "How much does it cost?", "What animal is this?", "Is there a house in the @?",
            "What is the temperature?", "Which city is this?", "Translate this into German.", "Write a program.",
            "What did I say yesterday?", "Who won the game?", "Is there a car in the @?",
            "How do I cook rice?", "What language is it?",
        ),
        "other word": (
            "What is a {word}?", "Do you know the {word}?", "Is there a {word}?", "Where is the {word}?",
            "How many {word}s are there?",
            "Do you see a {word}?", "What does {word} mean?", "Tell me about the {word}.", "Why is the {word} so big?",
        ),
        "greeting": ("Hello", "Hello!", "Hi", "Hi!", "Hi there", "Good morning", "Good morning!", "Hey", "Hello there!"),
        "thanks": ("Thank you", "Thank you!", "Thanks", "Thanks!", "Thank you very much.", "Great, thanks.", "Thanks a lot!"),
    },
    answers={
        "no figures": "There are no figures in this picture.",
        "other": "I do not know that. I only know about the figures in the picture.",
        "no picture": "I need a picture for that. Please send me one.",
        "greeting": "Hello! Ask me about the picture.",
        "thanks": "You are welcome.",
        "one": "There is",
        "several": "There are",
        "is": "is",
        "are": "are",
        "background": "The background is",
        "nothing": "There is nothing",
        "in the picture": "in the picture",
        "yes": "Yes,",
        "no": "No,",
        "so yes": "so yes",
        "so no": "so no",
        "not so": "there is no",
        "not so many": "there are no",
        "there is": "there is",
        "there are": "there are",
        "the background": "the background is",
    },
)  # fmt: skip
