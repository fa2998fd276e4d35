"""Writes a tiny Whisper with random weights in CTranslate2's format: the real architecture, tokenizer and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "es", "fr")
_SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
_TIMESTAMPS = 1501


def write_model(
    folder: Path,
    seed: int = 0,
    confidence: float = 1.0,
    width: int = 32,
    layers: int = 1,
    heads: int = 2,
    vocabulary: int = 0,
    stop_at: int = 0,
    quantization: str = "float32",
) -> Path:
    """Writes the model and returns its folder.

    `confidence` scales the output layer: high values are sure of their tokens. `vocabulary` fills the tokenizer up with
    tokens that stand for nothing. `stop_at` is the position, prompt included, from which on every text ends; 0 leaves
    that to chance.
    """
    import torch
    from ctranslate2.converters import TransformersConverter
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    source = folder / "source"
    source.mkdir(parents=True)
    tokens = _write_tokenizer(source, vocabulary)
    end, start = tokens["<|endoftext|>"], tokens["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(tokens),
        num_mel_bins=80,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        init_std=0.3 if width < 100 else 0.05,
    )
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        decoder = model.model.decoder
        decoder.layer_norm.weight.mul_(confidence)
        # Bytes that are no characters by themselves are never likely: random texts are to be valid UTF-8.
        decoder.embed_tokens.weight[[number for text, number in tokens.items() if _is_part(text)]] = 0
        if stop_at:
            # From there on the position drowns everything else, and the end of the text is what it points at.
            direction = torch.nn.functional.normalize(torch.randn(width), dim=0)
            decoder.embed_positions.weight[stop_at:] += 1000 * direction
            decoder.embed_tokens.weight[end] = 10 * direction
    model.generation_config = GenerationConfig(**_generation(tokens))
    model.save_pretrained(source)
    converter = TransformersConverter(str(source), copy_files=["tokenizer.json", "preprocessor_config.json"])
    converter.convert(str(folder / "model"), quantization=quantization)
    return folder / "model"


def _is_part(text: str) -> bool:
    return len(text) == 1 and not "!" <= text <= "~" and text != "Ġ"


def _generation(tokens: dict[str, int]) -> dict[str, Any]:
    return {
        "bos_token_id": tokens["<|endoftext|>"],
        "eos_token_id": tokens["<|endoftext|>"],
        "pad_token_id": tokens["<|endoftext|>"],
        "decoder_start_token_id": tokens["<|startoftranscript|>"],
        "lang_to_id": {f"<|{language}|>": tokens[f"<|{language}|>"] for language in LANGUAGES},
        "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "suppress_tokens": [],
        "begin_suppress_tokens": [tokens["Ġ"], tokens["<|endoftext|>"]],
        "alignment_heads": [[0, 0], [0, 1]],
    }


def _write_tokenizer(folder: Path, size: int) -> dict[str, int]:
    """Byte-level without merges, but for the words of the tests; returns every token's number."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([" one two three four five red green blue star circle"], trainer)
    document = json.loads(tokenizer.to_str())
    vocabulary: dict[str, int] = document["model"]["vocab"]
    vocabulary[""] = len(vocabulary)  # what CTranslate2 knows a multilingual model by
    texts = [*_SPECIAL, *(f"<|{index * 0.02:.2f}|>" for index in range(_TIMESTAMPS))]
    for number in range(len(vocabulary), size - len(texts)):
        vocabulary[f"nothing{number}"] = number
    first = len(vocabulary)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    document["added_tokens"] = [
        {"id": first + index, "content": text, "special": index < len(_SPECIAL), **flags}
        for index, text in enumerate(texts)
    ]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    names = {f"{role}_token": "<|endoftext|>" for role in ("bos", "eos", "unk", "pad")}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 448, **names})
    )
    extractor = {"feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    return {**vocabulary, **{text: first + index for index, text in enumerate(texts)}}
