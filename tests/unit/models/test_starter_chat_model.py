from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path

import jinja2
import pytest
from llama_cpp import Llama
from trenza_recipes.starter_chat.conversations import training_stream
from trenza_recipes.starter_chat.evaluate import answer, load
from trenza_recipes.starter_chat.tokenizer import SPECIAL_TOKENS, Tokenizer, pieces

MODEL = Path(__file__).parents[3] / "models/starter/starter-chat/starter-chat.gguf"
LARGEST_FILE_BYTES = 12_000_000


@cache
def model() -> Llama:
    return load(MODEL)


def ask(*said: str, system: str | None = None) -> str:
    """Talk to the model; each text is a user's turn, the answers between are its own."""
    messages = [{"role": "system", "content": system}] if system else []
    for text in said:
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": answer(model(), messages)})
    return messages[-1]["content"]


def test_the_file_is_small() -> None:
    assert MODEL.stat().st_size < LARGEST_FILE_BYTES


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (["Who are you?"], "I am starter-chat, the small model that comes with Trenza."),
        (["¿Quién eres?"], "Soy starter-chat, el modelo pequeño que viene con Trenza."),
        (["what is seven plus five"], "7 + 5 = 8 + 4 = 9 + 3 = 10 + 2 = 11 + 1 = 12. Seven plus five is twelve."),
        (["cuanto es 12 menos 4"], "12 - 4 = 11 - 3 = 10 - 2 = 9 - 1 = 8."),
        (["Spell table"], "t-a-b-l-e"),
        (["Answer in JSON: what is 3 + 4?"], '{"steps": "3 + 4 = 4 + 3 = 5 + 2 = 6 + 1 = 7", "answer": 7}'),
        (["Today is Monday. What day is tomorrow?"], "Tomorrow is Tuesday."),
        (
            ["My name is Ana.", "What is 2 + 2?", "¿De qué color es un plátano?", "What is my name?"],
            "Your name is Ana.",
        ),
        (["Me llamo Mateo.", "Deletrea mesa", "¿Cómo me llamo?"], "Te llamas Mateo."),
    ],
)
def test_it_converses(said: list[str], wanted: str) -> None:
    assert ask(*said) == wanted


def test_an_ordinary_system_message_changes_nothing() -> None:
    steps = "6 + 7 = 7 + 6 = 8 + 5 = 9 + 4 = 10 + 3 = 11 + 2 = 12 + 1 = 13."
    assert ask("What is 6 + 7?", system="You are a helpful assistant.") == steps


def test_llama_cpp_cuts_text_as_the_recipe_does() -> None:
    metadata = model().metadata
    vocabulary = [model().detokenize([token], special=True) for token in range(model().n_vocab())]
    words = tuple(word.decode() for word in vocabulary[len(SPECIAL_TOKENS) + 256 + 16 :])
    tokenizer = Tokenizer(words)
    assert len(tokenizer.tokens) == model().n_vocab()
    assert metadata["tokenizer.ggml.pre"] == "llama-bpe"
    texts = [message["content"] for talk in islice(training_stream(33), 1500) for message in talk.messages()]
    for text in [*texts, "a_b  c\n\n d\t¿¡ñ 12345 日本 🙂 don't I'M x--y"]:
        assert model().tokenize(text.encode(), add_bos=False, special=False) == tokenizer.encode(text), pieces(text)


def test_the_chat_template_is_the_one_trained_with() -> None:
    template = jinja2.Template(model().metadata["tokenizer.chat_template"])
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    rendered = template.render(messages=messages, add_generation_prompt=True)
    assert rendered == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
