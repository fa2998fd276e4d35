"""How bodies are read: JSON or a form becomes a checked model, or a 400 that names the field that is wrong."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trenza_gateway.openai.errors import SHOWN_CHARS, ApiError, bad_request

Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class Strict(BaseModel):
    """No coercion: "5" is not a number, 1 is not a boolean, NaN is no temperature."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class ModelBody(Strict):
    """The fields that every request to a model has. Fields that it does not know are kept in `model_extra`."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow", protected_namespaces=())

    model: str = Field(min_length=1)
    priority: int | None = Field(
        default=None,
        ge=0,
        le=2,
        description="Beyond OpenAI: 0 urgent, 1 normal, 2 background. The header X-Priority says the same.",
    )
    session_id: str | None = Field(
        default=None, max_length=256, description="Beyond OpenAI: requests of one session prefer the same replica."
    )


_BodyT = TypeVar("_BodyT", bound=BaseModel)


def parse_json(kind: type[_BodyT], body: bytes) -> _BodyT:
    """Reads a JSON body. Raises a 400 ApiError that names the field that is wrong."""
    try:
        with _uncollected():
            return kind.model_validate_json(body)
    except ValidationError as error:
        raise _bad_body(error) from None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Python's garbage collector rests: JSON has no cycles, and looking for them takes most of the time of millions of values."""
    working = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if working:
            gc.enable()


def parse_form(kind: type[_BodyT], fields: Mapping[str, Sequence[str]], lists: Collection[str] = ()) -> _BodyT:
    """Reads a form's fields, in which numbers and booleans are texts. Those in `lists` may come several times.

    A name may end in `[]`, as OpenAI's clients write lists; an empty field counts as not sent. Raises a 400 ApiError.
    """
    values: dict[str, Any] = {}
    for name, texts in fields.items():
        bare = name.removesuffix("[]")
        said = [text for text in texts if text]
        if bare in lists:
            values[bare] = [*values.get(bare, ()), *said]
        elif len(texts) > 1 or bare in values:
            raise bad_request(f"The field '{bare[:SHOWN_CHARS]}' is there more than once.", param=bare[:SHOWN_CHARS])
        elif said:
            values[bare] = said[0]
    try:
        return kind.model_validate(values, strict=False)
    except ValidationError as error:
        raise _bad_body(error) from None


def _bad_body(error: ValidationError) -> ApiError:
    """The 400 for the complaint that is most to the point: the one deepest inside the body."""
    found = max(error.errors(include_url=False, include_input=False), key=lambda item: len(item["loc"]))
    if found["type"] == "json_invalid":
        return bad_request(f"The body is not valid JSON: {found['ctx']['error']}.", code="invalid_json")
    param = path_of(found["loc"])
    if found["type"] == "missing":
        return bad_request(f"Missing required field: '{param}'.", param=param, code="missing_required_parameter")
    where = f"'{param}'" if param else "the body"
    return bad_request(f"Invalid value for {where}: {found['msg']}.", param=param, code="invalid_value")


def path_of(location: tuple[int | str, ...]) -> str | None:
    """A location inside a body as OpenAI writes it: `messages[0].content`. Names of a union's members are left out."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier() and step not in _UNION_MEMBERS:
            path += f".{step}" if path else step
    return path or None


_UNION_MEMBERS = frozenset({"str", "int", "float", "bool"})
