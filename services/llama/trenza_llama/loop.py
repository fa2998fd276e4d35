"""The engine's loop: many requests share each step of the device."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trenza_runtime.worker.engine import Emission, EngineFailure, ModelFacts

from trenza_llama.core.output import OutputText
from trenza_llama.core.pictures import PictureRun, position_of, run_at, text_until, whole_pictures
from trenza_llama.core.plan import Prefill, Share, plan_batch
from trenza_llama.core.prefix import SlotContent, choose_slot
from trenza_llama.device import DecodeError, Device, Feed, GrammarError, NoTokenError, Sampler
from trenza_llama.engine import (
    Counted,
    CountRequest,
    Delta,
    Detokenized,
    DetokenizeRequest,
    Finished,
    FinishReason,
    GenerateRequest,
    Request,
    Started,
    TextPrompt,
    Timings,
    Tokenized,
    TokenizeRequest,
    TokenLogprob,
    TokenPrompt,
)
from trenza_llama.gallery import EncodedPicture, Gallery
from trenza_llama.line import Line, Waiting
from trenza_llama.prompts import EncodedPrompt, PromptEncoder, PromptError

_logger = logging.getLogger(__name__)

_INTERNAL = EngineFailure("INTERNAL", "the request could not be prepared; the service's log says why")

_PREPARED_PER_STEP = 8
"""How many new requests are turned into tokens between two steps of the device; answers under way wait meanwhile."""

_LEAST_COPIED = 8
_COPY_COST = 256
"""A slot is copied as a whole: that costs about as much as computing one token for every 256 it has room for."""

_MAX_FAILED_STEPS = 3
"""After this many failed steps in a row the engine counts as broken."""


@dataclass(slots=True)
class _Running:
    """A request that has a slot."""

    id: str
    request: GenerateRequest
    prompt: list[int]
    sampler: Sampler
    output: OutputText[TokenLogprob]
    limit: int
    cached: int
    submitted_s: float
    started_s: float
    runs: Sequence[PictureRun] = ()
    shift: int = 0
    encoded: Mapping[str, EncodedPicture] = field(default_factory=dict)
    first_token_s: float | None = None
    generated: int = 0
    echoed: list[TokenLogprob] = field(default_factory=list)

    def position(self, index: int) -> int:
        """The position of the token with that index in the slot; that of its part's start for a picture's token."""
        return (position_of(index, self.runs) if self.runs else index) + self.shift

    def pass_pictures(self) -> None:
        """Lets go of the pictures once the slot's memory has them all."""
        self.shift = position_of(len(self.prompt), self.runs) - len(self.prompt)
        self.runs, self.encoded = (), {}

    @property
    def scores_prompt(self) -> bool:
        """Whether the log-probabilities of the prompt's own tokens are wanted."""
        return self.request.echo and self.request.top_logprobs is not None


@dataclass(slots=True)
class _Slot:
    """A part of the device's memory: the tokens it holds, those to come, and who uses it."""

    index: int
    tokens: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    last_used: int = 0
    running: _Running | None = None

    @property
    def decoding(self) -> bool:
        """Whether the next step makes a token of the answer rather than computing the prompt."""
        return self.running is not None and self.running.generated > 0

    @property
    def run(self) -> PictureRun | None:
        """The picture's part that comes next, None where text does."""
        if self.running is None or not self.running.runs:
            return None
        return run_at(len(self.tokens), self.running.runs)


