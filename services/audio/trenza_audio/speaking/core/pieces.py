"""Cuts a text into pieces that are spoken one after the other: sentences, or parts of them where they are too long.

The first sound comes when the first piece is spoken, and a cancelled request ends with the piece that is being spoken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from trenza_audio.speaking.core.wording import speakable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BEFORE_ANYTHING = _words("""
    mr mrs ms mx dr prof rev hon st jr sr gen col sgt capt lt cmdr gov sen rep pres vs al approx dept univ inc ltd bros etc cf viz
    sra srta dra ud uds vd vds tel avda gral lic ing arq pdte dpto aprox ej máx mín hr str bzw usw evtl ggf mme mlle mgr
""")
"""Words before a full stop that does not end a sentence as long as something follows on the same line."""
_BEFORE_NUMBERS = _words("""
    no nos nr fig figs eq vol ch sec p pp pág págs núm art cap jan feb mar apr jun jul aug sep sept oct nov dec
""")
"""Likewise, but only before a number; otherwise they are words of their own."""

_ENDING = re.compile(r"[.!?…。！？｡؟۔।॥]+[\"'”’»)\]』」）]*|\n\s*\n\s*|\n+")
_WIDE = frozenset("。！？｡")
"""Marks that end a sentence with no space behind them."""
_CLAUSES = (re.compile(r"(?<=[;:,–—、，；：،])\s*"), re.compile(r"\s+"))
"""Where a long sentence is cut: behind the marks of its clauses, else between words."""
_INITIAL = re.compile(r"(?:^|[\s.(])(?!I$)[^\W\d_]$")
_LAST_WORD = re.compile(r"[\w.]+$")


_DENSE = frozenset({"zh", "ja", "ko", "yue", "hak"})
_DENSITY = 3
"""A character of these languages takes about as long to say as so many Latin letters."""


def limit_for(language: str, limit_chars: int) -> int:
    """How many characters of a language take as long to speak as `limit_chars` Latin letters."""
    return max(1, limit_chars // _DENSITY) if language in _DENSE else limit_chars


def split(text: str, limit_chars: int, least_chars: int = 1) -> tuple[str, ...]:
    """The pieces of a text, at most `limit_chars` each, none without anything to speak.

    Sentences shorter than `least_chars` go together with the one that follows. Raises ValueError for limits below 1.
    """
    if limit_chars < 1 or least_chars < 1:
        raise ValueError("limits must be at least 1")
    pieces = [piece for sentence in _sentences(text) for piece in _cut(sentence, limit_chars)]
    return tuple(piece for piece in _together(pieces, limit_chars, least_chars) if speakable(piece))


def _sentences(text: str) -> Iterator[str]:
    begin = 0
    for ending in _ENDING.finditer(text):
        if _ends_sentence(text, begin, ending):
            yield text[begin : ending.end()]
            begin = ending.end()
    yield text[begin:]


def _ends_sentence(text: str, begin: int, ending: re.Match[str]) -> bool:
    mark = ending.group()
    if mark[0] == "\n":
        return mark.count("\n") > 1 or _line_ends_sentence(text, ending)
    if _WIDE & set(mark):
        return True
    following = text[ending.end() : ending.end() + 1]
    if following and not following.isspace():
        return False  # 3.5, example.org, "?!" in the middle of a word
    if text[ending.end() :].lstrip(" ")[:1].islower():
        return False  # "Wait... what?", "Really?" she said
    return mark != "." or not _short_form(text[begin : ending.start()], text[ending.end() :])


def _line_ends_sentence(text: str, ending: re.Match[str]) -> bool:
    """A line that is broken in the middle of a sentence goes on with a small letter."""
    return not text[ending.end() : ending.end() + 1].islower()


def _short_form(before: str, after: str) -> bool:
    """Whether a full stop belongs to the word before it; `after` is all that follows."""
    following = after.lstrip(" ")
    if not following or following[0] == "\n":
        return False
    found = _LAST_WORD.search(before)
    word = found.group().lower().rstrip(".") if found else ""
    if word in _BEFORE_ANYTHING or (word in _BEFORE_NUMBERS and following[0].isdigit()):
        return True
    return bool(_INITIAL.search(before)) and before[-1].isupper()  # J. R. R. Tolkien


def _cut(sentence: str, limit_chars: int) -> Iterator[str]:
    rest = " ".join(sentence.split())
    while len(rest) > limit_chars:
        end = _cut_at(rest, limit_chars)
        yield rest[:end].strip()
        rest = rest[end:].strip()
    if rest:
        yield rest


def _cut_at(rest: str, limit_chars: int) -> int:
    """Where to cut: as far behind as possible, but not so early that a scrap is left."""
    for borders in _CLAUSES:
        ends = [border.start() for border in borders.finditer(rest, 0, limit_chars + 1)]
        good = [end for end in ends if limit_chars // 4 <= end <= limit_chars]
        if good and good[-1] > 0:
            return good[-1]
    return limit_chars


def _together(pieces: list[str], limit_chars: int, least_chars: int) -> Iterator[str]:
    waiting = ""
    for piece in pieces:
        if waiting and len(waiting) + 1 + len(piece) > limit_chars:
            yield waiting
            waiting = ""
        waiting = f"{waiting} {piece}".strip()
        # What cannot be spoken by itself ("...", ":") belongs to what follows, too.
        if len(waiting) >= least_chars and speakable(waiting):
            yield waiting
            waiting = ""
    if waiting:
        yield waiting
