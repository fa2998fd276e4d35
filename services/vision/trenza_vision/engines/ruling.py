"""Keeps an answer to the form that its request asks for: a grammar over the bytes of a tokenizer's tokens."""

from __future__ import annotations

from trenza_llama.core.gbnf import GbnfError, check
from trenza_llama.core.json_schema import SchemaError, to_gbnf
from trenza_llama.engine import GbnfGrammar, Grammar, JsonObjectGrammar, JsonSchemaGrammar

from trenza_vision.core.grammar import Follower, GrammarError, TooSlow, parse
from trenza_vision.engines.wording import TokenBytes


class Ruling:
    """Says which tokens an answer may go on with. Raises GrammarError where the grammar cannot be used."""

    def __init__(self, grammar: Grammar, tokens: TokenBytes, ends: frozenset[int]) -> None:
        self._tokens = tokens
        self._ends = ends
        try:
            self._follower = Follower(parse(_gbnf(grammar)))
        except TooSlow:
            raise GrammarError("the grammar takes too long to follow") from None

    @property
    def over(self) -> bool:
        """Whether the answer has to end here."""
        return self._follower.over

    def allows(self, token: int) -> bool:
        """Whether the answer may go on, or end, with this token. Raises TooSlow."""
        if token in self._ends:
            return self._follower.complete
        piece = self._tokens.of(token)
        return bool(piece) and token not in self._tokens.special and self._follower.allows(piece)

    def accept(self, token: int) -> None:
        """Goes on with a token that is allowed."""
        if token not in self._ends:
            self._follower.accept(self._tokens.of(token))


def _gbnf(grammar: Grammar) -> str:
    try:
        match grammar:
            case JsonObjectGrammar():
                text = to_gbnf('{"type": "object"}')
            case JsonSchemaGrammar(schema, strict):
                text = to_gbnf(schema, strict)
            case GbnfGrammar(text):
                pass
        check(text)
    except (SchemaError, GbnfError) as error:
        raise GrammarError(str(error)) from error
    return text
