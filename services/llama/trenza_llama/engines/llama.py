"""A model in llama.cpp: loading it, its slots of memory and its batches."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as native
from trenza_runtime.worker.engine import ModelFacts, ModelLoadError, ProgressReporter

from trenza_llama.core.gguf import check_vocabulary, read_metadata
from trenza_llama.device import DecodeError, Feed
from trenza_llama.engine import GenerateRequest, LlamaSpec, TokenLogprob
from trenza_llama.engines.batch import Batch, PictureBatch, TokenBatch, part_of
from trenza_llama.engines.native_log import LogLines, load_error, recorded
from trenza_llama.engines.projector import MtmdProjector, load_projector
from trenza_llama.engines.sampler import LlamaSampler, Row, logprob
from trenza_llama.engines.vocabulary import LlamaVocabulary
from trenza_llama.loop import BatchingEngine
from trenza_llama.prompts import PromptEncoder
from trenza_llama.template import CHATML, VICUNA, ChatTemplate, TemplateError

_DEFAULT_CONTEXT_LENGTH = 8192
_SCORED_ROWS = 64
"""How many rows a batch may ask for beyond one per slot: what echoing a prompt's log-probabilities uses at a time."""

_FLASH_ATTENTION = {
    None: native.LLAMA_FLASH_ATTN_TYPE_AUTO,
    False: native.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    True: native.LLAMA_FLASH_ATTN_TYPE_ENABLED,
}
_LONGEST_WITHOUT_FLASH = 4096
"""Without flash attention a step's memory grows with the context: up to this length in tokens that is worth it."""

_KV_TYPES = {
    "f32": native.GGML_TYPE_F32,
    "f16": native.GGML_TYPE_F16,
    "q8_0": native.GGML_TYPE_Q8_0,
    "q5_1": native.GGML_TYPE_Q5_1,
    "q5_0": native.GGML_TYPE_Q5_0,
    "q4_1": native.GGML_TYPE_Q4_1,
    "q4_0": native.GGML_TYPE_Q4_0,
}


_MODEL_PART = 0.9
"""How much of the progress of a load is the model's where there is a projector too."""


def load(spec: LlamaSpec, report: ProgressReporter) -> BatchingEngine:
    """Loads a model from a GGUF file (or the first of its parts), with its projector if it has one.

    Raises ModelLoadError.

    What `report` raises ends the load and is raised again.
    """
    # Where llama.cpp ends the process after all, it must not start a debugger first, as it does where it finds one.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    _check_file(Path(spec.model_path))
    native.llama_backend_init()
    with recorded() as log:
        device = _load_device(spec, report, log)
    try:
        encoder = PromptEncoder(device.vocabulary, _template(spec, device), device.context_length, device.projector)
    except BaseException:
        device.close()
        raise
    return BatchingEngine(
        device,
        encoder,
        prefill_tokens=max(spec.prefill_tokens, spec.slots),
        max_waiting=spec.max_waiting,
        picture_cache_bytes=spec.picture_cache_bytes,
    )


def _load_device(spec: LlamaSpec, report: ProgressReporter, log: LogLines) -> LlamaDevice:
    share = _MODEL_PART if spec.projector_path is not None else 1.0
    model = _load_model(spec, lambda part: report(part * share), log)
    projector = None
    try:
        _check_kind(model)
        if spec.projector_path is not None:
            on_projector = lambda part: report(share + part * (1 - share))  # noqa: E731  as short as the one above
            projector = load_projector(spec, model, _threads(spec), on_projector, log)
        return LlamaDevice(model, projector, spec, log)
    except BaseException:
        if projector is not None:
            projector.close()
        native.llama_model_free(model)
        raise


