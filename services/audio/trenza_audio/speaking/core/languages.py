"""Codes of languages, and which language a short text is in.

A library judges texts by their letters; this module knows better where a few words decide, and where a script leaves no choice.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

_SAME = {
    "cmn": "zh",
    "nb": "no",
    "nn": "no",
    "iw": "he",
    "in": "id",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
    "zho": "zh",
    "chi": "zh",
}
"""Codes of what is one language to a listener."""
_THREE_LETTERS = {
    "eng": "en",
    "spa": "es",
    "deu": "de",
    "ger": "de",
    "fra": "fr",
    "fre": "fr",
    "ita": "it",
    "por": "pt",
}


def normal_tag(tag: str) -> str:
    """A language tag in small letters with hyphens: `pt_BR` is `pt-br`."""
    return tag.strip().lower().replace("_", "-")


def code_of(tag: str) -> str:
    """The code of a tag's language, whatever its region: `es-419` is `es`, `cmn` is `zh`."""
    primary = normal_tag(tag).partition("-")[0]
    return _SAME.get(primary) or _THREE_LETTERS.get(primary, primary)


_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": """
            the a an and or of to in on at is are was were be it this that these those i you he she we they my your his her our
            their not with for from by as but if what who where when why how which there here have has had do does did will would
            can could should today yesterday tomorrow monday tuesday wednesday thursday friday saturday sunday one two three four
            five six seven eight nine ten eleven twelve twenty red green blue yellow black white orange purple brown grey gray
            circle circles square squares star stars triangle triangles yes hello hi thanks thank please good morning night bye
            goodbye welcome cat dog house water world no not very more some any all big small new time day name much many about
            """,
        "es": """
            el la los las un una unos unas y o de del al en con por para que qué es son era está están ser soy eres somos hay yo tú
            usted él ella nosotros ellos ellas mi tu su sus mis tus este esta estos estas ese esa eso no sí si como cómo cuándo
            dónde quién cuál cuánto porque pero muy más menos ya también hoy ayer mañana lunes martes miércoles jueves viernes
            sábado domingo uno dos tres cuatro cinco seis siete ocho nueve diez once doce veinte rojo roja rojos rojas verde
            verdes azul azules amarillo amarilla amarillos amarillas negro negra negros negras blanco blanca blancos blancas
            círculo círculos cuadrado cuadrados estrella estrellas triángulo triángulos hola gracias adiós buenos buenas días
            tardes noches gato perro casa agua mundo tiempo día nombre favor te me se lo le les nos tengo tiene quiero puedo
            """,
        "fr": """
            le la les un une des et ou de du au aux en dans avec pour par que qui est sont était je tu il elle nous vous ils elles
            mon ton son ma ta sa ce cette ces ne pas oui non comme mais très plus moins aussi bonjour merci aujourd'hui hier demain
            lundi mardi mercredi jeudi vendredi samedi dimanche deux trois quatre cinq sept huit neuf dix rouge vert bleu chat chien
            """,
        "de": """
            der die das den dem des ein eine einen einem und oder von zu im in mit für auf ist sind war ich du er sie es wir ihr
            mein dein sein nicht kein ja nein aber sehr mehr auch heute gestern morgen guten tag hallo danke bitte montag dienstag
            mittwoch donnerstag freitag samstag sonntag eins zwei drei vier fünf sechs sieben acht neun zehn rot grün blau
            """,
        "it": """
            il lo la gli le un uno una e o di del della dei delle al alla in nel con per che è sono era io tu lui lei noi voi loro
            mio tuo suo questo questa non sì come ma molto più anche oggi ieri domani ciao grazie buongiorno lunedì martedì
            mercoledì giovedì venerdì sabato domenica due tre quattro cinque sei sette otto nove dieci rosso verde blu
            """,
        "pt": """
            o a os as um uma uns umas e ou de do da dos das em no na nos nas com por para que é são era está eu você ele ela nós
            meu seu este esta isso não sim como mas muito mais também hoje ontem amanhã olá obrigado obrigada bom boa dia tudo bem
            dois duas três quatro cinco seis sete oito nove dez vermelho verde azul
            """,
        "nl": """
            de het een en of van naar in op met voor is zijn was ik jij hij zij wij mijn jouw niet geen ja nee maar zeer meer ook
            vandaag gisteren morgen hallo dank goede twee drie vier vijf zes zeven acht negen tien rood groen blauw
            """,
    }.items()
}
"""Words that are common in a language, and in short texts above all."""

_LETTERS: Mapping[str, str] = {
    "ñ": "es",
    "¿": "es",
    "¡": "es",
    "ß": "de",
    "ã": "pt",
    "õ": "pt",
    "œ": "fr",
    "ù": "fr it",
    "ì": "it",
    "ò": "it",
    "ğ": "tr",
    "ı": "tr",
    "ł": "pl",
    "ą": "pl lt",
    "ő": "hu",
    "ű": "hu",
    "ř": "cs",
    "ů": "cs",
    "å": "sv no da",
    "ø": "no da",
}
"""Letters and marks that few languages write."""

_SCRIPTS: Mapping[str, str] = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CJK": "zh ja yue",
    "CYRILLIC": "ru uk be bg sr mk kk ky tt ba cv tg mn kaa nog",
    "GREEK": "el grc",
    "ARABIC": "ar fa ur sd ug ku ps",
    "HEBREW": "he yi",
    "DEVANAGARI": "hi mr ne kok sa",
    "BENGALI": "bn as bpy",
    "THAI": "th",
    "ARMENIAN": "hy hyw",
    "GEORGIAN": "ka",
    "ETHIOPIC": "am ti",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "MYANMAR": "my shn",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
}
"""Languages that are written in a script, by the first word of its characters' Unicode names. All others use Latin letters."""

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_WORD_WEIGHT = 6.0
"""How much it says that every word of a text is common in a language, against the library's logarithm of a probability."""
_LETTER_WEIGHT = 4.0
_PROBABILITY_FLOOR = 1e-6
_USUAL = {"en": 1.0, "es": 0.8, "ar": 0.0, "hi": 0.0, "ru": 0.0, "zh": 0.0}
"""A little in favour of the languages that most texts are in, for texts that say nothing else."""
_RARE = -3.0
"""And against the others that a word list would have had to speak up for."""


