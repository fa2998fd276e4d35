"""Which language a text is in, without a library, with it, and over the languages of every engine."""

from __future__ import annotations

import pytest
from trenza_audio.speaking.casts import espeak_cast
from trenza_audio.speaking.core.bark_cast import LANGUAGES as BARK_LANGUAGES
from trenza_audio.speaking.core.languages import choose, code_of, normal_tag
from trenza_audio.speaking.detection import LanguageDetector

ENGLISH = (
    "three blue squares",
    "one green star",
    "today is Monday",
    "two yellow triangles and seven red circles",
    "good morning",
    "hello",
    "yes",
    "no",
    "five",
    "a cat",
    "I am",
    "Where is the red star?",
    "The Prime Minister spoke.",
    "Testing testing",
    "It's okay.",
    "ONE RED STAR",
    "123",
)
SPANISH = (
    "hoy es lunes",
    "tres círculos rojos",
    "dos estrellas verdes y un cuadrado azul",
    "mañana es martes",
    "buenos días",
    "hola",
    "sí",
    "uno",
    "cinco",
    "el perro",
    "gato",
    "casa",
    "rojo",
    "¿Dónde?",
    "Vamos",
    "trece gatos negros duermen",
    "HOY ES VIERNES",
    "cuatro círculos",
)
OTHERS = {
    "Guten Morgen, wie geht es dir?": "de",
    "Der Hund schläft unter dem Tisch.": "de",
    "Bonjour tout le monde": "fr",
    "J'ai mangé une pomme": "fr",
    "Ciao, come stai?": "it",
    "Olá, tudo bem?": "pt",
    "Dzień dobry, jak się masz?": "pl",
    "Merhaba, nasılsın?": "tr",
    "привет мир": "ru",
    "你好": "zh",
    "今天天气很好": "zh",
    "こんにちは世界": "ja",
    "안녕하세요": "ko",
    "नमस्ते दुनिया": "hi",
}
FEW = {"Het is koud vandaag": "nl", "Jag heter Anna och bor i Stockholm": "sv", "Γειά σου Κόσμε": "el", "مرحبا": "ar"}


@pytest.fixture(scope="module")
def detector() -> LanguageDetector:
    return LanguageDetector()


@pytest.mark.parametrize("candidates", [("en", "es"), BARK_LANGUAGES, espeak_cast().languages("alloy")])
def test_english_and_spanish(detector: LanguageDetector, candidates: tuple[str, ...]) -> None:
    assert {text: detector.detect(text, candidates) for text in ENGLISH} == dict.fromkeys(ENGLISH, "en")
    assert {text: detector.detect(text, candidates) for text in SPANISH} == dict.fromkeys(SPANISH, "es")


def test_other_languages(detector: LanguageDetector) -> None:
    assert {text: detector.detect(text, BARK_LANGUAGES) for text in OTHERS} == OTHERS
    everything = espeak_cast().languages("alloy")
    assert {text: detector.detect(text, everything) for text in (OTHERS | FEW)} == OTHERS | FEW


def test_only_candidates_are_chosen(detector: LanguageDetector) -> None:
    assert detector.detect("hoy es lunes", ("fr", "de")) in ("fr", "de")
    assert detector.detect("hoy es lunes", ("fr",)) == "fr"
    assert detector.detect("你好", ("es", "en")) in ("en", "es")


def test_words_and_letters_decide_where_there_is_no_library() -> None:
    assert choose("hoy es lunes", {}, ("en", "es")) == "es"
    assert choose("three blue squares", {}, ("es", "en")) == "en"
    assert choose("Straße", {}, ("en", "es", "de")) == "de"
    assert choose("...", {}, ("fr", "en")) == "fr"
    assert choose("привет", {}, ("en", "ru")) == "ru"


def test_codes() -> None:
    assert [code_of(tag) for tag in ("es-419", "EN_us", "cmn", "nb", "zh-CN", "spa", "yue", "")] == [
        *("es", "en", "zh", "no", "zh", "es", "yue", "")
    ]
    assert normal_tag(" pt_BR ") == "pt-br"
