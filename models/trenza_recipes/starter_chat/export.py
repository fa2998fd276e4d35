"""Writing the trained network as a GGUF file that llama.cpp loads as it is."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch

from trenza_recipes.starter_chat.model import Shape
from trenza_recipes.starter_chat.tokenizer import PRE_TOKENIZER, SPECIAL_TOKENS, Tokenizer

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _tensor_name(parameter: str) -> str:
    """The name of a parameter in the model file: blocks.0.attention.attn_q.weight becomes blk.0.attn_q.weight."""
    return parameter.replace("blocks.", "blk.").replace("attention.", "")


def write_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """Write the sizes of the network."""
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocabulary)


def write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """Write the vocabulary and the chat template."""
    kinds = [
        gguf.TokenType.CONTROL if index < len(SPECIAL_TOKENS) else gguf.TokenType.NORMAL
        for index in range(len(tokenizer.tokens))
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(list(tokenizer.tokens))
    writer.add_token_types(kinds)
    writer.add_token_merges(list(tokenizer.merges))
    writer.add_bos_token_id(tokenizer.padding_id)  # never put in front, but the format wants one
    writer.add_eos_token_id(tokenizer.end_id)
    writer.add_pad_token_id(tokenizer.padding_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def write_weights(writer: gguf.GGUFWriter, weights: dict[str, torch.Tensor]) -> None:
    """Write the weights, matrices in 8 bits."""
    for parameter, weight in weights.items():
        values = weight.float().numpy()
        if values.ndim == 1:
            writer.add_tensor(_tensor_name(parameter), values)
            continue
        packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(
            _tensor_name(parameter), np.ascontiguousarray(packed), raw_dtype=gguf.GGMLQuantizationType.Q8_0
        )


def export(folder: Path, target: Path) -> None:
    """Write what `train` left in `folder` to the GGUF file `target`, matrices in 8 bits."""
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    shape = Shape(**json.loads((folder / "training.json").read_text(encoding="utf-8"))["shape"])
    weights = torch.load(folder / "network.pt", weights_only=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name("starter-chat")
    writer.add_description("The small chat model that comes with Trenza")
    writer.add_license("Apache-2.0")
    writer.add_languages(["en", "es"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    write_shape(writer, shape)
    write_tokenizer(writer, tokenizer)
    write_weights(writer, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
