"""Checks the head of a projector's file, since llama.cpp ends the process on some that are not as they should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trenza_llama.core.gguf import GgufError, GgufHead

_UINT32, _FLOAT32, _BOOL, _STRING = 4, 6, 7, 8
_KINDS = {
    "clip.has_vision_encoder": _BOOL,
    "clip.has_audio_encoder": _BOOL,
    "clip.projector_type": _STRING,
    "clip.vision.projector_type": _STRING,
    "clip.use_gelu": _BOOL,
    "clip.use_silu": _BOOL,
    "clip.vision.image_size": _UINT32,
    "clip.vision.patch_size": _UINT32,
    "clip.vision.embedding_length": _UINT32,
    "clip.vision.feed_forward_length": _UINT32,
    "clip.vision.block_count": _UINT32,
    "clip.vision.projection_dim": _UINT32,
    "clip.vision.attention.head_count": _UINT32,
    "clip.vision.attention.layer_norm_epsilon": _FLOAT32,
}

_MAX_BLOCKS = 512

_KNOWN = {"mlp", "gemma3", "idefics3", "qwen2vl_merger"}
"""Kinds of projector of which every tensor's shape is known."""


Shape = tuple[int, ...]


def check_projector(head: GgufHead, file_bytes: int) -> None:
    """Raises GgufError for a file that is no projector for pictures, or not a whole one."""
    if head.metadata.get("general.architecture") != b"clip":
        raise GgufError("it is a model, but not a projector")
    for key, kind in _KINDS.items():
        if head.kinds.get(key, kind) != kind:
            raise GgufError(f"its {key} is not of the right kind")
    if not head.metadata.get("clip.has_vision_encoder"):
        raise GgufError("it has no part that sees")
    if file_bytes < head.end:
        raise GgufError("it ends before its last tensor: it is incomplete")
    width, heads = _size(head, "embedding_length"), _size(head, "attention.head_count")
    if "clip.vision.attention.head_dim" not in head.metadata and width % heads:
        raise GgufError(f"its width of {width} cannot be shared by {heads} attention heads")
    if _size(head, "block_count") > _MAX_BLOCKS:
        raise GgufError("it claims to have far too many layers")
    if head.metadata.get("clip.projector_type", b"").decode(errors="replace") in _KNOWN:
        _check_shapes({name: tensor.shape for name, tensor in head.tensors.items()}, head, width)


def _size(head: GgufHead, name: str) -> int:
    value: int = head.metadata.get(f"clip.vision.{name}", 0)
    if value < 1:
        raise GgufError(f"its clip.vision.{name} is missing or 0")
    return value


def _check_shapes(shapes: Mapping[str, Shape], head: GgufHead, width: int) -> None:
    for name, expected in _expected(shapes, head, width):
        found = shapes.get(name)
        if found is None:
            raise GgufError(f"it has no tensor {name}")
        if found != expected:
            raise GgufError(f"its tensor {name} has the shape {found} instead of {expected}")


def _expected(shapes: Mapping[str, Shape], head: GgufHead, width: int) -> Iterator[tuple[str, Shape]]:
    """The tensors that must be there, and the shapes of those that may, in the order in which they depend on another."""
    patch = _size(head, "patch_size")
    yield "v.patch_embd.weight", (patch, patch, 3, width)
    if head.metadata["clip.projector_type"] == b"qwen2vl_merger":
        yield "v.patch_embd.weight.1", (patch, patch, 3, width)
    else:
        for name in ("v.class_embd", "v.patch_embd.bias"):
            if name in shapes:
                yield name, (width,)
        patches = (_size(head, "image_size") // patch) ** 2 + ("v.class_embd" in shapes)
        yield "v.position_embd.weight", (width, patches)
    for name in ("v.pre_ln", "v.post_ln"):
        if f"{name}.weight" in shapes:
            yield f"{name}.weight", (width,)
            yield f"{name}.bias", (width,)
    biased = head.metadata["clip.projector_type"] == b"qwen2vl_merger"
    for block in range(_size(head, "block_count")):
        yield from _expected_block(shapes, f"v.blk.{block}", width, biased)
    yield from _expected_projection(shapes, head, width)


def _expected_block(shapes: Mapping[str, Shape], block: str, width: int, biased: bool) -> Iterator[tuple[str, Shape]]:
    for name in ("ln1", "ln2"):
        yield f"{block}.{name}.weight", (width,)
        yield f"{block}.{name}.bias", (width,)
    for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
        yield from _linear(shapes, f"{block}.{name}", width, width, biased and name != "attn_out")
    # Old files have the two of them the other way round, which llama.cpp knows.
    swapped = shapes.get(f"{block}.ffn_down.weight", (0,))[0] == width
    up, down = ("ffn_down", "ffn_up") if swapped else ("ffn_up", "ffn_down")
    inner = _outputs(shapes, f"{block}.{up}.weight", at=-1)
    yield from _linear(shapes, f"{block}.{up}", width, inner)
    yield from _linear(shapes, f"{block}.{down}", inner, width)


def _expected_projection(shapes: Mapping[str, Shape], head: GgufHead, width: int) -> Iterator[tuple[str, Shape]]:
    kind = head.metadata["clip.projector_type"]
    if kind == b"gemma3":
        yield "mm.soft_emb_norm.weight", (width,)
        yield "mm.input_projection.weight", (_outputs(shapes, "mm.input_projection.weight", at=0), width)
    elif kind == b"idefics3":
        merge = head.metadata.get("clip.vision.projector.scale_factor", 0)
        fc = "mm.model.fc.weight"
        yield fc, (width * merge * merge, _outputs(shapes, fc, at=-1))
    elif "mm.3.weight" not in shapes:  # with it, it is the rarer projector with norms between
        inputs = 4 * width if kind == b"qwen2vl_merger" else width
        inner = _outputs(shapes, "mm.0.weight", at=-1)
        yield "mm.0.weight", (inputs, inner)
        yield "mm.0.bias", (inner,)
        outer = _outputs(shapes, "mm.2.weight", at=-1)
        yield "mm.2.weight", (inner, outer)
        yield "mm.2.bias", (outer,)


def _linear(
    shapes: Mapping[str, Shape], name: str, inputs: int, outputs: int, biased: bool = False
) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (inputs, outputs)
    if biased or f"{name}.bias" in shapes:
        yield f"{name}.bias", (outputs,)


def _outputs(shapes: Mapping[str, Shape], name: str, at: int) -> int:
    """How wide a projection's output is: any width is right here, the model's own is compared when it is loaded."""
    return shapes[name][at] if name in shapes else 0
