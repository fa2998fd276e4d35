"""Writing the trained network as the two GGUF files that llama.cpp loads: the decoder, and the eye with its projector."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from trenza_recipes.starter_chat import export as chat_export
from trenza_recipes.starter_chat.model import Shape
from trenza_recipes.starter_chat.tokenizer import Tokenizer
from trenza_recipes.starter_vision import talking
from trenza_recipes.starter_vision.drawing import DEVIATION, IMAGE_SIDE, MEAN
from trenza_recipes.starter_vision.network import EyeShape

MODEL_FILE = "starter-vision.gguf"
PROJECTOR_FILE = "starter-vision-mmproj.gguf"
_HALF = gguf.GGMLQuantizationType.F16


def export(weights: dict[str, Tensor], eye: EyeShape, language: Shape, tokenizer: Tokenizer, folder: Path) -> None:
    """Write both files into `folder`; `weights` are those of StarterVision."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "language."
    decoder = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    _write_decoder(decoder, language, tokenizer, folder / MODEL_FILE)
    seen = {name: weight for name, weight in weights.items() if name.startswith(("eye.", "projector."))}
    _write_projector(seen, eye, folder / PROJECTOR_FILE)


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, description: str) -> None:
    writer.add_name("starter-vision")
    writer.add_description(description)
    writer.add_license("Apache-2.0")
    writer.add_languages(["en", "es"])


def _write_decoder(weights: dict[str, Tensor], shape: Shape, tokenizer: Tokenizer, target: Path) -> None:
    writer = gguf.GGUFWriter(target, "llama")
    _describe(writer, "The small vision model that comes with Trenza: what talks")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    chat_export.write_shape(writer, shape)
    chat_export.write_tokenizer(writer, tokenizer)
    chat_export.write_weights(writer, weights)
    _finish(writer)


def tensor_name(parameter: str) -> str:
    """The name of a parameter in the projector's file: eye.blk.0.ln1.weight becomes v.blk.0.ln1.weight."""
    layers = {"projector.first": "mm.0", "projector.second": "mm.2"}
    module, _, kind = parameter.rpartition(".")
    return f"{layers[module]}.{kind}" if module in layers else parameter.replace("eye.", "v.", 1)


def _write_projector(weights: dict[str, Tensor], shape: EyeShape, target: Path) -> None:
    writer = gguf.GGUFWriter(target, "clip")
    _describe(writer, "The small vision model that comes with Trenza: what sees")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    writer.add_uint32("clip.vision.image_size", IMAGE_SIDE)
    writer.add_uint32("clip.vision.patch_size", shape.patch)
    writer.add_uint32("clip.vision.embedding_length", shape.width)
    writer.add_uint32("clip.vision.feed_forward_length", shape.feed_forward)
    writer.add_uint32("clip.vision.block_count", shape.layers)
    writer.add_uint32("clip.vision.attention.head_count", shape.heads)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", shape.norm_epsilon)
    writer.add_uint32("clip.vision.projection_dim", shape.projected)
    writer.add_array("clip.vision.image_mean", list(MEAN))
    writer.add_array("clip.vision.image_std", list(DEVIATION))
    # LLaVA reads the layer before the last, and leaves the last out of the file; here the last block is read.
    writer.add_array("clip.vision.feature_layer", [shape.layers])
    for parameter, weight in weights.items():
        values = weight.detach().float().numpy()
        half = parameter.endswith(".weight") and values.ndim >= 2 and "position" not in parameter
        writer.add_tensor(
            tensor_name(parameter), np.ascontiguousarray(values.astype(np.float16 if half else np.float32))
        )
    _finish(writer)


def export_folder(folder: Path, target: Path) -> None:
    """Write what training left in `folder`, smoothed over its last steps."""
    tokenizer = Tokenizer.load(folder / talking.TOKENIZER)
    weights: dict[str, Tensor] = torch.load(folder / talking.CHECKPOINT, weights_only=True)["smooth"]
    export(weights, EyeShape(), talking.language_shape(tokenizer), tokenizer, target)
