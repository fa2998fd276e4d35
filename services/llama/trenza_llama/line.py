"""Those who wait for a slot, first come first served, and the pictures that they have encoded ahead of their turn."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from dataclasses import dataclass, field

from trenza_runtime.worker.engine import Emission, EngineFailure

from trenza_llama.device import DecodeError, PictureError
from trenza_llama.engine import Encoding, GenerateRequest, Picture
from trenza_llama.gallery import EncodedPicture, Gallery
from trenza_llama.prompts import EncodedPrompt

_logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that has no slot yet; it is ready for one when none of its pictures is `missing` any more.

    `to_encode` is how many were missing when it was looked at first.
    """

    id: str
    request: GenerateRequest
    submitted_s: float
    prompt: EncodedPrompt
    missing: dict[str, Picture] = field(default_factory=dict)
    encoded: dict[str, EncodedPicture] = field(default_factory=dict)
    to_encode: int | None = None

    def take(self, key: str, picture: EncodedPicture) -> None:
        """Has one of the missing pictures from now on, and its pixels no more."""
        del self.missing[key]
        self.encoded[key] = picture

    def progress(self) -> Emission:
        """Tells how many of the pictures that were missing at first are encoded."""
        assert self.to_encode is not None  # it was looked at before
        return Emission(self.id, Encoding(self.to_encode - len(self.missing), self.to_encode), last=False)


class Line:
    """The requests in their order; the first `ahead` of them have their pictures encoded, one part at a time.

    `gallery` encodes the pictures and keeps them; None for a model that reads text only.
    """

    def __init__(self, gallery: Gallery | None, ahead: int) -> None:
        self._gallery = gallery
        self._ahead = ahead
        self._waiting: deque[Waiting] = deque()
        self._pictures = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def pictures(self) -> int:
        """How many pictures were encoded so far."""
        return self._pictures

    @property
    def kept_bytes(self) -> int:
        """The memory that the kept pictures take."""
        return 0 if self._gallery is None else self._gallery.kept_bytes

    def add(self, waiting: Waiting) -> None:
        """Puts a request last."""
        self._waiting.append(waiting)

    def cancel(self, request_id: str) -> None:
        """Forgets a request, and the pictures that only it wanted, if they are not encoded yet."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting.id != request_id)
        self._forget_begun()

    def take_ready(self) -> Waiting | None:
        """Takes the first ready request out of the line, None if no one is ready."""
        ready = next((waiting for waiting in self._waiting if not waiting.missing), None)
        if ready is not None:
            self._waiting.remove(ready)
        return ready

    def look(self) -> list[Emission]:
        """Encodes the next part of the first picture that is missing; returns what that means to those who wait."""
        if self._gallery is None or not any(waiting.missing for waiting in self._waiting):
            return []
        first = list(itertools.islice(self._waiting, self._ahead))
        emissions = [emission for waiting in first for emission in _take_kept(waiting, self._gallery)]
        lacking = next((waiting for waiting in first if waiting.missing), None)
        if lacking is None:
            return emissions
        key, picture = next(iter(lacking.missing.items()))
        try:
            encoded = self._gallery.advance(picture, lacking.prompt.part_count(key))
        except Exception as error:  # whatever is wrong with a picture, it must cost nobody but those who show it
            return [*emissions, self._give_up(lacking, error)]
        if encoded is None:
            return emissions
        self._pictures += 1
        for waiting in first:
            if key in waiting.missing:
                waiting.take(key, encoded)
                emissions.append(waiting.progress())
        return emissions

    def clear(self) -> None:
        """Forgets all requests and pictures."""
        self._waiting.clear()
        if self._gallery is not None:
            self._gallery.clear()

    def _give_up(self, waiting: Waiting, error: Exception) -> Emission:
        self._waiting.remove(waiting)
        self._forget_begun()
        match error:
            case PictureError():
                failure = EngineFailure("PICTURE_INVALID", str(error))
            case DecodeError():
                failure = EngineFailure("DECODE_FAILED", str(error))
            case _:
                _logger.error("a picture of request %s could not be encoded", waiting.id, exc_info=error)
                failure = EngineFailure("INTERNAL", "a picture could not be encoded; the service's log says why")
        return Emission(waiting.id, failure, last=True)

    def _forget_begun(self) -> None:
        if self._gallery is not None:
            self._gallery.forget_begun({key for waiting in self._waiting for key in waiting.missing})


def _take_kept(waiting: Waiting, gallery: Gallery) -> list[Emission]:
    """Gives a request those of its missing pictures that are kept."""
    before = len(waiting.missing)
    for key in list(waiting.missing):
        kept = gallery.find(key)
        if kept is not None:
            waiting.take(key, kept)
    if waiting.to_encode is None:
        waiting.to_encode = len(waiting.missing)
        return [waiting.progress()] if waiting.missing else []
    return [waiting.progress()] if len(waiting.missing) < before else []
