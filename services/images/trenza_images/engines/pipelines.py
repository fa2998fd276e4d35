"""A loaded pipeline in each of its tasks, and copies of it that drawings can use side by side."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    AutoPipelineForText2Image,
)
from diffusers.pipelines import auto_pipeline

from trenza_images.core.defaults import Traits
from trenza_images.core.memory import CODER_WEIGHT
from trenza_images.core.sizes import Size
from trenza_images.engines import decoding
from trenza_images.engines.drawing import stopping

Mode: TypeAlias = Literal["text", "image", "inpaint"]
"""What a pipeline draws from: a text, a picture and a text, or a picture with an area to redraw and a text."""

_FAMILIES: Mapping[Mode, Any] = {
    "text": AutoPipelineForText2Image,
    "image": AutoPipelineForImage2Image,
    "inpaint": AutoPipelineForInpainting,
}
_DENOISERS = ("unet", "transformer", "transformer_2")
_SHARED_MODULES = (*_DENOISERS, "text_encoder", "text_encoder_2", "text_encoder_3")
_FALLBACK_SIDE = 512


class Pipelines:
    """The modes in which a pipeline can draw, all with the same weights.

    `root` is the pipeline as it was loaded; moves between devices are its business.
    """

    def __init__(self, root: Any, name: str) -> None:
        self.root = root
        self._name = name
        self._roots = {mode: pipe for mode in _FAMILIES if (pipe := _in_mode(root, mode)) is not None}
        for pipe in self._roots.values():
            pipe.set_progress_bar_config(disable=True)
        self._stopping = _stopping_parts(root)
        self._weights = {id(part): weight for part, weight in _weighed(root)}

    @property
    def stops_to_draw(self) -> bool:
        """Whether a drawing stops at every pass of the network that draws."""
        return any(name in self._stopping for name in _DENOISERS)

    @property
    def stops_to_decode(self) -> bool:
        """Whether a drawing stops where its picture is decoded."""
        return "vae" in self._stopping and decoding.can_stop(self._stopping["vae"])

    def denoises(self, module: torch.nn.Module) -> bool:
        """Whether a module is the network that draws."""
        return any(module is getattr(self.root, name, None) for name in _DENOISERS)

    def weight(self, module: torch.nn.Module) -> int:
        """What a row of a module's pass takes for each of a picture's pixels; 1 is what the network that draws takes."""
        return self._weights.get(id(module), 0)

    def rest(self) -> None:
        """Takes the parts that go to and from a GPU back from it, while nobody draws."""
        self.root.maybe_free_model_hooks()

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that this pipeline has."""
        return tuple(self._roots)

    def copy(self, mode: Mode) -> Any:
        """A pipeline for one drawing: weights shared with all others, scheduler and notes its own; it stops at shared modules."""
        pipe = copy.copy(self._roots[mode])
        # Past the pipeline's own setter, which would look for the library that the part comes from.
        for name, part in self._stopping.items():
            if name in pipe.__dict__:
                pipe.__dict__[name] = part
        if "scheduler" in pipe.__dict__:
            pipe.__dict__["scheduler"] = copy.deepcopy(pipe.scheduler)
        # At the end of its call it would take the modules away from the others.
        pipe.__dict__["maybe_free_model_hooks"] = lambda: None
        return pipe

    def parameters(self, mode: Mode) -> frozenset[str]:
        """The names of what a call in this mode takes."""
        return frozenset(inspect.signature(type(self._roots[mode]).__call__).parameters)

    def traits(self) -> Traits:
        """What the pipeline shows of itself, for its defaults."""
        drawing = self._roots.get("text", self.root)
        signature = inspect.signature(type(drawing).__call__).parameters
        scheduler = getattr(drawing, "scheduler", None)
        config = getattr(scheduler, "config", {})
        return Traits(
            pipeline_class=type(drawing).__name__,
            name=self._name,
            scheduler_class=type(scheduler).__name__,
            timestep_spacing=str(config.get("timestep_spacing", "")),
            signature_steps=_number(signature, "num_inference_steps", int),
            signature_guidance=_number(signature, "guidance_scale", float),
        )

    def multiple(self) -> int:
        """What divides the sides of every picture that it draws."""
        factor = int(getattr(self.root, "vae_scale_factor", 8))
        return factor * 2 if hasattr(self.root, "_unpack_latents") else factor


def usual_size(root: Any) -> Size:
    """The size that a pipeline's makers trained it for."""
    denoiser = getattr(root, "unet", None) or getattr(root, "transformer", None)
    sample = getattr(root, "default_sample_size", None) or getattr(
        getattr(denoiser, "config", None), "sample_size", None
    )
    factor = getattr(root, "vae_scale_factor", 8)
    height, width = sample if isinstance(sample, tuple | list) else (sample, sample)
    if not (isinstance(width, int) and isinstance(height, int)):
        return _FALLBACK_SIDE, _FALLBACK_SIDE
    return width * factor, height * factor


def _number(signature: Mapping[str, inspect.Parameter], name: str, kind: Any) -> Any:
    default = signature[name].default if name in signature else None
    return kind(default) if isinstance(default, int | float) else None


def _in_mode(root: Any, mode: Mode) -> Any:
    """The pipeline in another mode; None where its class has none or its network was made for another input."""
    if not _fits(root, mode):
        return None
    if _is_in_mode(root, mode):
        return root
    try:
        return _FAMILIES[mode].from_pipe(root)
    except (
        ValueError,
        AttributeError,
        TypeError,
    ):  # a class without this task, or one that needs more parts than there are
        return None


def _is_in_mode(root: Any, mode: Mode) -> bool:
    mappings: Mapping[Mode, Mapping[str, type]] = {
        "text": auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        "image": auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        "inpaint": auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
    }
    return type(root) in mappings[mode].values()


def _fits(root: Any, mode: Mode) -> bool:
    """Whether the network takes what this mode gives it: inpainting has two forms, and one of them draws nothing else."""
    unet, vae = getattr(root, "unet", None), getattr(root, "vae", None)
    channels = getattr(getattr(unet, "config", None), "in_channels", None)
    latent = getattr(getattr(vae, "config", None), "latent_channels", None)
    if not channels or not latent or channels == latent:
        return True
    return mode == "inpaint" and channels == 2 * latent + 1


def _stopping_parts(root: Any) -> dict[str, torch.nn.Module]:
    if "PAG" in type(root).__name__:
        return {}  # its attention looks at the order of the rows
    parts = {name: getattr(root, name, None) for name in _SHARED_MODULES}
    found = {name: stopping(part) for name, part in parts.items() if isinstance(part, torch.nn.Module)}
    coder = decoding.coder_of(root)
    return found if coder is None else {**found, "vae": coder}


def _weighed(root: Any) -> Iterator[tuple[Any, int]]:
    yield from ((getattr(root, name, None), 1) for name in _DENOISERS)
    vae = getattr(root, "vae", None)
    yield from ((getattr(vae, name, None), CODER_WEIGHT) for name in decoding.CODER_NETWORKS)
