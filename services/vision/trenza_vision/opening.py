"""Opens the pictures of requests on a few threads, so that the event loop never waits and memory stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from trenza_llama.engine import Picture
from trenza_pictures.opening import PictureError, open_picture

from trenza_vision.core.room import Share
from trenza_vision.translate import Shown, bad_picture


class PictureOpener:
    """`decoders` pictures at a time, for all requests together; each of at most `limit_pixels`."""

    def __init__(self, decoders: int, limit_pixels: int) -> None:
        self._threads = ThreadPoolExecutor(decoders, thread_name_prefix="opens-pictures")
        self._limit_pixels = limit_pixels

    async def open(self, shown: Sequence[Shown], share: Share) -> list[Picture]:
        """The pictures, one for each that is shown; one that is shown twice is opened once, and the share grows by its pixels.

        Raises RpcFault INVALID_ARGUMENT/PICTURE_INVALID naming the part, and RoomFull.
        """
        known: dict[tuple[int, int], Picture] = {}
        for one in shown:
            if (id(one.data), one.longest_side) not in known:
                known[id(one.data), one.longest_side] = await self._open(one, share)
        return [known[id(one.data), one.longest_side] for one in shown]

    async def _open(self, shown: Shown, share: Share) -> Picture:
        work = asyncio.get_running_loop().run_in_executor(self._threads, _look, shown, self._limit_pixels)
        try:
            picture = await work
            share.take(len(picture.pixels))
        except PictureError as error:
            raise bad_picture(shown.param, str(error)) from None
        return picture

    def close(self) -> None:
        """Ends the threads once they have opened what they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look(shown: Shown, limit_pixels: int) -> Picture:
    opened = open_picture(shown.data, shown.longest_side, limit_pixels)
    return Picture.of(opened.width, opened.height, opened.pixels)
