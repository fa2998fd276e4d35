"""The engine for any image-text-to-text model of Hugging Face's transformers.

Each running answer makes one token in a step, in turn; a step reads the prompt of one new request at most, so that answers under
way wait no longer than for that. A cancelled request is gone before the next token is made.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from trenza_llama import engine as llama
from trenza_llama.core.output import OutputText
from trenza_runtime.worker.engine import Emission, EngineFailure, ModelFacts, ProgressReporter

from trenza_vision.core.grammar import GrammarError
from trenza_vision.engine import TransformersSpec
from trenza_vision.engines import loading
from trenza_vision.engines.generation import Generation, ModelState
from trenza_vision.engines.loading import LoadedModel
from trenza_vision.engines.prompting import Prompt, PromptMaker, Refused
from trenza_vision.engines.ruling import Ruling
from trenza_vision.engines.sampling import Chooser, Chosen, NoToken
from trenza_vision.engines.wording import TokenBytes, Wording

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    """A request that has no slot yet."""

    id: str
    request: llama.GenerateRequest | llama.CountRequest
    submitted_s: float


@dataclass
class _Running:
    """A request that has a slot; its prompt is read when `first_token_s` is known."""

    id: str
    request: llama.GenerateRequest
    prompt: Prompt
    generation: Generation
    words: Wording
    output: OutputText[llama.TokenLogprob]
    limit: int
    submitted_s: float
    started_s: float
    first_token_s: float | None = None
    made: int = field(default=0)


class TransformersEngine:
    """Answers several requests in turn with one loaded model."""

    def __init__(self, loaded: LoadedModel, spec: TransformersSpec) -> None:
        self._loaded = loaded
        self._prompts = PromptMaker(loaded)
        self._state = ModelState(loaded.model)
        self._known_inputs = _known_inputs(loaded.model)
        self._bytes = TokenBytes(loaded.tokenizer)
        self._slots, self._max_waiting = spec.slots, spec.max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[str, _Running] = {}
        self._refused: list[Emission] = []
        self.facts = _facts(loaded, spec)

    @property
    def busy(self) -> bool:
        """Whether there is anything to say."""
        return bool(self._waiting or self._running or self._refused)

    def submit(self, request_id: str, request: llama.Request) -> None:
        """Accepts a request; its prompt is made in a later step."""
        if failure := self._objection(request):
            self._refused.append(Emission(request_id, failure, last=True))
        else:
            assert isinstance(request, llama.GenerateRequest | llama.CountRequest)
            self._waiting.append(_Waiting(request_id, request, time.monotonic()))

    def cancel(self, request_id: str) -> None:
        """Ends a request where it stands."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting.id != request_id)
        if running := self._running.pop(request_id, None):
            with torch.no_grad():
                running.generation.close()

    def step(self) -> Sequence[Emission]:
        """Makes a token of every answer under way, reads one new prompt, and prepares the next."""
        emissions, self._refused = self._refused, []
        # Around all answers: each of them switches gradients off, and back to what it found, in whatever order they end.
        with torch.no_grad():
            unread = True
            for running in list(self._running.values()):
                if running.first_token_s is not None or unread:
                    unread = unread and running.first_token_s is not None
                    emissions += self._advance(running)
            emissions += self._prepare_next()
        return emissions

    def gauges(self) -> Mapping[str, float]:
        """Requests that run and wait."""
        return {"running": float(len(self._running)), "waiting": float(len(self._waiting))}

    def close(self) -> None:
        """Drops everything."""
        for request_id in list(self._running):
            self.cancel(request_id)
        self._waiting.clear()

    def _objection(self, request: llama.Request) -> EngineFailure | None:
        """Why a request cannot be served at all."""
        if not isinstance(request, llama.GenerateRequest | llama.CountRequest) or not isinstance(
            request.prompt, llama.ChatPrompt
        ):
            return EngineFailure("UNSUPPORTED", "Models of this engine answer conversations only.")
        if len(self._waiting) >= self._max_waiting:
            return EngineFailure("QUEUE_FULL", f"{self._max_waiting} requests are waiting for a slot already")
        if isinstance(request, llama.GenerateRequest):
            size = self._loaded.model.config.get_text_config().vocab_size
            for token, _ in request.sampling.logit_bias:
                if not 0 <= token < size:
                    return EngineFailure("INVALID_LOGIT_BIAS", f"logit_bias names the unknown token {token}")
        return None

    def _prepare_next(self) -> list[Emission]:
        """Makes the prompt of the first in line: counts it, or gives it a free slot."""
        if not self._waiting or (
            len(self._running) >= self._slots and isinstance(self._waiting[0].request, llama.GenerateRequest)
        ):
            return []
        waiting = self._waiting.popleft()
        assert isinstance(waiting.request.prompt, llama.ChatPrompt)
        try:
            prompt = self._prompts.prompt(waiting.request.prompt)
        except Refused as refused:
            return [Emission(waiting.id, refused.failure, last=True)]
        if isinstance(waiting.request, llama.CountRequest):
            return [Emission(waiting.id, llama.Counted(prompt.tokens, prompt.image_tokens), last=True)]
        try:
            self._running[waiting.id] = self._begun(waiting.id, waiting.request, waiting.submitted_s, prompt)
        except GrammarError as error:
            return [Emission(waiting.id, EngineFailure("INVALID_GRAMMAR", str(error)), last=True)]
        if not prompt.pictures:
            return []
        return [Emission(waiting.id, llama.Encoding(0, prompt.pictures), last=False)]

    def _begun(self, name: str, request: llama.GenerateRequest, submitted_s: float, prompt: Prompt) -> _Running:
        room = self._loaded.context_length - prompt.tokens
        limit = room if request.max_tokens is None else min(request.max_tokens, room)
        inputs = {key: self._placed(value) for key, value in prompt.inputs.items() if key in self._known_inputs}
        ends = self._loaded.ends
        ruling = Ruling(request.grammar, self._bytes, ends) if request.grammar is not None else None
        chooser = Chooser(request, ends, ruling)
        return _Running(
            id=name,
            request=request,
            prompt=Prompt({}, prompt.tokens, prompt.image_tokens, prompt.pictures),
            generation=Generation(self._loaded.model, self._state, inputs, chooser, limit),
            words=Wording(self._loaded.tokenizer, request.special_text),
            output=OutputText(request.stop),
            limit=limit,
            submitted_s=submitted_s,
            started_s=time.monotonic(),
        )

    def _placed(self, value: object) -> object:
        """Tensors, alone or in lists, where the model is and in its precision."""
        if isinstance(value, list | tuple):
            return [self._placed(one) for one in value]
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self._loaded.device, self._loaded.model.dtype if value.is_floating_point() else None)

    def _advance(self, running: _Running) -> list[Emission]:
        try:
            chosen = running.generation.advance()
        except (torch.OutOfMemoryError, MemoryError):
            return self._failed(running, "OUT_OF_MEMORY", "There is not enough memory for this request.")
        except NoToken as error:
            return self._failed(running, error.reason, str(error))
        except (ValueError, TypeError, IndexError, KeyError) as error:
            log.warning("a model could not go on", exc_info=error)
            return self._failed(running, "UNSUPPORTED", f"The model cannot answer this conversation: {error}")
        events: list[object] = []
        if running.first_token_s is None:
            running.first_token_s = time.monotonic()
            if running.prompt.pictures:
                events.append(llama.Encoding(running.prompt.pictures, running.prompt.pictures))
            events.append(llama.Started(running.prompt.tokens, 0, running.prompt.image_tokens))
        if chosen is None or chosen.token in self._loaded.ends:
            events += self._ended(running, "length" if chosen is None else "stop")
        else:
            events += self._told(running, chosen)
        done = isinstance(events[-1], llama.Finished)
        if done:
            self.cancel(running.id)
        return [Emission(running.id, event, done and event is events[-1]) for event in events]

    def _told(self, running: _Running, chosen: Chosen) -> list[object]:
        """What one more token of the answer brings."""
        running.made += 1
        note = self._note(chosen) if chosen.logprob is not None else None
        text, notes = running.output.feed(running.words.feed(chosen.token).encode(), note)
        told: list[object] = [llama.Delta(text, 1, notes)]
        if running.output.matched is not None or running.made >= running.limit:
            told += self._ended(running, "stop" if running.output.matched is not None else "length")
        return told

    def _ended(self, running: _Running, reason: llama.FinishReason) -> list[object]:
        """The end of an answer, after the text that was held back."""
        text, notes = running.output.feed(running.words.finish().encode())
        rest, more = running.output.finish()
        if running.output.matched is not None:
            reason = "stop"
        assert running.first_token_s is not None
        now_s = time.monotonic()
        timings = llama.Timings(
            queue_s=running.started_s - running.submitted_s,
            prefill_s=running.first_token_s - running.started_s,
            decode_s=now_s - running.first_token_s,
        )
        finished = llama.Finished(reason, running.prompt.tokens, 0, running.made, running.output.matched, timings)
        held_back = llama.Delta(text + rest, 0, notes + more)
        return [held_back, finished] if held_back.text or held_back.logprobs else [finished]

    def _failed(self, running: _Running, reason: str, message: str) -> list[Emission]:
        self.cancel(running.id)
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        return [Emission(running.id, EngineFailure(reason, message), last=True)]

    def _note(self, chosen: Chosen) -> llama.TokenLogprob:
        top = tuple(llama.TokenAlternative(token, logprob, self._bytes.of(token)) for token, logprob in chosen.top)
        return llama.TokenLogprob(chosen.token, chosen.logprob, self._bytes.of(chosen.token), top)


def load(spec: TransformersSpec, report: ProgressReporter) -> TransformersEngine:
    """Loads the model of a spec. Raises ModelLoadError."""
    return TransformersEngine(loading.load(spec, report), spec)


def _known_inputs(model: Any) -> frozenset[str]:
    """The names of what a model can be fed; its processor may make more, which `generate` would refuse."""
    takes = (model.forward, model.prepare_inputs_for_generation)
    return frozenset(name for function in takes for name in inspect.signature(function).parameters)


def _facts(loaded: LoadedModel, spec: TransformersSpec) -> ModelFacts:
    on_gpu = loaded.device.type == "cuda"
    size_bytes = sum(tensor.nbytes for tensor in (*loaded.model.parameters(), *loaded.model.buffers()))
    properties = {
        "context_length": str(loaded.context_length),
        "sees": "true",
        "architecture": type(loaded.model).__name__,
        "precision": "4bit" if spec.four_bit else loaded.precision,
        "device": str(loaded.device),
    }
    return ModelFacts(spec.slots, {str(loaded.device) if on_gpu else "cpu": size_bytes}, properties)
