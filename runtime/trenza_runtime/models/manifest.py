"""What a model's folder says about the model: `model.toml`, or the original system's `<name>.ini`.

Files named by a manifest lie in its folder; absolute paths and `..` are refused. Links inside the folder are followed: whoever
can write into the models root decides what is loaded anyway.
"""

from __future__ import annotations

import configparser
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from trenza.common.v1 import common_pb2

MANIFEST_NAME = "model.toml"
_MAX_MANIFEST_BYTES = 2**20
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"
_LEGACY_SECTION = "MODEL CONFIG"
_FIRST_PART = re.compile(r"-00001-of-(\d{5})(\.\w+)$")

MODALITIES: Mapping[str, common_pb2.Modality.ValueType] = {
    "chat": common_pb2.MODALITY_CHAT,
    "audio": common_pb2.MODALITY_AUDIO,
    "vision": common_pb2.MODALITY_VISION,
    "images": common_pb2.MODALITY_IMAGES,
}
"""By the names that manifests use; capitalised, they are the original system's folders."""

_CAPABILITIES: Mapping[str, common_pb2.Capability.ValueType] = {
    name.removeprefix("CAPABILITY_").lower(): value
    for name, value in common_pb2.Capability.items()
    if value != common_pb2.CAPABILITY_UNSPECIFIED
}
_USUAL_CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "chat": ("chat", "completion"),
    "audio": ("transcription",),
    "vision": ("chat", "image_input"),
    "images": ("image_generation",),
}


class ManifestError(Exception):
    """The folder holds no usable model; the message says why in one sentence."""


@dataclass(frozen=True)
class ModelManifest:
    """One model of a folder.

    `files` are absolute paths by what they are to the engine (`"model"` …), `size_bytes` is their size together (an estimate of
    the memory needed before the model was ever loaded), `slots` 0 leaves their number to the service, `context_length` 0 to
    the model. `tables` is the whole document, for whatever an engine wants to know beyond these fields.
    """

    name: str
    modality: common_pb2.Modality.ValueType
    folder: Path
    engine: str = ""
    description: str = ""
    license: str = ""
    owned_by: str = "trenza"
    files: Mapping[str, Path] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    context_length: int = 0
    slots: int = 0
    capabilities: tuple[common_pb2.Capability.ValueType, ...] = ()
    size_bytes: int = 0
    created_unix_s: int = 0
    tables: Mapping[str, Any] = field(default_factory=dict)


class _Context(BaseModel):
    length: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class _Limits(BaseModel):
    slots: Annotated[int, Field(ge=0, le=4096)] = 0


