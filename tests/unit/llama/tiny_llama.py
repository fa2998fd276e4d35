"""Tiny random models for the tests: real GGUF files with a byte-level vocabulary."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = ("Ġt", "he", "Ġthe", "in", "er", "an", "Ġa", "on", "re", "at")
MERGES = ("Ġ t", "h e", "Ġt he", "i n", "e r", "a n", "Ġ a", "o n", "r e", "a t")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_characters() -> list[str]:
    """The character that stands for each byte in GPT-2's vocabulary."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    characters, extra = [], 0
    for byte in range(256):
        if byte in shown:
            characters.append(chr(byte))
        else:
            characters.append(chr(256 + extra))
            extra += 1
    return characters


def write_model(
    path: Path,
    *,
    seed: int = 1,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    context_length: int = 512,
    add_bos: bool = False,
    template: str | None = TEMPLATE,
    extra_tokens: int = 0,
    pre_tokenizer: str = "gpt-2",
    architecture: str = "llama",
    spoil: bool = False,
    more_controls: tuple[str, ...] = (),
) -> Path:
    """Writes a model with random weights; `spoil` makes its output not-a-number.

    Besides `llama` the architectures are `gemma3`, whose attention looks back over 16 tokens only, `qwen2vl`, whose
    positions have several dimensions, and `mamba`, which has no attention but one state for each slot.
    """
    words = [*byte_characters(), *WORDS, *(f"zz{number}" for number in range(extra_tokens))]
    normal = len(words)
    tokens = [*words, *CONTROL, *more_controls]
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name(f"tiny random {architecture}")
    writer.add_context_length(context_length)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    if architecture == "gemma3":
        writer.add_sliding_window(16)
    if architecture == "qwen2vl":
        writer.add_rope_dimension_sections([width // heads // 2 - 6, 3, 3, 0])
    if architecture == "mamba":
        writer.add_ssm_conv_kernel(4)
        writer.add_ssm_inner_size(2 * width)
        writer.add_ssm_state_size(8)
        writer.add_ssm_time_step_rank(4)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_vocabulary(writer, tokens, normal, pre_tokenizer, add_bos)
    if template is not None:
        writer.add_chat_template(template)
    random = np.random.default_rng(seed)
    output = _random(random, len(tokens), width, 0.35)
    output[normal:] *= 0.1  # control tokens stay unlikely, so that answers do not end at once
    if spoil:
        output[:] = np.nan
    writer.add_tensor("token_embd.weight", _random(random, len(tokens), width, 1.0))
    writer.add_tensor("output_norm.weight", np.ones(width, dtype=np.float32))
    writer.add_tensor("output.weight", output)
    for layer in range(layers):
        if architecture == "mamba":
            _add_mamba_layer(writer, random, layer, width)
        else:
            _add_layer(writer, random, layer, width)
            _add_particular_tensors(writer, architecture, layer, width, width // heads)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter, tokens: list[str], normal: int, pre_tokenizer: str, add_bos: bool) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * normal + [gguf.TokenType.CONTROL] * (len(tokens) - normal))
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(normal)
    writer.add_eos_token_id(normal + 2)
    writer.add_add_bos_token(add_bos)


def _add_layer(writer: gguf.GGUFWriter, random: np.random.Generator, layer: int, width: int) -> None:
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(width, dtype=np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.{layer}.{name}.weight", _random(random, width, width, 2 / width**0.5))
    writer.add_tensor(f"blk.{layer}.ffn_gate.weight", _random(random, 2 * width, width, 1 / width**0.5))
    writer.add_tensor(f"blk.{layer}.ffn_up.weight", _random(random, 2 * width, width, 1 / width**0.5))
    writer.add_tensor(f"blk.{layer}.ffn_down.weight", _random(random, width, 2 * width, 1 / width**0.5))


def _add_particular_tensors(writer: gguf.GGUFWriter, architecture: str, layer: int, width: int, head: int) -> None:
    """What an architecture's layers have beyond those of `llama`."""
    if architecture == "qwen2vl":
        for name in ("attn_q", "attn_k", "attn_v"):
            writer.add_tensor(f"blk.{layer}.{name}.bias", np.zeros(width, dtype=np.float32))
    if architecture == "gemma3":
        for name in ("post_attention_norm", "post_ffw_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(width, dtype=np.float32))
        for name in ("attn_q_norm", "attn_k_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(head, dtype=np.float32))


def _add_mamba_layer(writer: gguf.GGUFWriter, random: np.random.Generator, layer: int, width: int) -> None:
    inner, state, rank = 2 * width, 8, 4
    writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(width, dtype=np.float32))
    writer.add_tensor(f"blk.{layer}.ssm_in.weight", _random(random, 2 * inner, width, 2 / width**0.5))
    writer.add_tensor(f"blk.{layer}.ssm_conv1d.weight", _random(random, inner, 4, 0.5))
    writer.add_tensor(f"blk.{layer}.ssm_conv1d.bias", np.zeros(inner, dtype=np.float32))
    writer.add_tensor(f"blk.{layer}.ssm_x.weight", _random(random, rank + 2 * state, inner, 1 / inner**0.5))
    writer.add_tensor(f"blk.{layer}.ssm_dt.weight", _random(random, inner, rank, 0.5))
    writer.add_tensor(f"blk.{layer}.ssm_dt.bias", np.zeros(inner, dtype=np.float32))
    writer.add_tensor(f"blk.{layer}.ssm_a", -np.ones((inner, state), dtype=np.float32))
    writer.add_tensor(f"blk.{layer}.ssm_d", np.ones(inner, dtype=np.float32))
    writer.add_tensor(f"blk.{layer}.ssm_out.weight", _random(random, width, inner, 1 / inner**0.5))


def _random(random: np.random.Generator, rows: int, columns: int, scale: float) -> np.ndarray:
    return (random.standard_normal((rows, columns)) * scale).astype(np.float32)
