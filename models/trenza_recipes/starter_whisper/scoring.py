"""How heard words are compared with spoken ones: a normaliser and the word error rate."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def normalised(text: str) -> str:
    """The words alone: lower case, no punctuation, one space between words; accents stay."""
    composed = unicodedata.normalize("NFC", text).lower()
    kept = "".join(letter if letter.isalnum() else " " for letter in composed if letter not in "'’")
    return " ".join(kept.split())


def word_errors(reference: str, hypothesis: str) -> int:
    """Words to substitute, insert or delete to turn one into the other, after normalising both."""
    wanted, heard = normalised(reference).split(), normalised(hypothesis).split()
    row = list(range(len(heard) + 1))
    for i, word in enumerate(wanted, start=1):
        above, row = row, [i]
        for j, other in enumerate(heard, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != other)))
    return row[-1]


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Word errors per reference word; for an empty reference, the number of words that were heard all the same."""
    return word_errors(reference, hypothesis) / max(1, len(normalised(reference).split()))


def mean_word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """All the errors of (reference, hypothesis) pairs by all the reference words."""
    errors = words = 0
    for reference, hypothesis in pairs:
        errors += word_errors(reference, hypothesis)
        words += len(normalised(reference).split())
    return errors / max(1, words)