class _Document(BaseModel):
    """`model.toml`. Tables that it does not know are for the engine; single values that it does not know are mistakes."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Field(pattern=_NAME)]
    modality: Literal["chat", "audio", "vision", "images"]
    engine: str = ""
    description: str = ""
    license: str = ""
    owned_by: str = "trenza"
    files: dict[str, str] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)
    context: _Context = Field(default_factory=_Context)
    limits: _Limits = Field(default_factory=_Limits)
    capabilities: list[str] | None = None


def read_modality(path: Path) -> common_pb2.Modality.ValueType | None:
    """The modality that a `model.toml` names; None where that cannot be read. What else is wrong with it does not matter."""
    try:
        modality = _read_toml(path).get("modality")
    except ManifestError:
        return None
    return MODALITIES.get(modality) if isinstance(modality, str) else None


def read_manifest(path: Path) -> ModelManifest:
    """Reads a `model.toml`. Raises ManifestError when it is wrong or when a file that it names is not there."""
    tables = _read_toml(path)
    try:
        document = _Document.model_validate(tables)
    except ValidationError as error:
        raise ManifestError(_first_mistake(error)) from None
    strays = [key for key, value in (document.model_extra or {}).items() if not _is_table(value)]
    if strays:
        raise ManifestError(f"there is no such key as {strays[0]!r}")
    folder = path.parent.resolve()
    files = {role: _inside(folder, role, name) for role, name in document.files.items()}
    return ModelManifest(
        name=document.name,
        modality=MODALITIES[document.modality],
        folder=folder,
        engine=document.engine,
        description=document.description,
        license=document.license,
        owned_by=document.owned_by or "trenza",
        files=files,
        defaults=document.defaults,
        context_length=document.context.length,
        slots=document.limits.slots,
        capabilities=_capabilities(document.capabilities or _USUAL_CAPABILITIES[document.modality]),
        size_bytes=sum(_size_bytes(file) for file in files.values()),
        created_unix_s=_newest_unix_s([path, *files.values()]),
        tables=tables,
    )


def read_legacy_manifest(path: Path, modality: str) -> ModelManifest:
    """Reads the original system's `<name>/<name>.ini`. A chat model's file is the only `.gguf` beside it.

    Raises ManifestError when the file is wrong or when a chat folder does not hold exactly one `.gguf`.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_read_text(path))
    except configparser.Error as error:
        raise ManifestError(f"it is no valid ini file: {error.message.splitlines()[0]}") from None
    tables = {section: dict(parser.items(section)) for section in parser.sections()}
    config = tables.get(_LEGACY_SECTION, {})
    folder = path.parent.resolve()
    if not re.match(_NAME, path.stem):
        raise ManifestError(f"{path.stem!r} cannot be the name of a model: letters, digits and ._:/@+- make one")
    files = _legacy_files(folder, modality)
    stated_bytes = int(_number(config, "model_size") * 2**30)
    return ModelManifest(
        name=path.stem,
        modality=MODALITIES[modality],
        folder=folder,
        engine="llama" if modality == "chat" else "",
        files=files,
        context_length=int(_number(config, "context_window")),
        capabilities=_capabilities(_USUAL_CAPABILITIES[modality]),
        size_bytes=stated_bytes or sum(_size_bytes(file) for file in files.values()),
        created_unix_s=_newest_unix_s([path, *files.values()]),
        tables=tables,
    )


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"it cannot be read: {error.strerror}") from None
    if len(content) > _MAX_MANIFEST_BYTES:
        raise ManifestError(f"it is larger than {_MAX_MANIFEST_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ManifestError("it is not UTF-8 text") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"it is no valid TOML: {error}") from None


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and all(isinstance(entry, dict) for entry in value))


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in mistake["loc"])
    return f"{where} is missing" if mistake["type"] == "missing" else f"{where}: {mistake['msg']}"


def _inside(folder: Path, role: str, name: str) -> Path:
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts or "\\" in name or "\0" in name:
        raise ManifestError(f"files.{role} must lie inside the model's folder, and {name!r} does not")
    path = folder / relative
    if not path.exists():
        raise ManifestError(f"files.{role} names {name!r}, which is not there")
    return path


def _legacy_files(folder: Path, modality: str) -> dict[str, Path]:
    if modality != "chat":
        return {"model": folder}
    found = sorted(folder.glob("*.gguf"))
    first_parts = [file for file in found if _FIRST_PART.search(file.name)]
    if len(first_parts) == 1 and len(_parts(first_parts[0])) == len(found):
        found = first_parts
    if len(found) != 1:
        raise ManifestError(f"there must be one .gguf file in the folder, and there are {len(found)}")
    return {"model": found[0]}


def _number(config: Mapping[str, str], key: str) -> float:
    text = config.get(key, "0")
    try:
        value = float(text)
    except ValueError:
        raise ManifestError(f"{key} must be a number, and {text!r} is none") from None
    if not 0 <= value < 2**31:
        raise ManifestError(f"{key} must not be {text}")
    return value


def _capabilities(names: tuple[str, ...] | list[str]) -> tuple[common_pb2.Capability.ValueType, ...]:
    for name in names:
        if name not in _CAPABILITIES:
            raise ManifestError(f"there is no capability {name!r}; there are {', '.join(_CAPABILITIES)}")
    return tuple(dict.fromkeys(_CAPABILITIES[name] for name in names))


def _size_bytes(path: Path) -> int:
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return sum(part.stat().st_size for part in _parts(path))
    except OSError:
        return 0  # it was replaced or removed in this very moment; the next scan sees it


def _parts(path: Path) -> list[Path]:
    """All parts of a model that is split into several files, of which `path` is the first."""
    split = _FIRST_PART.search(path.name)
    return sorted(path.parent.glob(f"{path.name[: split.start()]}-?????-of-{split[1]}{split[2]}")) if split else [path]


def _newest_unix_s(paths: list[Path]) -> int:
    return max((int(path.stat().st_mtime) for path in paths if path.exists()), default=0)
