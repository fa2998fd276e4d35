"""Unfinished pictures: what a drawing has come to between two steps."""

from __future__ import annotations

import functools
from typing import Any

import torch
from PIL import Image

_PLAIN_CODERS = ("AutoencoderKL", "AutoencoderTiny")


def can_sketch(pipe: Any) -> bool:
    """Whether it is known how this pipeline's latents become a picture."""
    return type(getattr(pipe, "vae", None)).__name__ in _PLAIN_CODERS and hasattr(pipe, "image_processor")


class Foresight:
    """Watches a scheduler for the picture that it expects in the end, which shows more than the noisy one in between."""

    def __init__(self, scheduler: Any) -> None:
        self.expected: torch.Tensor | None = None
        """The latents expected in the end, as of the last step; None where the scheduler does not say."""
        step = scheduler.step

        @functools.wraps(step)
        def watched(*args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
            output = step(*args, return_dict=True, **kwargs)
            expected = getattr(output, "pred_original_sample", None)
            self.expected = getattr(output, "denoised", None) if expected is None else expected
            return output if return_dict else (output.prev_sample,)

        scheduler.step = watched


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
