"""Deletes expired pictures from time to time."""

from __future__ import annotations

import asyncio
import logging

from trenza_gateway.media.store import MediaError, MediaStore

logger = logging.getLogger(__name__)

MOST_PAUSE_S = 60.0
LEAST_PAUSE_S = 0.5


async def sweep_forever(store: MediaStore, lifetime_s: float) -> None:
    """Sweeps until it is cancelled, at least once a minute. A store that fails is asked again the next time."""
    pause_s = max(LEAST_PAUSE_S, min(MOST_PAUSE_S, lifetime_s / 10))
    while True:
        try:
            if deleted := await store.sweep():
                logger.debug("expired pictures deleted", extra={"pictures": deleted})
        except MediaError as error:
            logger.error("expired pictures cannot be deleted", extra={"why": str(error)})
        await asyncio.sleep(pause_s)
