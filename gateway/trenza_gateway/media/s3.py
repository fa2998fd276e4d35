"""Pictures in a bucket of S3 or whatever speaks its API, which several gateways may share."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from trenza_runtime.lifecycle import StartError

from trenza_gateway.media.store import Media, MediaError
from trenza_gateway.media.tokens import new_token, read_token

logger = logging.getLogger(__name__)

THREADS = 8
"""Calls that are under way at one time; more wait."""
CONNECT_S = 5
READ_S = 20
ATTEMPTS = 3
PAGE_KEYS = 1000
"""Pictures that are listed, and deleted, by one call: as many as the API allows."""
MAX_PAGES = 1000
"""Listings of one sweep; what is left waits for the next."""

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_UNUSABLE = frozenset({"403", "404", "AccessDenied", "Forbidden", "NoSuchBucket", "InvalidAccessKeyId"})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in S3: keys begin with `prefix`; an empty `endpoint_url` means Amazon's own.

    Credentials and region come from wherever Amazon's tools look for them (AWS_ACCESS_KEY_ID and so on).
    """

    name: str
    prefix: str
    endpoint_url: str


class S3Store:
    """A `MediaStore`. `clock` tells seconds since the Unix epoch."""

    def __init__(self, bucket: Bucket, lifetime_s: float, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._client: Any = None

    async def start(self) -> None:
        """Connects. Raises StartError for a bucket that does not exist or may not be used; one that is down may come later."""
        try:
            self._client = await self._in_thread(lambda: _client(self._bucket.endpoint_url))
            await self._in_thread(lambda: self._client.head_bucket(Bucket=self._bucket.name))
        except ClientError as error:
            if _code(error) in _UNUSABLE:
                raise StartError(
                    f"the bucket {self._bucket.name} of TRENZA_GATEWAY_MEDIA_S3_BUCKET: {error}"
                ) from error
            logger.warning("the store of pictures does not answer", extra={"why": str(error)})
        except ValueError as error:
            raise StartError(f"TRENZA_GATEWAY_MEDIA_S3_ENDPOINT: {error}") from error
        except BotoCoreError as error:
            if self._client is None:
                raise StartError(
                    f"S3 cannot be used: {error}; Amazon's own variables set region and credentials"
                ) from error
            logger.warning("the store of pictures does not answer", extra={"why": str(error)})

    async def put(self, content: Sequence[bytes], media_type: str) -> str:
        """Uploads a picture; see `MediaStore`."""
        token = new_token(self._clock() + self._lifetime_s, media_type)

        def upload() -> None:
            self._client.put_object(
                Bucket=self._bucket.name,
                Key=self._bucket.prefix + token.text,
                Body=b"".join(content),
                ContentType=media_type,
            )

        await self._asked(upload)
        return token.text

    async def get(self, token: str) -> Media | None:
        """Begins to read a picture; see `MediaStore`."""
        found = read_token(token)
        if found is None or found.expires_unix_s <= self._clock():
            return None
        key = self._bucket.prefix + found.text
        try:
            answer = await self._in_thread(lambda: self._client.get_object(Bucket=self._bucket.name, Key=key))
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise _failed(error) from error
        except BotoCoreError as error:
            raise _failed(error) from error
        return Media(found.media_type, int(answer["ContentLength"]), found.expires_unix_s, answer["Body"])

    async def sweep(self) -> int:
        """Deletes what has expired, whichever gateway put it there; see `MediaStore`."""
        now_unix_s = self._clock()
        return await self._asked(lambda: self._sweep(now_unix_s))

    async def close(self) -> None:
        """Lets go of connections and threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def _sweep(self, now_unix_s: float) -> int:
        """Keys come sorted: after the first picture that has not expired there is none that has."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket.name, Prefix=self._bucket.prefix, PaginationConfig={"PageSize": PAGE_KEYS}
        )
        deleted = 0
        for page in itertools.islice(pages, MAX_PAGES):
            expired, more = self._expired([item["Key"] for item in page.get("Contents", ())], now_unix_s)
            deleted += self._delete(expired) if expired else 0
            if not more:
                break
        return deleted

    def _expired(self, keys: Sequence[str], now_unix_s: float) -> tuple[list[str], bool]:
        """Those among the keys that name expired pictures, and whether there may be more. Keys of others are left alone."""
        expired: list[str] = []
        for key in keys:
            token = read_token(key.removeprefix(self._bucket.prefix))
            if token is not None and token.expires_unix_s > now_unix_s:
                return expired, False
            if token is not None:
                expired.append(key)
        return expired, True

    def _delete(self, keys: Sequence[str]) -> int:
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        failed = self._client.delete_objects(Bucket=self._bucket.name, Delete=wanted).get("Errors", [])
        if failed:
            logger.error("expired pictures cannot be deleted", extra={"why": str(failed[0].get("Message"))})
        return len(keys) - len(failed)

    async def _asked(self, call: Callable[[], _T]) -> _T:
        try:
            return await self._in_thread(call)
        except (ClientError, BotoCoreError) as error:
            raise _failed(error) from error

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _client(endpoint_url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url or None,
        config=Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            max_pool_connections=THREADS,
            # Other servers of this API do not know Amazon's newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _failed(error: Exception) -> MediaError:
    logger.error("the store of pictures failed", extra={"why": str(error)})
    return MediaError("The store of pictures does not answer now.")
