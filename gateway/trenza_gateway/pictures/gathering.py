"""Gets hold of the pictures that a conversation shows, and says which part of it is to blame where that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Scope

from trenza_gateway.limits import Bodies
from trenza_gateway.openai.errors import ApiError, bad_request
from trenza_gateway.pictures.data_urls import picture_of_data_url
from trenza_gateway.pictures.fetching import Fetcher
from trenza_gateway.pictures.picture import BadPicture, EncodedPicture, TooLarge

FETCHED_AT_ONCE = 4
"""Pictures of one request that are fetched at the same time."""


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """How many pictures a conversation may show, the bytes of one and of all of them, and seconds until one is fetched."""

    count: int
    picture_bytes: int
    pictures_bytes: int
    fetch_s: float


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that a request shows: the field that says so, and where it is, as a data URL or a URL of the net."""

    param: str
    url: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """The pictures of a request, each once, and for each showing of one its number."""

    pictures: Sequence[EncodedPicture]
    numbers: Sequence[int]


class Pictures:
    """Gathers pictures. Those from the net are fetched only where there is a fetcher."""

    def __init__(self, limits: PictureLimits, bodies: Bodies, fetcher: Fetcher | None) -> None:
        self.limits = limits
        self._bodies = bodies
        self._fetcher = fetcher

    async def gather(self, scope: Scope, shown: Sequence[Shown]) -> Gathered:
        """The pictures that a request shows, whose memory counts until it ends. Raises ApiError that names the field."""
        if len(shown) > self.limits.count:
            message = f"A request can show {self.limits.count} pictures at most."
            raise bad_request(message, param=shown[self.limits.count].param, code="too_many_images")
        first = {one.url: one for one in reversed(shown)}
        numbers = {url: number for number, url in enumerate(dict.fromkeys(one.url for one in shown))}
        gathering = _Gathering(self.limits, self._bodies, self._fetcher, scope)
        pictures = await gathering.all([first[url] for url in numbers])
        return Gathered(pictures, [numbers[one.url] for one in shown])


class _Gathering:
    """The pictures of one request."""

    def __init__(self, limits: PictureLimits, bodies: Bodies, fetcher: Fetcher | None, scope: Scope) -> None:
        self._limits = limits
        self._bodies = bodies
        self._fetcher = fetcher
        self._scope = scope
        self._size_bytes = 0
        self._places = asyncio.Semaphore(FETCHED_AT_ONCE)

    async def all(self, shown: Sequence[Shown]) -> list[EncodedPicture]:
        """Each picture. The first that fails ends the search for the others."""
        try:
            async with asyncio.TaskGroup() as group:
                found = [group.create_task(self._one(one)) for one in shown]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in found]

    async def _one(self, shown: Shown) -> EncodedPicture:
        try:
            async with self._places:
                if shown.url[:5].lower() != "data:":
                    return await self._fetched(shown.url)
                picture = await picture_of_data_url(shown.url, self._limits.picture_bytes)
            self._count(picture.size_bytes)
            return picture
        except BadPicture as bad:
            status = 413 if isinstance(bad, TooLarge) else 400
            raise ApiError(status, str(bad), code=bad.code, param=shown.param) from None

    async def _fetched(self, url: str) -> EncodedPicture:
        if self._fetcher is None:
            message = "Pictures are not fetched from the net here; send a data URL ('data:image/png;base64,…')."
            raise BadPicture(message, "invalid_image_url")
        return await self._fetcher.fetch(url, self._limits.picture_bytes, self._limits.fetch_s, self._count_fetched)

    def _count_fetched(self, size_bytes: int) -> None:
        self._bodies.hold(self._scope, size_bytes)  # pictures inside the body are counted already
        self._count(size_bytes)

    def _count(self, size_bytes: int) -> None:
        self._size_bytes += size_bytes
        if self._size_bytes > self._limits.pictures_bytes:
            raise AllTooLarge(self._limits.pictures_bytes)


class AllTooLarge(TooLarge):
    """Pictures that are too large together."""

    def __init__(self, limit_bytes: int) -> None:
        BadPicture.__init__(
            self, f"The pictures of a request must be at most {limit_bytes} bytes together.", "image_too_large"
        )
