"""Writes a Bark of the real classes with random weights: it says nothing, and says it the way a Bark does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

PRESETS = ("v2/en_speaker_0", "v2/en_speaker_9", "v2/es_speaker_0", "v2/es_speaker_1")
_SMALL: dict[str, Any] = {
    "num_layers": 1,
    "num_heads": 2,
    "hidden_size": 8,
    "bias": False,
    "dropout": 0.0,
    "initializer_range": 0.5,
}
_WORDS = (
    "one",
    "two",
    "three",
    "star",
    "stars",
    "green",
    "red",
    "hello",
    "this",
    "is",
    "a",
    "text",
    "uno",
    "dos",
    "hola",
)
_TEXT_OFFSET, _TEXT_PAD, _INFER = 10_048, 10_148, 10_149


def write_bark(folder: Path, semantic_tokens: int = 6) -> Path:
    """Writes the model, its tokenizer and four presets; returns the folder. A piece has at most `semantic_tokens`."""
    import torch
    from transformers import BarkConfig, BarkModel, EncodecConfig
    from transformers.models.bark.configuration_bark import BarkCoarseConfig, BarkFineConfig, BarkSemanticConfig

    torch.manual_seed(0)
    config = BarkConfig(
        semantic_config=BarkSemanticConfig(input_vocab_size=10_200, output_vocab_size=_TEXT_OFFSET, **_SMALL),
        coarse_acoustics_config=BarkCoarseConfig(input_vocab_size=12_096, output_vocab_size=12_096, **_SMALL),
        fine_acoustics_config=BarkFineConfig(input_vocab_size=1056, output_vocab_size=1056, **_SMALL),
        codec_config=EncodecConfig(
            num_filters=2, hidden_size=8, codebook_dim=8, num_lstm_layers=1, target_bandwidths=[6.0]
        ),
    )
    model = BarkModel(config)
    with torch.no_grad():
        _give_it_a_voice(model.codec_model, torch.randint(0, 1024, (8, 1, 40)))
    model.save_pretrained(folder)
    _write_generation_config(folder, semantic_tokens)
    _write_tokenizer(folder)
    write_presets(folder)
    return folder


def _give_it_a_voice(codec: Any, codes: Any) -> None:
    """Makes different codes audibly different: without training they are all the same silence."""
    for layer in codec.quantizer.layers:
        layer.codebook.embed.normal_()
    last = codec.decoder.layers[-1].conv
    last.parametrizations.weight.original0.mul_(10)
    last.bias.sub_(codec.decoder(codec.quantizer.decode(codes)).mean())


def _write_generation_config(folder: Path, semantic_tokens: int) -> None:
    """As the published models have it: the class of this file cannot save itself."""
    generation = {
        "model_type": "bark",
        "codebook_size": 1024,
        "sample_rate": 24_000,
        "semantic_config": {
            "max_new_tokens": semantic_tokens,
            "text_encoding_offset": _TEXT_OFFSET,
            "text_pad_token": _TEXT_PAD,
            "semantic_infer_token": _INFER,
            "do_sample": True,
            "temperature": 0.7,
        },
        "coarse_acoustics_config": {"do_sample": True, "temperature": 0.7},
        "fine_acoustics_config": {"temperature": 0.5},
    }
    (folder / "generation_config.json").write_text(json.dumps(generation))


def _write_tokenizer(folder: Path) -> None:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ".",
        *_WORDS,
        *letters[1:],
        *(f"##{one}" for one in letters),
    ]
    from transformers import BertTokenizerFast

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(dict.fromkeys(pieces)) + "\n")
    BertTokenizerFast(str(vocabulary)).save_pretrained(folder)


def write_presets(folder: Path) -> None:
    random = np.random.default_rng(0)
    listed: dict[str, object] = {"repo_or_path": "wherever/it-was"}
    for preset in PRESETS:
        shapes = {"semantic_prompt": (10_000, (20,)), "coarse_prompt": (1024, (2, 30)), "fine_prompt": (1024, (8, 30))}
        names = {}
        for prompt, (below, shape) in shapes.items():
            names[prompt] = f"speaker_embeddings/{preset}_{prompt}.npy"
            (folder / names[prompt]).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / names[prompt], random.integers(0, below, shape))
        listed[preset] = names
    (folder / "speaker_embeddings_path.json").write_text(json.dumps(listed))
