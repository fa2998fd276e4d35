"""From the generation fields of a request to the proto's options."""

from __future__ import annotations

from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2

from trenza_gateway.openai.bodies import ModelBody
from trenza_gateway.openai.encoding import json_bytes
from trenza_gateway.openai.errors import bad_request
from trenza_gateway.openai.requests import GenerationBody, ResponseFormat

PRIORITIES = {
    0: common_pb2.PRIORITY_CLASS_URGENT,
    1: common_pb2.PRIORITY_CLASS_NORMAL,
    2: common_pb2.PRIORITY_CLASS_BACKGROUND,
}

_MAX_TOKEN_ID = 2**32 - 1


def generation_options(
    body: GenerationBody, max_tokens: int | None, top_logprobs: int | None
) -> chat_pb2.GenerationOptions:
    """The options of one request; raises a 400 ApiError for a bad `logit_bias`."""
    return chat_pb2.GenerationOptions(
        max_tokens=max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=None if body.top_k is None else max(0, body.top_k),
        min_p=body.min_p,
        repeat_penalty=body.repetition_penalty if body.repeat_penalty is None else body.repeat_penalty,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        seed=body.seed,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop,
        logit_bias=_token_biases(body.logit_bias or {}),
        choices=body.choices,
        top_logprobs=top_logprobs,
        ignore_end=bool(body.ignore_eos),
    )


def _token_biases(biases: dict[str, float]) -> dict[int, float]:
    for token in biases:
        if not (token.isascii() and token.isdigit() and int(token) <= _MAX_TOKEN_ID):
            raise bad_request(f"Invalid key in 'logit_bias': '{token[:32]}' is not a token id.", param="logit_bias")
    return {int(token): bias for token, bias in biases.items()}


def response_format(body: GenerationBody) -> chat_pb2.ResponseFormat | None:
    """The form that the answer must have, None for free text."""
    said = body.response_format
    if body.grammar is not None:
        if said is not None and said.type != "text":
            raise bad_request("'grammar' and 'response_format' cannot both be given.", param="grammar")
        return chat_pb2.ResponseFormat(grammar=chat_pb2.GrammarFormat(gbnf=body.grammar))
    if said is None or said.type == "text":
        return None
    if said.type == "json_object":
        return chat_pb2.ResponseFormat(json_object=chat_pb2.JsonObjectFormat())
    return chat_pb2.ResponseFormat(json_schema=_json_schema(said))


def _json_schema(said: ResponseFormat) -> chat_pb2.JsonSchemaFormat:
    if said.json_schema is None:
        raise bad_request("Missing required field: 'response_format.json_schema'.", param="response_format.json_schema")
    return chat_pb2.JsonSchemaFormat(
        name=said.json_schema.name,
        schema=json_bytes(said.json_schema.schema_).decode(),
        strict=bool(said.json_schema.strict),
    )


def priority_class(body: ModelBody, header: str | None) -> common_pb2.PriorityClass.ValueType:
    """The priority class that the body or else X-Priority asks for; raises a 400 ApiError for a bad header."""
    if header is not None and header.strip() not in ("0", "1", "2"):
        raise bad_request("Invalid value for 'X-Priority': it must be 0, 1 or 2.", param="X-Priority")
    if body.priority is not None:
        return PRIORITIES[body.priority]
    return PRIORITIES[int(header)] if header is not None else common_pb2.PRIORITY_CLASS_NORMAL