class BatchingEngine:
    """Implements `trenza_runtime.worker.engine.Engine`: continuous batching with reuse of shared beginnings.

    A cancelled or finished request leaves its slot before the next step. Requests beyond the number of slots wait first
    come first served, at most `max_waiting` of them. A step encodes one part of a picture at most, so that answers under
    way wait no longer for it, and gives it up before the next part when nobody wants it any more; meanwhile those who
    wait behind a request whose pictures are not ready yet may take the slot before it. As many requests as there are
    slots have their pictures encoded ahead of their turn.
    """

    def __init__(
        self,
        device: Device,
        encoder: PromptEncoder,
        *,
        prefill_tokens: int,
        max_waiting: int,
        picture_cache_bytes: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._encoder = encoder
        self._prefill_tokens = prefill_tokens
        self._max_waiting = max_waiting
        self._worth_copying = max(_LEAST_COPIED, device.context_length // _COPY_COST) if device.can_copy else None
        self._clock = clock
        self._slots = [_Slot(index) for index in range(device.facts.slots)]
        self._arrived: deque[tuple[str, Request, float]] = deque()
        gallery = Gallery(device.projector, picture_cache_bytes) if device.projector is not None else None
        self._line = Line(gallery, ahead=len(self._slots))
        self._refused: list[str] = []
        self._failed_steps = 0
        self._steps = 0
        self._step_tokens = 0
        self._prompt_tokens = 0
        self._generated_tokens = 0

    @property
    def facts(self) -> ModelFacts:
        """What the loaded model is; constant."""
        return self._device.facts

    def submit(self, request_id: str, request: Request) -> None:
        """Accepts a request; its events come out of later steps, the last one marked so."""
        free = sum(slot.running is None for slot in self._slots)
        if len(self._arrived) + len(self._line) >= self._max_waiting + free:
            self._refused.append(request_id)
        else:
            self._arrived.append((request_id, request, self._clock()))

    def cancel(self, request_id: str) -> None:
        """Forgets a request; its slot is free, and keeps what was computed, before the next step runs."""
        self._refused = [refused for refused in self._refused if refused != request_id]
        self._arrived = deque(entry for entry in self._arrived if entry[0] != request_id)
        self._line.cancel(request_id)
        for slot in self._slots:
            if slot.running is not None and slot.running.id == request_id:
                self._leave(slot)

    @property
    def busy(self) -> bool:
        """Whether another step has work to do."""
        return bool(self._refused or self._arrived or self._line) or any(slot.running for slot in self._slots)

    def step(self) -> Sequence[Emission]:
        """Runs one step and returns its events. Raises RuntimeError when the device keeps failing."""
        emissions = self._prepare()
        emissions += self._line.look()
        emissions += self._admit()
        shares = {share.slot: share.count for share in self._schedule()}
        # A batch holds text or pictures, never both. What the pictures leave of a slot's share goes to the text behind.
        if any(slot.run is not None for slot in self._slots):
            emissions += self._run(self._whole_feed())
            emissions += self._run(self._part_feeds(shares))
        return emissions + self._run(self._text_feeds(shares))

    def gauges(self) -> Mapping[str, float]:
        """Figures worth watching, by metric suffix; those that end in `_total` only ever grow."""
        room = self._device.context_length * len(self._slots)
        return {
            "slots_used": sum(slot.running is not None for slot in self._slots),
            "waiting": len(self._arrived) + len(self._line),
            "kv_used_ratio": sum(len(slot.tokens) for slot in self._slots if slot.running) / room,
            "tokens_per_step": self._step_tokens,
            "prompt_tokens_total": self._prompt_tokens,
            "generated_tokens_total": self._generated_tokens,
            "steps_total": self._steps,
            "pictures_encoded_total": self._line.pictures,
            "picture_cache_bytes": self._line.kept_bytes,
        }

    def close(self) -> None:
        """Frees the model; requests that are still there are forgotten."""
        self._refused.clear()
        self._arrived.clear()
        self._line.clear()
        for slot in self._slots:
            self._leave(slot)
        self._device.close()

    # What arrives

    def _prepare(self) -> list[Emission]:
        """Turns new requests into tokens and answers those that need no slot."""
        full = EngineFailure("QUEUE_FULL", f"{self._max_waiting} requests are waiting for a slot already")
        emissions = [_last(request_id, full) for request_id in self._refused]
        self._refused.clear()
        for _ in range(min(len(self._arrived), _PREPARED_PER_STEP)):
            request_id, request, submitted_s = self._arrived.popleft()
            try:
                match request:
                    case GenerateRequest():
                        self._line.add(self._prepared(request_id, request, submitted_s))
                    case CountRequest(prompt):
                        encoded = self._encoder.encode_with_pictures(prompt)
                        emissions.append(_last(request_id, Counted(len(encoded.tokens), encoded.image_tokens)))
                    case TokenizeRequest():
                        emissions.append(_last(request_id, Tokenized(self._tokenized(request))))
                    case DetokenizeRequest(tokens):
                        emissions.append(_last(request_id, Detokenized(self._detokenized(tokens))))
            except PromptError as error:
                emissions.append(_last(request_id, EngineFailure(error.reason, str(error), error.details)))
            except Exception:  # whatever a request makes of its preparation, it must cost nobody but itself
                _logger.exception("request %s could not be prepared", request_id)
                emissions.append(_last(request_id, _INTERNAL))
        return emissions

    def _prepared(self, request_id: str, request: GenerateRequest, submitted_s: float) -> Waiting:
        for token, _ in request.sampling.logit_bias:
            if not 0 <= token < self._device.vocabulary.size:
                raise PromptError(f"logit_bias names the unknown token {token}", "INVALID_LOGIT_BIAS")
        prompt = self._encoder.encode_with_pictures(request.prompt)
        limit = self._device.context_length
        count = len(prompt.tokens)
        if count + 1 > limit:
            figures = {"prompt_tokens": str(count), "limit": str(limit)}
            message = f"the prompt has {count} tokens; with an answer it does not fit in a context of {limit}"
            raise PromptError(message, "CONTEXT_LENGTH_EXCEEDED", figures)
        if not prompt.runs:
            return Waiting(request_id, request, submitted_s, prompt)
        self._check_pictures(request, prompt)
        # The pixels are needed no longer than until they are encoded, so the request must not hold on to them.
        missing, prompt.pictures = prompt.pictures, {}
        request = replace(request, prompt=TokenPrompt(()))
        return Waiting(request_id, request, submitted_s, prompt, missing)

    def _check_pictures(self, request: GenerateRequest, prompt: EncodedPrompt) -> None:
        largest = max((run.count for run in prompt.runs if run.whole), default=0)
        if largest > self._device.whole_tokens:
            message = f"a picture has {largest} tokens, more than the {self._device.whole_tokens} that fit in one batch"
            raise PromptError(message, "PICTURE_INVALID")
        if request.echo and request.top_logprobs is not None:
            raise PromptError("a prompt with pictures has no log-probabilities")

    def _tokenized(self, request: TokenizeRequest) -> tuple[int, ...]:
        if request.add_special:
            return tuple(self._encoder.encode(TextPrompt(request.text, request.parse_special)))
        return tuple(self._encoder.tokenize(request.text, request.parse_special))

    def _detokenized(self, tokens: Sequence[int]) -> str:
        vocabulary = self._device.vocabulary
        if any(not 0 <= token < vocabulary.size for token in tokens):
            raise PromptError("a token is not in the vocabulary")
        return b"".join(vocabulary.piece(token, special=True) for token in tokens).decode(errors="replace")

    # Schedule

    def _admit(self) -> list[Emission]:
        """Gives free slots to those of the ready who wait longest."""
        emissions: list[Emission] = []
        while any(slot.running is None for slot in self._slots):
            waiting = self._line.take_ready()
            if waiting is None:
                break
            try:
                sampler = self._device.sampler(waiting.request, waiting.prompt.text_tokens)
            except GrammarError as error:
                emissions.append(_last(waiting.id, EngineFailure("INVALID_GRAMMAR", str(error))))
                continue
            except Exception:  # as above
                _logger.exception("request %s could not be started", waiting.id)
                emissions.append(_last(waiting.id, _INTERNAL))
                continue
            emissions += self._start(waiting, sampler)
        return emissions

    def _start(self, waiting: Waiting, sampler: Sampler) -> list[Emission]:
        request, prompt = waiting.request, waiting.prompt.tokens
        room = self._device.context_length - len(prompt)
        running = _Running(
            id=waiting.id,
            request=request,
            prompt=prompt,
            sampler=sampler,
            output=OutputText(request.stop),
            limit=room if request.max_tokens is None else min(room, request.max_tokens),
            cached=0,
            submitted_s=waiting.submitted_s,
            started_s=self._clock(),
            runs=waiting.prompt.runs,
            encoded=waiting.encoded,
        )
        slot = self._take_slot(running)
        running.cached = len(slot.tokens)
        slot.running, slot.pending = running, prompt[running.cached :]
        self._prompt_tokens += len(prompt)
        started = Started(len(prompt), running.cached, waiting.prompt.image_tokens)
        return [Emission(waiting.id, started, last=False)]

    def _take_slot(self, running: _Running) -> _Slot:
        """The best free slot, left with as much of the prompt as it holds; the last token is always computed again."""
        contents = [
            SlotContent(slot.index, slot.tokens, slot.last_used, free=slot.running is None) for slot in self._slots
        ]
        choice = choose_slot(running.prompt, contents, self._worth_copying)
        slot = self._slots[choice.index]
        reusable = running.request.cache_prompt and not running.scores_prompt
        wanted = whole_pictures(min(choice.shared, len(running.prompt) - 1), running.runs) if reusable else 0
        end = running.position(wanted)
        if wanted and choice.source != choice.index:
            end_now = self._device.copy(choice.source, choice.index, end)
        elif wanted != len(slot.tokens):
            end_now = self._device.truncate(slot.index, end)
        else:
            end_now = end
        slot.tokens = running.prompt[:wanted] if end_now == end else []
        return slot

    def _schedule(self) -> Sequence[Share]:
        decoding = [slot.index for slot in self._slots if slot.decoding]
        rows = self._device.max_rows - sum(slot.running is not None for slot in self._slots)
        scoring = sum(1 for slot in self._slots if slot.running and slot.running.scores_prompt and not slot.decoding)
        prefilling = [
            Prefill(slot.index, len(slot.pending), max(1, rows // scoring) if slot.running.scores_prompt else None)
            for slot in self._slots
            if slot.running is not None and not slot.decoding and not (slot.run and slot.run.whole)
        ]
        return plan_batch(decoding, prefilling, self._device.batch_tokens, self._prefill_tokens)

    def _whole_feed(self) -> list[Feed]:
        """The part of a picture that has to be computed alone, of the slot that waits for that longest."""
        waiting = [(slot.last_used, slot.index) for slot in self._slots if slot.run is not None and slot.run.whole]
        if not waiting:
            return []
        slot = self._slots[min(waiting)[1]]
        return [self._part_feed(slot, slot.run, slot.run.count)] if slot.run is not None else []

    def _part_feeds(self, shares: dict[int, int]) -> list[Feed]:
        """The parts of pictures that come next in their slots; they use up a part of the shares."""
        feeds = []
        for index, count in shares.items():
            slot, run = self._slots[index], self._slots[index].run
            if run is not None and not run.whole:
                taken = min(count, run.end - len(slot.tokens))
                feeds.append(self._part_feed(slot, run, taken))
                shares[index] -= taken
        return feeds

    def _part_feed(self, slot: _Slot, run: PictureRun, count: int) -> Feed:
        running = slot.running
        assert running is not None  # a run belongs to a request
        return Feed(
            slot=slot.index,
            position=running.position(run.start),
            tokens=slot.pending[:count],
            rows=int(count == len(slot.pending)),
            part=running.encoded[run.key][run.part],
            offset=len(slot.tokens) - run.start,
        )

    def _text_feeds(self, shares: Mapping[int, int]) -> list[Feed]:
        """The text that comes next in the slots, up to their next pictures."""
        feeds = []
        for index, share in shares.items():
            slot = self._slots[index]
            running, start = slot.running, len(slot.tokens)
            if running is None or share == 0 or slot.run is not None:
                continue
            count = min(share, len(slot.pending))
            if running.runs:
                count = min(count, text_until(start, running.runs, start + count) - start)
            tokens = slot.pending[:count]
            complete = count == len(slot.pending)
            rows = len(tokens) if running.scores_prompt and not slot.decoding else int(complete)
            feeds.append(Feed(index, running.position(start), tokens, rows))
        return feeds

    def _run(self, feeds: Sequence[Feed]) -> list[Emission]:
        if not feeds:
            return []
        try:
            first_rows = self._device.run(feeds)
        except DecodeError as error:
            return self._give_up(feeds, error)
        self._count(feeds)
        emissions: list[Emission] = []
        for feed, first_row in zip(feeds, first_rows, strict=True):
            emissions += self._post_process(self._slots[feed.slot], feed, first_row)
        return emissions

    # Post-process

    def _count(self, feeds: Sequence[Feed]) -> None:
        self._failed_steps = 0
        self._steps += 1
        self._step_tokens = sum(len(feed.tokens) for feed in feeds)
        for feed in feeds:
            slot = self._slots[feed.slot]
            slot.tokens += feed.tokens
            del slot.pending[: len(feed.tokens)]
            slot.last_used = self._steps

    def _post_process(self, slot: _Slot, feed: Feed, first_row: int) -> list[Emission]:
        running = slot.running
        assert running is not None  # nobody is cancelled while the device runs
        emissions: list[Emission] = []
        if running.scores_prompt and not slot.decoding:
            self._score(running, feed, first_row)
        if slot.pending:
            return emissions
        if running.runs:
            running.pass_pictures()
        if running.first_token_s is None:
            running.first_token_s = self._clock()
            if running.request.echo:
                emissions.append(self._echo(running))
        if running.limit == 0:
            return [*emissions, *self._finish(slot, "length")]
        return emissions + self._advance(slot, running, first_row + feed.rows - 1)

    def _advance(self, slot: _Slot, running: _Running, row: int) -> list[Emission]:
        """Makes one token of the answer."""
        try:
            sampled = running.sampler.sample(row)
        except NoTokenError as error:
            self._leave(slot)
            return [_last(running.id, EngineFailure(error.reason, str(error)))]
        if self._device.vocabulary.ends_text(sampled.token):
            return self._finish(slot, "stop")
        running.generated += 1
        self._generated_tokens += 1
        piece = self._device.vocabulary.piece(sampled.token, running.request.special_text)
        text, logprobs = running.output.feed(piece, sampled.logprob)
        if running.output.matched is not None:
            return self._finish(slot, "stop", text, logprobs, 1)
        if running.generated >= running.limit:
            return self._finish(slot, "length", text, logprobs, 1)
        slot.pending = [sampled.token]
        return [Emission(running.id, Delta(text, 1, logprobs), last=False)]

    def _finish(
        self,
        slot: _Slot,
        reason: FinishReason,
        text: str = "",
        logprobs: tuple[TokenLogprob, ...] = (),
        token_count: int = 0,
    ) -> list[Emission]:
        running = slot.running
        assert running is not None
        assert running.first_token_s is not None  # it got as far as its first token
        rest, rest_logprobs = running.output.finish()
        delta = Delta(text + rest, token_count, logprobs + rest_logprobs)
        now_s = self._clock()
        finished = Finished(
            finish_reason="stop" if running.output.matched is not None else reason,
            prompt_tokens=len(running.prompt),
            cached_tokens=running.cached,
            completion_tokens=running.generated,
            stop_sequence=running.output.matched,
            timings=Timings(
                queue_s=running.started_s - running.submitted_s,
                prefill_s=running.first_token_s - running.started_s,
                decode_s=now_s - running.first_token_s,
            ),
        )
        self._leave(slot)
        shown = [Emission(running.id, delta, last=False)] if delta.text or delta.token_count or delta.logprobs else []
        return [*shown, _last(running.id, finished)]

    def _score(self, running: _Running, feed: Feed, first_row: int) -> None:
        """Notes how likely each token of the prompt was after those before it."""
        top = running.request.top_logprobs or 0
        if feed.position == 0:
            first = running.prompt[0]
            running.echoed.append(TokenLogprob(first, None, self._device.vocabulary.piece(first, special=True)))
        for offset in range(len(feed.tokens)):
            following = feed.position + offset + 1
            if following < len(running.prompt):
                running.echoed.append(self._device.logprob(first_row + offset, running.prompt[following], top))

    def _echo(self, running: _Running) -> Emission:
        prompt = running.request.prompt
        text = prompt.text if isinstance(prompt, TextPrompt) else self._text_of(running.prompt)
        return Emission(running.id, Delta(text, 0, tuple(running.echoed)), last=False)

    def _text_of(self, prompt: Sequence[int]) -> str:
        """A prompt as text; its pictures have none."""
        return self._detokenized([token for token in prompt if token >= 0])

    def _give_up(self, feeds: Sequence[Feed], error: DecodeError) -> list[Emission]:
        """Ends the requests of a failed batch and empties their slots, whose content is unknown now."""
        self._failed_steps += 1
        if self._failed_steps >= _MAX_FAILED_STEPS:
            raise RuntimeError(f"the device failed {self._failed_steps} times in a row: {error}") from error
        emissions = []
        for feed in feeds:
            slot = self._slots[feed.slot]
            if slot.running is not None:
                failure = EngineFailure("DECODE_FAILED", f"the model could not compute a step: {error}")
                emissions.append(_last(slot.running.id, failure))
            self._leave(slot)
            self._device.truncate(slot.index, 0)
            slot.tokens = []
        return emissions

    def _leave(self, slot: _Slot) -> None:
        if slot.running is not None:
            slot.running.sampler.close()
        slot.running, slot.pending = None, []


def _last(request_id: str, event: object) -> Emission:
    return Emission(request_id, event, last=True)