def choose(text: str, probabilities: Mapping[str, float], candidates: Sequence[str]) -> str:
    """The language of a text among `candidates`, which are not empty; the first of them where nothing speaks for any.

    `probabilities` are a library's, by language; those it does not know are missing there.
    """
    possible = _of_script(text, candidates)
    if len(possible) == 1:
        return possible[0]
    words = [word.replace("’", "'") for word in _TOKEN.findall(text.lower())]
    if not words:
        return possible[0]
    floor = math.log(_PROBABILITY_FLOOR)

    def score(language: str) -> float:
        library = math.log(max(probabilities.get(language, 0.0), _PROBABILITY_FLOOR)) if probabilities else floor
        return library + _WORD_WEIGHT * _share(words, language) + _letters(text, language) + _USUAL.get(language, _RARE)

    return max(possible, key=score)


def _share(words: Sequence[str], language: str) -> float:
    """The part of the words that are common in a language."""
    return sum(word in _WORDS.get(language, ()) for word in words) / len(words)


def _letters(text: str, language: str) -> float:
    found = {_LETTERS[character] for character in set(text.lower()) if character in _LETTERS}
    return _LETTER_WEIGHT * sum(1 if language in languages.split() else -1 for languages in found)


def _of_script(text: str, candidates: Sequence[str]) -> Sequence[str]:
    """Those candidates that are written in the script of most of the text's letters; all where that leaves none."""
    scripts = list(_scripts(text))
    if not scripts:
        return candidates
    kana = {"HIRAGANA", "KATAKANA"} & set(scripts)
    script = kana.pop() if kana else max(sorted(set(scripts)), key=scripts.count)
    if script in _SCRIPTS:
        left = [candidate for candidate in candidates if candidate in _SCRIPTS[script].split()]
    else:
        others = {language for languages in _SCRIPTS.values() for language in languages.split()}
        left = [candidate for candidate in candidates if candidate not in others]
    return left or candidates


def _scripts(text: str) -> Iterator[str]:
    for character in text:
        if character.isalpha():
            yield unicodedata.name(character, "").partition(" ")[0]
