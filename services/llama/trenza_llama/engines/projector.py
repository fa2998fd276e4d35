"""The part of a model that sees, on llama.cpp's multimodal library: pictures in, what the model takes for tokens out."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as native
from llama_cpp import mtmd_cpp
from numpy.typing import NDArray
from trenza_runtime.worker.engine import ModelLoadError, ProgressReporter

from trenza_llama.core.gguf import read_head
from trenza_llama.core.projector import check_projector
from trenza_llama.device import DecodeError, PictureError, PictureLayout, PicturePart
from trenza_llama.engine import LlamaSpec, Picture
from trenza_llama.engines.native_log import LogLines, load_error

_LARGE_SIDES = ((4096, 4096), (8192, 1024), (1024, 8192))
"""Sizes of pictures, in pixels, that have as many tokens as any."""

_KEPT_LAYOUTS = 256

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPicturePart:
    """A part of a picture as the model takes it: `embeddings` has a row for each of its tokens.

    The position of a token is `base` plus `slope` times that of the part's first token, each with the four numbers that
    models with several dimensions know.
    """

    embeddings: NDArray[np.float32]
    base: Positions
    slope: Positions
    whole: bool

    @property
    def size_bytes(self) -> int:
        """See `EncodedPart`."""
        return self.embeddings.nbytes

    def positions(self, start: int, sections: int) -> Positions:
        """The positions of all its tokens, `sections` by tokens, where the part begins at `start`."""
        if sections == 1:
            return start + np.arange(len(self.embeddings), dtype=np.int64)[None]
        return self.base + start * self.slope


class MtmdProjector:
    """Implements `Projector`, beside a model that it must not outlive. `load_projector` makes it."""

    def __init__(self, context: Any, width: int) -> None:
        self._context = context
        self._width = width
        self._layouts: OrderedDict[tuple[int, int], PictureLayout] = OrderedDict()
        self.sections = 4 if mtmd_cpp.mtmd_decode_use_mrope(context) else 1

    @property
    def width(self) -> int:
        """How many numbers the model takes for a token."""
        return self._width

    def layout(self, picture: Picture) -> PictureLayout:
        """See `Projector`; it depends on the picture's size only."""
        return self._layout(picture.width, picture.height)

    def encode(self, picture: Picture) -> Generator[EncodedPicturePart, None, None]:
        """See `Projector`."""
        with self._chunks(picture.width, picture.height, picture.pixels) as chunks:
            if self._describe(chunks) != self.layout(picture):
                raise DecodeError("the model sees the picture in another way than was foreseen")
            for chunk in chunks:
                if _is_picture(chunk):
                    yield self._encode(chunk)

    def largest_whole_part(self) -> int:
        """How many tokens a part may have whose tokens look at one another; 0 for models that know no such parts."""
        if not mtmd_cpp.mtmd_decode_use_non_causal(self._context, None):
            return 0
        layouts = [self._layout(width, height) for width, height in _LARGE_SIDES]
        return max(piece.count for layout in layouts for piece in layout if isinstance(piece, PicturePart))

    def close(self) -> None:
        """Frees it; may be called twice."""
        if self._context is not None:
            mtmd_cpp.mtmd_free(self._context)
            self._context = None

    def _layout(self, width: int, height: int) -> PictureLayout:
        size = (width, height)
        known = self._layouts.get(size)
        if known is None:
            with self._chunks(width, height, None) as chunks:
                known = self._layouts[size] = self._describe(chunks)
            if len(self._layouts) > _KEPT_LAYOUTS:
                self._layouts.popitem(last=False)
        return known

    @contextmanager
    def _chunks(self, width: int, height: int, pixels: bytes | None) -> Iterator[list[Any]]:
        """A picture in the library's terms, within the block; without `pixels` only what its size decides is real."""
        data = ctypes.cast(ctypes.c_char_p(pixels), ctypes.POINTER(ctypes.c_uint8)) if pixels is not None else None
        bitmap = mtmd_cpp.mtmd_bitmap_init(width, height, data)
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        try:
            part = mtmd_cpp.mtmd_input_part(text=None, bitmap=bitmap)
            parts = (ctypes.POINTER(mtmd_cpp.mtmd_input_part) * 1)(ctypes.pointer(part))
            result = mtmd_cpp.mtmd_tokenize_from_parts(self._context, chunks, parts, 1, False)
            if result != 0:
                raise PictureError(f"the model cannot look at a picture of {width} by {height} pixels")
            count = mtmd_cpp.mtmd_input_chunks_size(chunks)
            yield [mtmd_cpp.mtmd_input_chunks_get(chunks, index) for index in range(count)]
        finally:
            mtmd_cpp.mtmd_input_chunks_free(chunks)
            mtmd_cpp.mtmd_bitmap_free(bitmap)

    def _describe(self, chunks: list[Any]) -> PictureLayout:
        return tuple(self._part(chunk) if _is_picture(chunk) else _text(chunk) for chunk in chunks)

    def _part(self, chunk: Any) -> PicturePart:
        return PicturePart(
            count=mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk),
            positions=mtmd_cpp.mtmd_input_chunk_get_n_pos(chunk),
            whole=mtmd_cpp.mtmd_decode_use_non_causal(self._context, chunk),
        )

    def _encode(self, chunk: Any) -> EncodedPicturePart:
        if mtmd_cpp.mtmd_encode_chunk(self._context, chunk) != 0:
            raise DecodeError("the model could not look at the picture")
        count = mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk)
        numbers: Any = mtmd_cpp.mtmd_get_output_embd(self._context)
        embeddings = np.ctypeslib.as_array(numbers, (count, self._width)).copy()
        base, next_ = _positions(chunk, count, 0), _positions(chunk, count, 1)
        return EncodedPicturePart(
            embeddings, base, next_ - base, mtmd_cpp.mtmd_decode_use_non_causal(self._context, chunk)
        )


