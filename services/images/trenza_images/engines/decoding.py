"""From latents to a picture, in as little memory as it takes."""

from __future__ import annotations

import copy
from typing import Any

import torch
from PIL import Image

from trenza_images.engines import shortage
from trenza_images.engines.drawing import stopping

CODER_NETWORKS = ("encoder", "decoder")
_PLAIN_CODERS = ("AutoencoderKL", "AutoencoderTiny")


def can_decode(pipe: Any) -> bool:
    """Whether it is known how this pipeline's latents become a picture, which unfinished ones need."""
    return type(getattr(pipe, "vae", None)).__name__ in _PLAIN_CODERS and hasattr(pipe, "image_processor")


def coder_of(pipe: Any) -> Any:
    """The pipeline's coder as drawings use it: the same weights, stopping at its networks, frugal. None where there is none."""
    vae = getattr(pipe, "vae", None)
    if not isinstance(vae, torch.nn.Module):
        return None
    clone: Any = copy.copy(vae)
    if can_stop(clone):
        networks = {name: stopping(part) for name in CODER_NETWORKS if (part := getattr(vae, name, None)) is not None}
        clone.__dict__["_modules"] = {**vae._modules, **networks}
    if hasattr(clone, "enable_tiling"):
        _make_frugal(clone)
    return clone


def can_stop(vae: Any) -> bool:
    """Whether drawings may stop within a coder's work: not where they widen its numbers for a moment, and others find them so."""
    return vae.dtype == torch.float32 or not getattr(vae.config, "force_upcast", False)


def _make_frugal(vae: Any) -> None:
    """Makes a coder decode in tiles from the first picture on for whose decoding there is not enough memory."""
    decode = vae.decode

    def frugal(*args: Any, **kwargs: Any) -> Any:
        try:
            return decode(*args, **kwargs)
        except Exception as error:
            if not shortage.is_shortage(error) or getattr(vae, "use_tiling", False):
                raise
        shortage.free_memory()
        vae.enable_tiling()
        return decode(*args, **kwargs)

    vae.decode = frugal


def decoded(pipe: Any, latents: torch.Tensor, height: int, width: int) -> Image.Image:
    """The picture that one drawing's latents stand for now."""
    vae = pipe.vae
    if latents.ndim == 3:
        latents = pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)
    mean, deviation = (_channels(vae, name, latents) for name in ("latents_mean", "latents_std"))
    if mean is not None and deviation is not None:
        latents = latents * deviation / vae.config.scaling_factor + mean
    else:
        latents = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
    widened = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    if widened:
        vae.to(torch.float32)  # it overflows in half precision
    image = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
    if widened:
        vae.to(torch.float16)
    picture: Image.Image = pipe.image_processor.postprocess(image, output_type="pil")[0]
    return picture


def _channels(vae: Any, name: str, like: torch.Tensor) -> torch.Tensor | None:
    values = getattr(vae.config, name, None)
    return None if values is None else torch.tensor(values).view(1, -1, 1, 1).to(like.device, like.dtype)
