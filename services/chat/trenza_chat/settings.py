"""Settings of the chat service; each field is the environment variable `TRENZA_CHAT_<FIELD>`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from trenza_runtime.model_service import ModelServiceSettings


class ChatSettings(ModelServiceSettings):
    """What is particular to text generation."""

    model_config = SettingsConfigDict(env_prefix="TRENZA_CHAT_", extra="ignore")

    context_length: int = Field(0, ge=0, description="Tokens per request, prompt and answer; 0 takes the model's own.")
    batch_tokens: int = Field(512, ge=32, le=16384, description="Tokens computed in one step at most.")
    threads: int = Field(
        0, ge=0, le=512, description="CPU threads of a model; 0 takes every core that the process may use."
    )
    gpu_layers: int = Field(-1, ge=-1, description="Layers on the GPU; -1 takes all where there is a GPU.")