class LlamaDevice:
    """Implements `Device` over a loaded model and its projector, which it owns from here on. Raises ModelLoadError."""

    def __init__(self, model: Any, projector: MtmdProjector | None, spec: LlamaSpec, log: LogLines) -> None:
        self.projector = projector
        self.vocabulary = LlamaVocabulary(native.llama_model_get_vocab(model))
        self.context_length = spec.context_length or min(native.llama_model_n_ctx_train(model), _DEFAULT_CONTEXT_LENGTH)
        self.max_rows = spec.slots + _SCORED_ROWS
        params = _context_params(spec, self.context_length, self.max_rows)
        # Twice as many tokens as slots: one for each answer and at least as many for prompts.
        wanted = max(spec.batch_tokens, 2 * spec.slots)
        whole = projector.largest_whole_part() if projector is not None else 0
        params.n_batch = max(wanted, whole)
        params.n_ubatch = max(min(params.n_batch, 512), whole)
        self._context = native.llama_init_from_model(model, params)
        if not self._context:
            raise load_error("there is no context to be had for the model", log.errors())
        self._model = model
        self._memory = native.llama_get_memory(self._context)
        self._sliding_window: int = native.llama_model_n_swa(model)
        # Recurrent memory is one state: it cannot be taken back to where two prompts part.
        self.can_copy = not (native.llama_model_is_recurrent(model) or native.llama_model_is_hybrid(model))
        room = int(native.llama_n_batch(self._context))  # no more than asked for
        self.batch_tokens = min(wanted, room)
        self.whole_tokens = int(native.llama_n_ubatch(self._context))
        self._text = TokenBatch(self.batch_tokens, self.max_rows)
        self._pictures: PictureBatch | None = None
        if projector is not None:
            self._pictures = PictureBatch(room, self.max_rows, projector.width, projector.sections)
        self._batch: Batch = self._text
        self._row_type = ctypes.POINTER(ctypes.c_float * self.vocabulary.size)
        self._positions_skip = projector is not None and projector.sections > 1
        self.facts = _facts(model, spec, self.context_length, log)

    def truncate(self, slot: int, length: int) -> int:
        """See `Device`. Recurrent and sliding-window memories may not know enough any more to go on from `length`."""
        if length > 0 and native.llama_memory_seq_rm(self._memory, slot, length, -1) and self._intact(slot, length):
            return length
        native.llama_memory_seq_rm(self._memory, slot, -1, -1)
        return 0

    def copy(self, source: int, target: int, length: int) -> int:
        """See `Device`. llama.cpp copies between slots only as a whole; what is too much is removed afterwards."""
        native.llama_memory_seq_rm(self._memory, target, -1, -1)
        native.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        return self.truncate(target, length)

    def run(self, feeds: Sequence[Feed]) -> list[int]:
        """See `Device`."""
        pictures = any(feed.part is not None for feed in feeds)
        if not pictures:
            return self._decode(self._text, feeds)
        assert self._pictures is not None  # parts of pictures come from a projector
        if not any(part_of(feed).whole for feed in feeds):
            return self._decode(self._pictures, feeds)
        if len(feeds) > 1:
            raise ValueError("a part of a picture that has to be computed as a whole must be alone")
        native.llama_set_causal_attn(self._context, False)
        try:
            return self._decode(self._pictures, feeds)
        finally:
            native.llama_set_causal_attn(self._context, True)

    def _decode(self, batch: TokenBatch | PictureBatch, feeds: Sequence[Feed]) -> list[int]:
        self._batch = batch
        first_rows = batch.fill(feeds)
        result = native.llama_decode(self._context, batch.native)
        if result != 0:
            raise DecodeError(f"llama_decode returned {result}")
        return first_rows

    def sampler(self, request: GenerateRequest, prompt: Sequence[int]) -> LlamaSampler:
        """See `Device`."""
        return LlamaSampler(self, self.vocabulary, request, prompt)

    def logprob(self, row: int, token: int, top: int) -> TokenLogprob:
        """See `Device`."""
        return logprob(self.logits(row), token, top, self.vocabulary)

    def logits(self, row: int) -> Row:
        """See `Rows`."""
        self._batch.check_row(row)
        pointer = native.llama_get_logits_ith(self._context, row)
        if not pointer:
            raise IndexError(f"the last batch has no logits for row {row}")
        row_memory: Any = ctypes.cast(pointer, self._row_type).contents
        logits: Row = np.frombuffer(row_memory, dtype=np.float32)
        return logits

    def native_sample(self, chain: Any, row: int) -> int:
        """See `Rows`."""
        self._batch.check_row(row)
        token: int = native.llama_sampler_sample(chain, self._context, row)
        return token

    def close(self) -> None:
        """See `Device`."""
        if self._context is not None:
            native.llama_free(self._context)
            if self.projector is not None:
                self.projector.close()
            native.llama_model_free(self._model)
            self._context = self._model = self._memory = None

    def chat_template(self) -> str | None:
        """The model's chat template, None if the file has none."""
        source = native.llama_model_chat_template(self._model, None)
        return source.decode(errors="replace") if source else None

    def _intact(self, slot: int, length: int) -> bool:
        """Whether a slot still holds all that the token at position `length` will look back at."""
        last: int = native.llama_memory_seq_pos_max(self._memory, slot)
        # A picture whose rows and columns are numbered leaves positions out behind its last token's.
        if last != length - 1 and not (self._positions_skip and last < length):
            return False
        if self._sliding_window == 0:
            return True
        oldest: int = native.llama_memory_seq_pos_min(self._memory, slot)
        return oldest <= max(0, length - self._sliding_window)


