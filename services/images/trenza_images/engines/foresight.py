"""Looks ahead in a drawing: what it will come to, as of now."""

from __future__ import annotations

import functools
from typing import Any

import torch


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
