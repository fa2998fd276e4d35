"""The configuration: a TOML file with the models to fetch."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trenza_fetch.core.names import folder_of
from trenza_fetch.failures import ExitCode, FetchFailure
from trenza_fetch.sources.address import SourceAddress, parse_address

MAX_CONFIG_BYTES = 2**20
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"
_Pattern = Annotated[str, Field(min_length=1, max_length=512)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Strict):
    """How often and how long things are tried."""

    attempts: int = Field(5, ge=1, le=100, description="Times that a listing or a file is tried without any progress.")
    retry_wait_s: float = Field(
        1.0, ge=0, le=300, description="Pause before the second try; it doubles, up to a minute."
    )
    lock_wait_s: float = Field(
        3600.0, ge=0, description="How long to wait for another process that fetches the same model."
    )
    lock_stale_s: float = Field(
        60.0, ge=1, description="Such a process without a sign of life for so long counts as dead."
    )
    keep_replaced_s: float = Field(
        86400.0, ge=0, description="How long a model's former files are kept for replicas that still have them open."
    )


class ModelConfig(_Strict):
    """One model: what it is called, where it comes from, and which of the source's files make it up."""

    name: Annotated[str, Field(pattern=_NAME)]
    modality: Literal["chat", "audio", "vision", "images"]
    source: str
    files: tuple[_Pattern, ...] = Field((), max_length=10_000)
    sha256: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict, max_length=10_000)
    manifest: Annotated[str, Field(max_length=MAX_CONFIG_BYTES)] | None = None

    @field_validator("source")
    @classmethod
    def _is_an_address(cls, source: str) -> str:
        parse_address(source)
        return source

    @model_validator(mode="after")
    def _agrees_with_its_manifest(self) -> Self:
        if self.manifest is None:
            return self
        try:
            tables = tomllib.loads(self.manifest)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"the manifest is no valid TOML: {error}") from None
        for key, wanted in (("name", self.name), ("modality", self.modality)):
            if tables.get(key) != wanted:
                raise ValueError(f"the manifest says {key} = {tables.get(key)!r}, and the model is {wanted!r}")
        return self

    @property
    def address(self) -> SourceAddress:
        """The source, taken apart."""
        return parse_address(self.source)

    @property
    def folder(self) -> str:
        """The folder of the models root that it becomes."""
        return folder_of(self.name)

    @property
    def fingerprint(self) -> str:
        """Changes whenever something else is to be fetched."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class Config(_Strict):
    """The whole file: `[[model]]` tables and `[limits]`."""

    model: tuple[ModelConfig, ...] = Field((), max_length=1000)
    limits: Limits = Field(default_factory=Limits)

    @model_validator(mode="after")
    def _folders_differ(self) -> Self:
        names: dict[str, str] = {}
        for model in self.model:
            other = names.setdefault(model.folder, model.name)
            if other != model.name:
                raise ValueError(f"{other!r} and {model.name!r} would lie in the same folder {model.folder!r}")
        if len(names) < len(self.model):
            raise ValueError("a model is there twice")
        return self


def read_config(path: Path) -> Config:
    """Reads the file. Raises FetchFailure with one sentence that names the first mistake."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise _mistaken(path, f"it is larger than {MAX_CONFIG_BYTES} bytes")
        return Config.model_validate(tomllib.loads(content.decode("utf-8-sig")))
    except OSError as error:
        raise _mistaken(path, f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _mistaken(path, "it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise _mistaken(path, f"it is no valid TOML: {error}") from None
    except ValidationError as error:
        raise _mistaken(path, _sentence(error)) from None


def _mistaken(path: Path, why: str) -> FetchFailure:
    return FetchFailure(ExitCode.CONFIGURATION, f"the configuration {path}: {why}")


def _sentence(error: ValidationError) -> str:
    """The first mistake, with the number of the model, counted from 1, where it is one of a model."""
    mistake = error.errors(include_url=False)[0]
    where = [str(part + 1) if isinstance(part, int) else part for part in mistake["loc"]]
    place = " ".join(where)
    match mistake["type"]:
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden":
            return f"there is no such key as {place}"
        case "value_error":
            return f"{place}: {mistake['ctx']['error']}" if place else str(mistake["ctx"]["error"])
    return f"{place} is {str(mistake['input'])[:80]!r}: {mistake['msg']}"
