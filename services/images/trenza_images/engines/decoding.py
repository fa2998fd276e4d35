"""From latents to a picture, in as little memory as it takes."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from trenza_images.engines import shortage

_PLAIN_CODERS = ("AutoencoderKL", "AutoencoderTiny")


def can_decode(pipe: Any) -> bool:
    """Whether it is known how this pipeline's latents become a picture, which unfinished ones need."""
    return type(getattr(pipe, "vae", None)).__name__ in _PLAIN_CODERS and hasattr(pipe, "image_processor")


def make_frugal(pipe: Any) -> None:
    """Makes a pipeline decode in tiles from the first picture on for whose decoding there is not enough memory."""
    vae: Any = getattr(pipe, "vae", None)
    if not hasattr(vae, "enable_tiling"):
        return
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
