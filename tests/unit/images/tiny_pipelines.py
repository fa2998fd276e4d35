"""Diffusers pipelines of real classes and no size, with random weights, made in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

PROMPT_TOKENS = 16
WORDS = ("a red circle", "a blue star above a green square", "un triangulo amarillo", "una estrella azul")
WIDTH = 32


def write_sdxl(
    folder: Path, side: int = 64, turbo: bool = False, widths: tuple[int, ...] = (16, 32), layers: int = 1
) -> Path:
    """Saves a pipeline of the SDXL class that draws pictures of `side` pixels; `widths` are those of its network's levels."""
    torch.manual_seed(7)
    unet = _unet(
        side,
        block_out_channels=widths,
        layers_per_block=layers,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * (len(widths) - 1)),
        up_block_types=(*["CrossAttnUpBlock2D"] * (len(widths) - 1), "UpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        use_linear_projection=True,
        cross_attention_dim=2 * WIDTH,
    )
    tokenizer = _tokenizer()
    pipe = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(tokenizer, CLIPTextModel),
        text_encoder_2=_text_encoder(tokenizer, CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=_ancestral() if turbo else _scheduler(),
        add_watermarker=False,
    )
    return _saved(pipe, folder)


def write_sd1(folder: Path, side: int = 64, channels: int = 4) -> Path:
    """Saves a pipeline of the first Stable Diffusion's class; 9 channels make it one that only fills gaps."""
    torch.manual_seed(8)
    tokenizer = _tokenizer()
    pipe = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(tokenizer, CLIPTextModel),
        tokenizer=tokenizer,
        unet=_unet(side, cross_attention_dim=WIDTH, in_channels=channels),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _saved(pipe, folder)


def write_flux(folder: Path) -> Path:
    """Saves a pipeline of another family: a transformer that draws packed latents, two kinds of text encoders."""
    torch.manual_seed(9)
    tokenizer = _tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    t5 = T5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2)
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(latent_channels=1, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_text_encoder(tokenizer, CLIPTextModel),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=tokenizer,
        transformer=transformer,
    )
    return _saved(pipe, folder)


def _saved(pipe: Any, folder: Path) -> Path:
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    return folder


def _unet(side: int, **config: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{
            "sample_size": side // 8,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 8,
            "norm_num_groups": 8,
            **config,
        }
    )


def _vae(**config: Any) -> AutoencoderKL:
    return AutoencoderKL(
        **{
            "block_out_channels": (8, 8, 16, 16),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "latent_channels": 4,
            "norm_num_groups": 8,
            "layers_per_block": 1,
            **config,
        }
    )


def _text_encoder(tokenizer: CLIPTokenizer, kind: Any) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=PROMPT_TOKENS,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return kind(config)


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
    )


def _ancestral() -> EulerAncestralDiscreteScheduler:
    return EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
    )


def _tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer of the bytes and a few words."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token="<|endoftext|>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True)
    learner.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(WORDS, trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary = learnt["vocab"]
    for character in alphabet:
        vocabulary.setdefault(f"{character}</w>", len(vocabulary))
    merges: Any = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in learnt["merges"]]
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=PROMPT_TOKENS,
    )
