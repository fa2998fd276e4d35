"""Tiny random projectors for the tests: real GGUF files by which a tiny model of the same width sees pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from trenza_llama.engine import Picture

PATCH = 8
SIDE = 32
"""The size at which the projectors look at pictures, in pixels: 16 patches of 8 by 8."""

EYE_WIDTH = 32
HEADS = 2
LAYERS = 2

TOKENS: Mapping[str, int] = {"mlp": 16, "qwen2vl_merger": 9, "gemma3": 4, "idefics3": 20}
"""How many tokens a picture of `SIDE` by `SIDE` pixels is, by kind of projector."""


def picture(seed: int, width: int = SIDE, height: int = SIDE) -> Picture:
    """A picture of coarse random colours; the same seed and size give the same one."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rows = np.arange(height) * 4 // height
    columns = np.arange(width) * 4 // width
    return Picture.of(width, height, coarse[rows][:, columns].tobytes())


def write_projector(
    path: Path,
    *,
    kind: str = "mlp",
    seed: int = 2,
    model_width: int = 64,
    side: int = SIDE,
    leave_out: str | None = None,
    reshape: Mapping[str, tuple[int, ...]] | None = None,
) -> Path:
    """Writes a projector with random weights for models of `model_width`.

    The kinds are `mlp` (LLaVA: every patch is a token), `qwen2vl_merger` (2 by 2 patches are a token, pictures keep
    their size, positions have two dimensions), `gemma3` (2 by 2 patches are a token, which look at one another) and
    `idefics3` (SmolVLM: an overview and tiles). `leave_out` names a tensor that the file lacks, `reshape` gives tensors
    other shapes than they should have.
    """
    writer = gguf.GGUFWriter(str(path), "clip")
    _add_keys(writer, kind, side, model_width)
    random = np.random.default_rng(seed)
    tensors = {**_eye(random, kind, side), **_projection(random, kind, model_width)}
    for name, value in tensors.items():
        if reshape and name in reshape:
            writer.add_tensor(name, np.zeros(reshape[name], dtype=np.float32))
        elif name != leave_out:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_keys(writer: gguf.GGUFWriter, kind: str, side: int, model_width: int) -> None:
    writer.add_name(f"tiny random {kind} projector")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", kind)
    writer.add_bool("clip.use_gelu", True)
    writer.add_uint32("clip.vision.image_size", side)
    writer.add_uint32("clip.vision.patch_size", PATCH)
    writer.add_uint32("clip.vision.embedding_length", EYE_WIDTH)
    writer.add_uint32("clip.vision.feed_forward_length", 2 * EYE_WIDTH)
    writer.add_uint32("clip.vision.block_count", LAYERS)
    writer.add_uint32("clip.vision.attention.head_count", HEADS)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_uint32("clip.vision.projection_dim", model_width)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    if kind in ("gemma3", "idefics3"):
        writer.add_uint32("clip.vision.projector.scale_factor", 2)
    if kind == "idefics3":
        writer.add_uint32("clip.vision.preproc_image_size", 2 * side)


def _eye(random: np.random.Generator, kind: str, side: int) -> dict[str, np.ndarray]:
    """The vision transformer."""
    patches = (side // PATCH) ** 2
    tensors = {"v.patch_embd.weight": _values(random, EYE_WIDTH, 3, PATCH, PATCH, scale=0.1)}
    if kind == "qwen2vl_merger":
        tensors["v.patch_embd.weight.1"] = _values(random, EYE_WIDTH, 3, PATCH, PATCH, scale=0.1)
    else:
        positions = patches + (kind == "mlp")
        tensors["v.position_embd.weight"] = _values(random, positions, EYE_WIDTH, scale=0.5)
    if kind == "mlp":
        tensors["v.class_embd"] = _values(random, EYE_WIDTH, scale=0.5)
        tensors |= _norm("v.pre_ln")
    else:
        tensors |= _norm("v.post_ln")
    for layer in range(LAYERS):
        block = f"v.blk.{layer}"
        tensors |= _norm(f"{block}.ln1") | _norm(f"{block}.ln2")
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            tensors |= _linear(random, f"{block}.{name}", EYE_WIDTH, EYE_WIDTH)
        tensors |= _linear(random, f"{block}.ffn_up", EYE_WIDTH, 2 * EYE_WIDTH)
        tensors |= _linear(random, f"{block}.ffn_down", 2 * EYE_WIDTH, EYE_WIDTH)
    return tensors


def _projection(random: np.random.Generator, kind: str, model_width: int) -> dict[str, np.ndarray]:
    """What turns the transformer's output into embeddings of the model."""
    if kind == "gemma3":
        return {
            "mm.soft_emb_norm.weight": np.ones(EYE_WIDTH, dtype=np.float32),
            "mm.input_projection.weight": _values(random, EYE_WIDTH, model_width, scale=2 / EYE_WIDTH**0.5),
        }
    if kind == "idefics3":
        return {"mm.model.fc.weight": _values(random, model_width, 4 * EYE_WIDTH, scale=1 / EYE_WIDTH**0.5)}
    merged = 4 * EYE_WIDTH if kind == "qwen2vl_merger" else EYE_WIDTH
    return _linear(random, "mm.0", merged, merged) | _linear(random, "mm.2", merged, model_width, scale=3.0)


def _norm(name: str) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": np.ones(EYE_WIDTH, dtype=np.float32),
        f"{name}.bias": np.zeros(EYE_WIDTH, dtype=np.float32),
    }


def _linear(
    random: np.random.Generator, name: str, inputs: int, outputs: int, scale: float = 2.0
) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": _values(random, outputs, inputs, scale=scale / inputs**0.5),
        f"{name}.bias": _values(random, outputs, scale=0.1),
    }


def _values(random: np.random.Generator, *shape: int, scale: float) -> np.ndarray:
    return (random.standard_normal(shape) * scale).astype(np.float32)
