"""The checkpoint as a folder that faster-whisper loads: by way of `transformers` and CTranslate2's converter."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from ctranslate2.converters import TransformersConverter
from torch import Tensor
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from trenza_recipes.starter_whisper.network import MEL_BANDS, POSITIONS, TEXT_POSITIONS, Shape, StarterWhisper
from trenza_recipes.starter_whisper.tokenizer import Tokens
from trenza_recipes.starter_whisper.train import CHECKPOINT, shape_of
from trenza_recipes.starter_whisper.world import LANGUAGES

_LATEST_FIRST_TIMESTAMP = 50
_TRAINING_ONLY = ("model.decoder.of_time", "model.decoder.times")
_COPIED = ["tokenizer.json", "preprocessor_config.json"]
_PREPROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "processor_class": "WhisperProcessor",
    "feature_size": MEL_BANDS,
    "sampling_rate": 16_000,
    "hop_length": 160,
    "chunk_length": 30,
    "n_fft": 400,
    "n_samples": 480_000,
    "nb_max_frames": 3_000,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
}


def _architecture(shape: Shape, tokens: Tokens) -> WhisperConfig:
    end = tokens.special("endoftext")
    return WhisperConfig(
        vocab_size=shape.vocabulary,
        num_mel_bins=MEL_BANDS,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.feed_forward,
        decoder_ffn_dim=shape.feed_forward,
        max_source_positions=POSITIONS,
        max_target_positions=TEXT_POSITIONS,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=tokens.special("startoftranscript"),
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


def _generation(shape: Shape, tokens: Tokens) -> GenerationConfig:
    """What the converter and its readers ask of a multilingual Whisper; the last decoder layer was taught where to look."""
    end = tokens.special("endoftext")
    return GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=tokens.special("startoftranscript"),
        is_multilingual=True,
        lang_to_id={f"<|{language}|>": tokens.special(language) for language in LANGUAGES},
        task_to_id={task: tokens.special(task) for task in ("transcribe", "translate")},
        no_timestamps_token_id=tokens.special("notimestamps"),
        prev_sot_token_id=tokens.special("startofprev"),
        max_initial_timestamp_index=_LATEST_FIRST_TIMESTAMP,
        max_length=TEXT_POSITIONS,
        return_timestamps=False,
        suppress_tokens=[],
        begin_suppress_tokens=[tokens.byte(" "), end],
        alignment_heads=[[shape.decoder_layers - 1, head] for head in range(shape.heads)],
    )


def _weights(network: StarterWhisper) -> dict[str, Tensor]:
    """The weights by the names of `transformers`, without what only training needs."""
    weights = {
        name: weight
        for name, weight in network.state_dict().items()
        if name.startswith("model.") and not name.startswith(_TRAINING_ONLY)
    }
    embeddings = network.model.decoder.embeddings().detach()
    return weights | {"model.decoder.embed_tokens.weight": embeddings, "proj_out.weight": embeddings}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def _write_transformers(network: StarterWhisper, tokens: Tokens, folder: Path) -> None:
    model = WhisperForConditionalGeneration(_architecture(network.shape, tokens))
    model.load_state_dict(_weights(network))
    model.generation_config = _generation(network.shape, tokens)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokens.file_text())
    end = "<|endoftext|>"
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), end)
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names})
    _write_json(folder / "preprocessor_config.json", _PREPROCESSOR)


def export(folder: Path, target: Path, quantization: str = "int8") -> None:
    """Write the checkpoint in `folder` as CTranslate2 files in `target`, which is replaced."""
    tokens = Tokens()
    network = StarterWhisper(shape_of(tokens))
    network.load_state_dict(torch.load(folder / CHECKPOINT, weights_only=True)["network"])
    with tempfile.TemporaryDirectory() as between:
        _write_transformers(network, tokens, Path(between))
        converter = TransformersConverter(between, copy_files=_COPIED)
        converter.convert(str(target), quantization=quantization, force=True)
