"""Writes tiny models with random weights to a folder, as Hugging Face's tools would: they say nothing, but in the real way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Gemma3TextConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

CONTEXT_LENGTH = 256
VOCABULARY = 400
IMAGE = "<image>"
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE_MARK{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def _tokenizer(*special: str, named: Mapping[str, str] | None = None) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    known = ["<s>", "</s>", "<pad>", *special]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=known, initial_alphabet=alphabet)
    made.train_from_iterator(["what is in this picture? a red circle, a blue square USER: ASSISTANT: "] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        **({"extra_special_tokens": dict(named)} if named else {"additional_special_tokens": list(special)}),
    )


def _text(**fields: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT_LENGTH,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        **fields,
    }


def _sharpen(model: Any) -> Any:
    """Fresh weights are so small that every answer is much alike; larger ones make pictures and words count."""
    for parameter in model.parameters():
        parameter.data.mul_(6.0 if parameter.dim() > 1 else 1.0)
    return model


def write_llava(folder: Path, template: str | None = TEMPLATE) -> Path:
    """LLaVA 1.5 in small: four tokens for a picture of any size."""
    tokenizer = _tokenizer(IMAGE)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=template and template.replace("IMAGE_MARK", IMAGE),
    ).save_pretrained(folder)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_text()),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
    )
    torch.manual_seed(0)
    _sharpen(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    return folder


def write_gemma(folder: Path) -> Path:
    """Gemma 3 in small: what the tokens of a picture show, each of them sees, also those before it."""
    marks = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _tokenizer(*marks.values(), named=marks)
    Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=TEMPLATE.replace("IMAGE_MARK", marks["boi_token"]),
    ).save_pretrained(folder)
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14
    )
    config = Gemma3Config(
        vision_config=vision,
        text_config=Gemma3TextConfig(**_text(head_dim=8, sliding_window=16)),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.convert_tokens_to_ids(marks["boi_token"]),
        eoi_token_index=tokenizer.convert_tokens_to_ids(marks["eoi_token"]),
        image_token_index=tokenizer.convert_tokens_to_ids(marks["image_token"]),
    )
    torch.manual_seed(0)
    _sharpen(Gemma3ForConditionalGeneration(config)).save_pretrained(folder)
    return folder


class QwenReader:
    """The part of Qwen2VLProcessor that pictures need; that class itself wants a library for videos."""

    image_token = "<|image_pad|>"
    chat_template = TEMPLATE.replace("IMAGE_MARK", "<|vision_start|><|image_pad|><|vision_end|>")

    def __init__(self) -> None:
        self.tokenizer = _tokenizer("<|vision_start|>", "<|vision_end|>", self.image_token, "<|video_pad|>")
        self._images = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 56, patch_size=14, merge_size=2)

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(conversation, chat_template=self.chat_template, **options)

    def __call__(self, text: list[str], images: Any, **options: Any) -> dict[str, Any]:
        inputs = self._images(images=images, return_tensors="pt") if images else {}
        pieces = text[0].split(self.image_token)
        for grid in reversed(inputs.get("image_grid_thw", [])):
            last = pieces.pop()
            pieces[-1] += self.image_token * (int(grid.prod()) // 4) + last
        encoded = self.tokenizer("".join(pieces), return_token_type_ids=False, **options)
        types = (encoded["input_ids"] == self.tokenizer.convert_tokens_to_ids(self.image_token)).int()
        return {**inputs, **encoded, **({"mm_token_type_ids": types} if images else {})}


def qwen() -> tuple[Any, QwenReader]:
    """Qwen2-VL in small: as many tokens as a picture's size asks for, and positions that are not those of the tokens."""
    reader = QwenReader()
    names = ("<|vision_start|>", "<|vision_end|>", reader.image_token, "<|video_pad|>")
    start, end, pad, video = reader.tokenizer.convert_tokens_to_ids(list(names))
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 14}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        vision_config=vision,
        text_config=_text(rope_parameters=rope),
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=pad,
        video_token_id=video,
    )
    torch.manual_seed(0)
    return _sharpen(Qwen2VLForConditionalGeneration(config)).eval(), reader
