"""Who may import what, and a walk over the imports that finds whoever does not keep to it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

REPOSITORY = Path(__file__).resolve().parents[3]


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


FOLDERS = (
    *("protos", "client", "runtime", "scheduler", "gateway", "local", "models", "fetch"),
    *("services/llama", "services/pictures", "services/chat", "services/audio", "services/images", "services/vision"),
)
"""Every package of the workspace."""

ALLOWED = {
    "trenza": (),
    "trenza.cli": ("trenza",),
    "trenza_runtime": ("trenza",),
    "trenza_scheduler": ("trenza", "trenza_runtime"),
    "trenza_gateway": ("trenza", "trenza_runtime"),
    "trenza_llama": ("trenza", "trenza_runtime"),
    "trenza_chat": ("trenza", "trenza_runtime", "trenza_llama"),
    "trenza_audio": ("trenza", "trenza_runtime"),
    "trenza_images": ("trenza", "trenza_runtime"),
    "trenza_pictures": (),
    "trenza_vision": ("trenza", "trenza_runtime", "trenza_llama", "trenza_pictures"),
    "trenza_local": ("trenza", "trenza_runtime"),
    "trenza_recipes": (),
    "trenza_fetch": ("trenza", "trenza_runtime"),
}
"""What of ours each part may import beside itself; `trenza` are the stubs. Services never import one another."""

PURE = words("""
    __future__ abc base64 binascii bisect cmath codecs collections copy dataclasses decimal enum fnmatch fractions functools
    graphlib hashlib heapq itertools json keyword math numbers operator re reprlib statistics string struct textwrap types typing
    unicodedata urllib.parse zlib
""")
"""What of the standard library a core may import: nothing that waits, looks at a clock, rolls dice or talks to the system."""
PURE_NAMES = frozenset({"random.Random"})
"""Names that a core may take from elsewhere: a generator is passed in, so its type is needed."""

HEAVY = words("""
    accelerate bark bitsandbytes ctranslate2 diffusers faster_whisper llama_cpp onnxruntime soundfile torch torchaudio torchvision
    transformers vllm
""")
"""Libraries that only `engines` folders may import."""
HEAVY_ALLOWED = frozenset({"trenza_recipes"})


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the workspace that a person wrote, by name."""
    for folder in FOLDERS:
        root = REPOSITORY / folder
        for path in sorted(root.rglob("*.py")):
            if "_pb2" not in path.name and not {"build", "dist"} & set(path.relative_to(root).parts):
                parts = path.relative_to(root).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(module: str, source: str) -> Iterator[str]:
    """Everything that a module imports, by full name: `a.b` for both `import a.b` and `from a import b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, base]) if base else ".".join(package)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node.func) and node.args:
            yield from (str(argument.value) for argument in node.args[:1] if _is_text(argument))


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _is_text(node: ast.expr) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def violations(module: str, source: str) -> list[str]:
    """What is wrong with a module's imports, a sentence each."""
    return [
        f"{module} imports {name}: {complaint}"
        for name in dict.fromkeys(imports(module, source))
        if (complaint := _complaint(module, name))
    ]


def _complaint(module: str, name: str) -> str | None:
    top = name.partition(".")[0]
    importer, imported = part_of(module), part_of(name)
    if importer not in ALLOWED:
        return f"{importer} has no row in the table of who may import what"
    if top.startswith("trenza") and imported != importer and imported not in ALLOWED[importer]:
        return f"{importer} must not know {imported}"
    if top in HEAVY and "engines" not in module.split(".") and importer not in HEAVY_ALLOWED:
        return "heavy libraries belong into `engines`"
    if "core" in module.split(".") and not _is_pure(importer, name):
        return "a core imports pure standard library and cores of its own only"
    return None


def _is_pure(importer: str, name: str) -> bool:
    own_core = part_of(name) == importer and "core" in name.split(".")
    return own_core or name in PURE_NAMES or any(name == pure or name.startswith(f"{pure}.") for pure in PURE)


def part_of(module: str) -> str:
    """The part of the workspace that a module belongs to."""
    first, _, rest = module.partition(".")
    second = rest.partition(".")[0]
    return f"trenza.{second}" if first == "trenza" and second in ("cli", "client") else first