def load_projector(spec: LlamaSpec, model: Any, threads: int, report: ProgressReporter, log: LogLines) -> MtmdProjector:
    """Loads the projector of a model. Raises ModelLoadError; what `report` raises ends the load and is raised again."""
    assert spec.projector_path is not None  # otherwise there is none to load
    path = Path(spec.projector_path)
    _check_file(path)
    raised: list[BaseException] = []

    @mtmd_cpp.mtmd_progress_callback  # type: ignore[untyped-decorator]  # llama_cpp has no type information
    def on_progress(part: float, _user_data: object) -> bool:
        try:
            report(min(max(part, 0.0), 1.0))
        except BaseException as error:  # llama.cpp cannot pass it on: it is raised again below
            raised.append(error)
            return False
        return True

    before = len(log.errors())
    params = _context_params(spec, threads)
    params.progress_callback = on_progress
    context = mtmd_cpp.mtmd_init_from_file(os.fsencode(path), model, params)
    if raised:
        if context:
            mtmd_cpp.mtmd_free(context)
        raise raised[0]
    if not context:
        errors = [error.replace(str(path), path.name) for error in log.errors()[before:]]
        raise load_error(f"the projector {path.name} cannot be loaded", errors, "MODEL_FILE_INVALID")
    if not mtmd_cpp.mtmd_support_vision(context):
        mtmd_cpp.mtmd_free(context)
        raise ModelLoadError(f"the projector {path.name} is not one for pictures", "MODEL_NOT_SUPPORTED")
    return MtmdProjector(context, native.llama_model_n_embd_inp(model))


def _check_file(path: Path) -> None:
    """Finds out what can be known beforehand: llama.cpp ends the process on some broken files."""
    try:
        with path.open("rb") as file:
            head = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        check_projector(read_head(head), len(head))
    except FileNotFoundError as error:
        raise ModelLoadError(f"there is no projector file {path.name}", "MODEL_FILE_MISSING") from error
    except OSError as error:
        raise ModelLoadError(f"the projector file {path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:  # GgufError, or what mmap says of an empty file
        message = f"{path.name} cannot be used as a projector: {error}"
        raise ModelLoadError(message, "MODEL_FILE_INVALID") from error


def _context_params(spec: LlamaSpec, threads: int) -> Any:
    params = mtmd_cpp.mtmd_context_params_default()
    params.use_gpu = spec.gpu_layers != 0
    params.print_timings = False
    params.n_threads = threads
    params.image_max_tokens = spec.picture_max_tokens or -1
    return params


def _is_picture(chunk: Any) -> bool:
    return bool(mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_IMAGE)


def _text(chunk: Any) -> tuple[int, ...]:
    """The tokens of a chunk of text; those that the model's vocabulary lacks are negative, and left out."""
    count = ctypes.c_size_t()
    tokens = mtmd_cpp.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    return tuple(token for token in tokens[: count.value] if token >= 0)


def _positions(chunk: Any, count: int, start: int) -> Positions:
    """The positions of a chunk's tokens where it begins at `start`, in the order in which llama.cpp wants them."""
    found = (mtmd_cpp.mtmd_decoder_pos * count)()
    image = mtmd_cpp.mtmd_input_chunk_get_tokens_image(chunk)
    mtmd_cpp.mtmd_helper_image_get_decoder_pos(image, start, found)
    return np.array([(one.t, one.y, one.x, one.z) for one in found], dtype=np.int64).T
