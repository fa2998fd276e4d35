"""The parts of the pipeline that learn from prompts: two text encoders and the denoising network, and their scheduler."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from trenza_recipes.starter_draw.tokenizer import PROMPT_TOKENS

_WORD_WIDTH = 128
_TIME_WIDTH = 32
_CHANNELS = (32, 64, 128)
_HEAD_WIDTH = 32


@dataclass
class Network:
    """What is trained together, in the pieces that Stable Diffusion XL has."""

    tokenizer: CLIPTokenizer
    words: CLIPTextModel
    sentence: CLIPTextModelWithProjection
    unet: UNet2DConditionModel

    def modules(self) -> tuple[nn.Module, ...]:
        """The modules with parameters."""
        return (self.words, self.sentence, self.unet)

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids (prompts, PROMPT_TOKENS)."""
        given = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=PROMPT_TOKENS, return_tensors="pt"
        )
        return given.input_ids

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What the pipeline feeds the denoising network: each word's vector, and one vector for the sentence."""
        words = self.words(tokens, output_hidden_states=True)
        sentence = self.sentence(tokens, output_hidden_states=True)
        return torch.cat([words.hidden_states[-2], sentence.hidden_states[-2]], -1), sentence.text_embeds


def build_network(tokenizer: CLIPTokenizer) -> Network:
    """An untrained network."""
    words = CLIPTextModel(_text_config(tokenizer, layers=2))
    sentence = CLIPTextModelWithProjection(_text_config(tokenizer, layers=4))
    return prepared(Network(tokenizer, words, sentence, _unet()))


def prepared(network: Network) -> Network:
    """The network with the attention that is fastest in half precision on a processor."""
    network.unet.set_attn_processor(AttnProcessor())
    network.words.set_attn_implementation("eager")
    network.sentence.set_attn_implementation("eager")
    return network


def build_scheduler() -> DDIMScheduler:
    """Velocity prediction down to no signal at all, so that one step from pure noise already yields a picture."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=0,
    )


def assemble(autoencoder: AutoencoderKL, network: Network) -> StableDiffusionXLPipeline:
    """The pipeline of an autoencoder and a network."""
    return StableDiffusionXLPipeline(
        vae=autoencoder,
        text_encoder=network.words,
        text_encoder_2=network.sentence,
        tokenizer=network.tokenizer,
        tokenizer_2=network.tokenizer,
        unet=network.unet,
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def _text_config(tokenizer: CLIPTokenizer, layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WORD_WIDTH,
        intermediate_size=3 * _WORD_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        projection_dim=_WORD_WIDTH,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=_CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=tuple(channels // _HEAD_WIDTH for channels in _CHANNELS),
        transformer_layers_per_block=1,
        use_linear_projection=True,
        cross_attention_dim=2 * _WORD_WIDTH,
        norm_num_groups=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME_WIDTH,
        projection_class_embeddings_input_dim=6 * _TIME_WIDTH + _WORD_WIDTH,
    )
