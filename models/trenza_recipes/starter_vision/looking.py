"""The finished model files in llama.cpp: pictures and questions in, answers out."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import Llama, mtmd_cpp
from numpy.typing import NDArray
from PIL import Image

from trenza_recipes.starter_vision.export import MODEL_FILE, PROJECTOR_FILE

Message = tuple[str, Sequence[str | Image.Image]]
"""A role, and texts and pictures in their order."""

ANSWER_TOKENS = 80


class Looker:
    """Both files, loaded; one conversation at a time, always the likeliest next token."""

    def __init__(self, folder: Path, context_tokens: int = 1024) -> None:
        self._llama: Any = Llama(
            str(folder / MODEL_FILE), n_ctx=context_tokens, n_threads=1, n_threads_batch=1, verbose=False
        )
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu, params.print_timings, params.n_threads, params.warmup = False, False, 1, False
        self._context = mtmd_cpp.mtmd_init_from_file(
            str(folder / PROJECTOR_FILE).encode(), self._llama._model.model, params
        )
        if not self._context:
            raise ValueError(f"llama.cpp does not load {PROJECTOR_FILE}")
        self.width = self._llama.n_embd()

    def embeddings(self, picture: Image.Image) -> NDArray[np.float32]:
        """What the decoder is given for a picture (patches, width)."""
        chunks = self._chunks(picture)
        try:
            chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, 0)
            if mtmd_cpp.mtmd_encode_chunk(self._context, chunk) != 0:
                raise ValueError("llama.cpp cannot encode the picture")
            count = mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk)
            numbers: Any = mtmd_cpp.mtmd_get_output_embd(self._context)
            return np.ctypeslib.as_array(numbers, (count, self.width)).copy()
        finally:
            mtmd_cpp.mtmd_input_chunks_free(chunks)

    def _chunks(self, picture: Image.Image) -> Any:
        plain = picture.convert("RGB")
        pixels = plain.tobytes()
        data = ctypes.cast(ctypes.c_char_p(pixels), ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd_cpp.mtmd_bitmap_init(*plain.size, data)
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        try:
            part = mtmd_cpp.mtmd_input_part(text=None, bitmap=bitmap)
            parts = (ctypes.POINTER(mtmd_cpp.mtmd_input_part) * 1)(ctypes.pointer(part))
            if mtmd_cpp.mtmd_tokenize_from_parts(self._context, chunks, parts, 1, False) != 0:
                raise ValueError("llama.cpp cannot look at the picture")
        finally:
            mtmd_cpp.mtmd_bitmap_free(bitmap)
        return chunks

    def _read(self, picture: Image.Image) -> None:
        chunks = self._chunks(picture)
        try:
            chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, 0)
            after = ctypes.c_int32(0)
            result = mtmd_cpp.mtmd_helper_eval_chunk_single(
                self._context, self._llama._ctx.ctx, chunk, self._llama.n_tokens, 0, 512, False, ctypes.byref(after)
            )
            if result != 0:
                raise ValueError("llama.cpp cannot read the picture")
            self._llama.n_tokens = after.value
        finally:
            mtmd_cpp.mtmd_input_chunks_free(chunks)

    def read(self, messages: Sequence[Message]) -> None:
        """Read a conversation, up to where the answer begins."""
        self._llama.reset()
        self._llama._ctx.kv_cache_clear()
        text = ""
        for role, parts in messages:
            text += f"<|im_start|>{role}\n"
            for part in parts:
                if isinstance(part, str):
                    text += part
                else:
                    self._eval(text)
                    text = ""
                    self._read(part)
            text += "<|im_end|>\n"
        self._eval(text + "<|im_start|>assistant\n")

    def _eval(self, text: str) -> None:
        self._llama.eval(self._llama.tokenize(text.encode(), add_bos=False, special=True))

    def scores(self) -> NDArray[np.float32]:
        """The scores of every token to come next."""
        numbers: Any = self._llama._ctx.get_logits()
        return np.ctypeslib.as_array(numbers, (self._llama.n_vocab(),)).copy()

    def answer(self, messages: Sequence[Message]) -> str:
        """The model's answer to a conversation."""
        self.read(messages)
        said: list[int] = []
        while len(said) < ANSWER_TOKENS:
            token = int(self.scores().argmax())
            if token == self._llama.token_eos():
                break
            said.append(token)
            self._llama.eval([token])
        return bytes(self._llama.detokenize(said)).decode("utf-8", "replace")
