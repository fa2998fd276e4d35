"""The tokenizer of both text encoders: CLIP's, with pieces learnt from the recipe's own prompts."""

from __future__ import annotations

import json

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from trenza_recipes.starter_draw.prompts import lexicon

PROMPT_TOKENS = 40
_VOCABULARY = 2_600
_WORD_END = "</w>"
_WORDS = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def build_tokenizer() -> CLIPTokenizer:
    """Byte-level pieces, lower case; every byte is also a piece of its own, so that no text is unknown."""
    learner = Tokenizer(
        models.BPE(
            end_of_word_suffix=_WORD_END, continuing_subword_prefix="", fuse_unk=False, unk_token="<|endoftext|>"
        )
    )
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_WORDS, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        min_frequency=2,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=alphabet,
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(lexicon(12_000, seed=0), trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = learnt["vocab"]
    for letter in alphabet:
        vocabulary.setdefault(letter + _WORD_END, len(vocabulary))
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in learnt["merges"]]
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=PROMPT_TOKENS,
    )
