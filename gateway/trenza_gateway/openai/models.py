"""The model list in OpenAI's shape, with what else is worth knowing about a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trenza.common.v1 import common_pb2


def model_object(model: common_pb2.Model) -> dict[str, Any]:
    """One model. Beyond OpenAI: modality, capabilities, context_length (null where there is no limit), state …"""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_unix_s,
        "owned_by": model.owned_by or "trenza",
        "modality": _word(common_pb2.Modality, model.modality, "MODALITY_"),
        "capabilities": [_word(common_pb2.Capability, item, "CAPABILITY_") for item in model.capabilities],
        "description": model.description,
        "context_length": model.context_length or None,
        "state": _word(common_pb2.LoadState, model.load_state, "LOAD_STATE_"),
        "load_progress": model.load_progress,
        "slots": model.slots,
    }


def model_list(models: Iterable[common_pb2.Model]) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [model_object(model) for model in models]}


def _word(enum: Any, value: int, prefix: str) -> str:
    """An enum's value as a word; a value that a newer replica knows and this gateway does not has none."""
    return str(enum.Name(value)).removeprefix(prefix).lower() if value in enum.values() else "unspecified"
