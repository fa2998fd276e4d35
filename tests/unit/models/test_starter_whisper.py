"""starter-whisper's sentences, what of them is held out, how answers are scored, and the numbering of its tokens."""

import random
import subprocess
import sys

import pytest
from trenza_recipes.starter_whisper.held_out import held_out_sentences, is_held_out
from trenza_recipes.starter_whisper.scoring import mean_word_error_rate, normalised, word_error_rate
from trenza_recipes.starter_whisper.sentences import Sentence, any_sentence, contracted, phrase
from trenza_recipes.starter_whisper.tokenizer import Tokens
from trenza_recipes.starter_whisper.world import LANGUAGES, vocabulary

SMALL_WORLD = {
    "en": """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
        eighteen nineteen twenty red green blue yellow orange purple black white circle square triangle star circles squares
        triangles stars left right above below monday tuesday wednesday thursday friday saturday sunday today tomorrow
        yesterday draw show open close start stop please yes no hello goodbye thank you a the one of and is are there""",
    "es": """cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete
        dieciocho diecinueve veinte rojo verde azul amarillo naranja morado negro blanco círculo cuadrado triángulo estrella
        círculos cuadrados triángulos estrellas izquierda derecha arriba abajo lunes martes miércoles jueves viernes sábado
        domingo hoy mañana ayer dibuja muestra abre cierra empieza para por favor sí no hola adiós gracias hay es son y""",
}


def sentences(count: int) -> list[Sentence]:
    dice = random.Random(7)
    return [any_sentence(dice) for _ in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_vocabulary_holds_the_small_world(language):
    assert set(SMALL_WORLD[language].split()) <= set(vocabulary(language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_use_the_whole_vocabulary_and_nothing_else(language):
    used = {word for sentence in sentences(8000) for word in sentence.words(language)}
    assert used == set(vocabulary(language))


def test_every_english_word_is_linked_to_a_spanish_one():
    for sentence in sentences(2000):
        assert len(sentence.links) == len(sentence.english) == len(sentence.translation())
        assert all(0 <= link < len(sentence.spanish) for link in sentence.links)


def test_links_follow_the_order_of_spanish():
    whole = phrase("the", "la") + phrase("red star", "estrella roja", (1, 0))
    assert [whole.spanish[link] for link in whole.links] == ["la", "roja", "estrella"]


def test_de_el_is_contracted_and_links_stay_right():
    whole = contracted(phrase("is above", "está encima de") + phrase("the circle", "el círculo"))
    assert whole.text("es") == "está encima del círculo"
    assert [whole.spanish[link] for link in whole.links] == ["está", "encima", "del", "círculo"]


def test_spanish_agrees_and_contracts():
    for sentence in sentences(4000):
        text = f" {sentence.text('es')} "
        assert " de el " not in text
        for wrong in (
            " un estrella",
            " una círculo",
            " el estrella",
            " estrella rojo",
            " estrellas rojos",
            " círculo roja",
        ):
            assert wrong not in text


def test_a_becomes_an_before_orange():
    english = [f" {sentence.text('en')} " for sentence in sentences(4000)]
    assert any(" an orange " in text for text in english)
    assert not any(" a orange " in text for text in english)


def test_un_is_translated_as_a():
    one_star = phrase("draw", "dibuja") + phrase("one", "una") + phrase("star", "estrella")
    one_of = phrase("one of", "una de") + phrase("the stars", "las estrellas")
    assert one_star.translation() == ("draw", "a", "star")
    assert one_of.translation() == ("one", "of", "the", "stars")


def test_one_sentence_in_twenty_five_is_held_out_and_none_of_fewer_than_three_words():
    distinct = set(sentences(8_000))
    held = [sentence for sentence in distinct if is_held_out(sentence)]
    assert all(len(sentence.english) >= 3 for sentence in held)
    assert 0.03 < len(held) / len(distinct) < 0.05


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_sentences_are_repeatable_distinct_and_held_out(language):
    asked = held_out_sentences(language, 150, seed=3)
    assert asked == held_out_sentences(language, 150, seed=3)
    assert len({sentence.text for sentence in asked}) == 150
    assert asked != held_out_sentences(language, 150, seed=4)
    trained = {sentence.text(language) for sentence in sentences(8_000) if not is_held_out(sentence)}
    assert not trained & {sentence.text for sentence in asked}
    for sentence in asked:
        assert set(sentence.english.split()) <= set(vocabulary("en"))
        assert language == "es" or sentence.english == sentence.text


def test_the_same_spanish_has_only_one_translation():
    english: dict[str, set[tuple[str, ...]]] = {}
    for sentence in sentences(8_000):
        english.setdefault(sentence.text("es"), set()).add(sentence.translation())
    assert all(len(translations) == 1 for translations in english.values())


def test_too_many_held_out_sentences_are_refused():
    with pytest.raises(ValueError, match="count"):
        held_out_sentences("en", 2001)


def test_asking_for_sentences_needs_no_heavy_library():
    script = (
        "import sys; import trenza_recipes.starter_whisper.held_out, trenza_recipes.starter_whisper.scoring;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'espeakng_loader', 'faster_whisper')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  Three blue squares, and one GREEN star. ", "three blue squares and one green star"),
        ("¿Hoy es miércoles?", "hoy es miércoles"),
        ("mie\u0301rcoles", "miércoles"),
        ("", ""),
    ],
)
def test_normalising(text, words):
    assert normalised(text) == words


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("one two three", "One, two, three!", 0.0),
        ("one two three four", "one too three four", 0.25),
        ("one two three four", "one two four", 0.25),
        ("one two", "one and two", 0.5),
        ("one two", "", 1.0),
        ("", "one two", 2.0),
        ("", "", 0.0),
    ],
)
def test_word_error_rate(reference, hypothesis, rate):
    assert word_error_rate(reference, hypothesis) == rate


def test_mean_word_error_rate_weighs_by_words():
    assert mean_word_error_rate([("one", "two"), ("one two three", "one two three")]) == 0.25


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_is_one_token_that_reads_back(language):
    tokenizers = pytest.importorskip("tokenizers")
    tokens = Tokens()
    reader = tokenizers.Tokenizer.from_str(tokens.file_text())
    for word in vocabulary(language):
        assert reader.encode(f" {word}").ids == tokens.words([word])
        assert reader.decode(tokens.words([word])) == f" {word}"


def test_unknown_words_go_byte_by_byte_and_read_back():
    tokenizers = pytest.importorskip("tokenizers")
    reader = tokenizers.Tokenizer.from_str(Tokens().file_text())
    text = " ¿Qué pingüino? 42 日"
    assert reader.decode(reader.encode(text).ids) == text


def test_tokens_are_numbered_as_whisper_numbers_them():
    tokens = Tokens()
    order = ["endoftext", "startoftranscript", "en", "zh"]
    assert [tokens.special(name) for name in order] == [len(tokens.pieces) + place for place in range(4)]
    assert tokens.special("translate") == tokens.special("en") + 100
    assert tokens.first_timestamp == tokens.special("notimestamps") + 1 == len(tokens) - 1501
    assert tokens.timestamp(1.0) == tokens.special("1.00")
    assert tokens.timestamp(99.0) == len(tokens) - 1
    assert "" in tokens.pieces
