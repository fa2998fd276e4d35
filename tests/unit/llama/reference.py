"""How llama.cpp's own helpers answer about a picture, one request at a time: what the engine is compared with."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as native
from llama_cpp import mtmd_cpp
from trenza_llama.engine import Picture

MARKER = "<__media__>"


class Reference:
    """A model with its projector, and a context for one sequence."""

    def __init__(self, model_path: Path, projector_path: Path, stack: ExitStack) -> None:
        self._model = native.llama_model_load_from_file(str(model_path).encode(), native.llama_model_default_params())
        stack.callback(native.llama_model_free, self._model)
        params = native.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 512, 512, 512
        params.n_threads = params.n_threads_batch = 1
        params.swa_full = True
        params.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = native.llama_init_from_model(self._model, params)
        assert self._context
        stack.callback(native.llama_free, self._context)
        sight = mtmd_cpp.mtmd_context_params_default()
        sight.n_threads, sight.print_timings = 1, False
        self._sight = mtmd_cpp.mtmd_init_from_file(str(projector_path).encode(), self._model, sight)
        stack.callback(mtmd_cpp.mtmd_free, self._sight)
        self._vocabulary = native.llama_model_get_vocab(self._model)

    def answer(self, text: str, pictures: Sequence[Picture], max_tokens: int) -> tuple[int, list[int]]:
        """The likeliest continuation of a text in which `MARKER` stands for each picture: prompt tokens, answer."""
        native.llama_memory_clear(native.llama_get_memory(self._context), True)
        with self._tokenized(text, pictures) as chunks:
            prompt_tokens = mtmd_cpp.mtmd_helper_get_n_tokens(chunks)
            past = native.llama_pos(0)
            result = mtmd_cpp.mtmd_helper_eval_chunks(
                self._sight, self._context, chunks, 0, 0, 512, True, ctypes.byref(past)
            )
            assert result == 0
        answer: list[int] = []
        for position in range(past.value, past.value + max_tokens):
            logits = native.llama_get_logits_ith(self._context, -1)
            token = int(np.argmax(np.ctypeslib.as_array(logits, (native.llama_vocab_n_tokens(self._vocabulary),))))
            if native.llama_vocab_is_eog(self._vocabulary, token):
                break
            answer.append(token)
            self._decode(token, position)
        return prompt_tokens, answer

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        pieces = []
        for token in tokens:
            piece = ctypes.create_string_buffer(64)
            length = native.llama_token_to_piece(self._vocabulary, token, piece, len(piece), 0, False)
            pieces.append(piece.raw[:length])
        return b"".join(pieces).decode(errors="replace")

    def _decode(self, token: int, position: int) -> None:
        batch = native.llama_batch_init(1, 0, 1)
        batch.n_tokens = 1
        batch.token[0], batch.pos[0], batch.n_seq_id[0], batch.seq_id[0][0], batch.logits[0] = token, position, 1, 0, 1
        assert native.llama_decode(self._context, batch) == 0
        native.llama_batch_free(batch)

    @contextmanager
    def _tokenized(self, text: str, pictures: Sequence[Picture]) -> Iterator[Any]:
        bitmaps = [
            mtmd_cpp.mtmd_bitmap_init(
                one.width, one.height, (ctypes.c_uint8 * len(one.pixels)).from_buffer_copy(one.pixels)
            )
            for one in pictures
        ]
        data = text.encode()
        asked = mtmd_cpp.mtmd_input_text(text=data, text_len=len(data), add_special=True, parse_special=True)
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        array = (mtmd_cpp.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
        try:
            assert mtmd_cpp.mtmd_tokenize(self._sight, chunks, ctypes.byref(asked), array, len(bitmaps)) == 0
            yield chunks
        finally:
            mtmd_cpp.mtmd_input_chunks_free(chunks)
            for bitmap in bitmaps:
                mtmd_cpp.mtmd_bitmap_free(bitmap)