def _check_file(path: Path) -> None:
    """Finds out what can be known beforehand: llama.cpp ends the process on some broken files."""
    try:
        with path.open("rb") as file:
            head = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        check_vocabulary(read_metadata(head))
    except FileNotFoundError as error:
        raise ModelLoadError(f"there is no model file {path.name}", "MODEL_FILE_MISSING") from error
    except OSError as error:
        raise ModelLoadError(f"the model file {path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:  # GgufError, or what mmap says of an empty file
        raise ModelLoadError(f"{path.name} cannot be used: {error}", "MODEL_FILE_INVALID") from error


def _load_model(spec: LlamaSpec, report: ProgressReporter, log: LogLines) -> Any:
    raised: list[BaseException] = []

    @native.llama_progress_callback  # type: ignore[untyped-decorator]  # llama_cpp has no type information
    def on_progress(part: float, _user_data: object) -> bool:
        try:
            report(min(max(part, 0.0), 1.0))
        except BaseException as error:  # llama.cpp cannot pass it on: it is raised again below
            raised.append(error)
            return False
        return True

    params = native.llama_model_default_params()
    params.n_gpu_layers = spec.gpu_layers
    params.main_gpu = spec.main_gpu
    params.progress_callback = on_progress
    model = native.llama_model_load_from_file(os.fsencode(spec.model_path), params)
    if raised:
        if model:
            native.llama_model_free(model)
        raise raised[0]
    if not model:
        raise load_error(f"{Path(spec.model_path).name} cannot be loaded", log.errors(), "MODEL_FILE_INVALID")
    return model


def _check_kind(model: Any) -> None:
    if native.llama_model_has_encoder(model) or not native.llama_model_has_decoder(model):
        raise ModelLoadError("the model is not a text generator: it has an encoder", "MODEL_NOT_SUPPORTED")
    if native.llama_model_is_diffusion(model):
        raise ModelLoadError("the model generates text by diffusion, which is not supported", "MODEL_NOT_SUPPORTED")
    if native.llama_vocab_type(native.llama_model_get_vocab(model)) == native.LLAMA_VOCAB_TYPE_NONE:
        raise ModelLoadError("the model file has no tokenizer", "MODEL_NOT_SUPPORTED")


def _context_params(spec: LlamaSpec, context_length: int, max_rows: int) -> Any:
    threads = _threads(spec)
    params = native.llama_context_default_params()
    params.n_ctx = context_length * spec.slots
    params.n_seq_max = spec.slots
    params.n_outputs_max = max_rows
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = _FLASH_ATTENTION[_flash_attention(spec, context_length)]
    params.type_k = params.type_v = _KV_TYPES[spec.kv_type]
    params.swa_full = spec.swa_full
    # Each slot has memory of its own: what runs beside a request does not change its answer.
    params.kv_unified = False
    params.no_perf = True
    return params


def _flash_attention(spec: LlamaSpec, context_length: int) -> bool | None:
    """What the spec says; where it leaves the choice, None for llama.cpp's own.

    On a processor flash attention is slow for a short text behind a long one, which a question about a picture is: four
    times as slow for 20 tokens behind 280, and a fifth slower for each token of the answer.
    """
    short = context_length <= _LONGEST_WITHOUT_FLASH
    if spec.flash_attention is None and spec.projector_path is not None and short and spec.kv_type in ("f32", "f16"):
        return None if native.llama_supports_gpu_offload() else False
    return spec.flash_attention


def _threads(spec: LlamaSpec) -> int:
    """One core stays free: threads that wait for one another lose far more to a busy core than they gain from it."""
    return spec.threads or max(1, _cores() - 1)


def _cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _template(spec: LlamaSpec, device: LlamaDevice) -> ChatTemplate:
    source = spec.chat_template or device.chat_template()
    if source is None:
        speaks_chatml = "<|im_start|>" in device.vocabulary.control_texts or device.projector is None
        source = CHATML if speaks_chatml else VICUNA
    try:
        return ChatTemplate(source, device.vocabulary.bos_text, device.vocabulary.eos_text)
    except TemplateError as error:
        raise ModelLoadError(str(error), "INVALID_TEMPLATE") from error


def _facts(model: Any, spec: LlamaSpec, context_length: int, log: LogLines) -> ModelFacts:
    description = ctypes.create_string_buffer(256)
    native.llama_model_desc(model, description, len(description))
    properties = {
        "context_length": str(context_length),
        "trained_context_length": str(native.llama_model_n_ctx_train(model)),
        "description": description.value.decode(errors="replace"),
        "parameters": str(native.llama_model_n_params(model)),
        "vocabulary": str(native.llama_vocab_n_tokens(native.llama_model_get_vocab(model))),
        "architecture": _metadata(model, "general.architecture") or "unknown",
        "kv_type": spec.kv_type,
    }
    name = _metadata(model, "general.name")
    if name:
        properties["name"] = name
    memory = _memory_bytes(model, log)
    if spec.projector_path is not None:
        properties["sees"] = "true"
        memory["cpu"] = memory.get("cpu", 0) + spec.picture_cache_bytes
    return ModelFacts(spec.slots, memory, properties)


def _memory_bytes(model: Any, log: LogLines) -> dict[str, int]:
    """Memory by device in the platform's terms; llama.cpp tells its buffers only in its log."""
    memory: dict[str, int] = {}
    for name, size in log.buffer_bytes().items():
        device = name.removesuffix("_Mapped").removesuffix("_REPACK").removesuffix("_Host")
        device = f"cuda:{device[4:]}" if device.startswith("CUDA") and device[4:].isdigit() else "cpu"
        memory[device] = memory.get(device, 0) + size
    return memory or {"cpu": int(native.llama_model_size(model))}


def _metadata(model: Any, key: str) -> str | None:
    buffer = ctypes.create_string_buffer(4096)
    length = native.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace") if length >= 0 else None
