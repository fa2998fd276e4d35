"""Models from an S3-compatible bucket. Region, credentials and endpoint come from Amazon's own variables (AWS_…)."""

from __future__ import annotations

import itertools
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from trenza_fetch.core.names import MAX_FILES
from trenza_fetch.failures import ExitCode, FetchFailure, Transient
from trenza_fetch.sources.address import BucketAddress
from trenza_fetch.sources.source import CHUNK_BYTES, Sink, SourceFile

CONNECT_S = 5
READ_S = 60
PAGE_KEYS = 1000
_MAX_PAGES = 2 + MAX_FILES // PAGE_KEYS
_TRY_AGAIN_STATUS = frozenset({408, 425, 429})


class BucketSource:
    """A bucket, below a prefix that counts as a folder, or a single key."""

    def __init__(self, address: BucketAddress) -> None:
        self._address = address
        self._keys: dict[str, str] = {}
        try:
            self._client: Any = boto3.client(
                "s3",
                config=Config(
                    connect_timeout=CONNECT_S,
                    read_timeout=READ_S,
                    retries={"total_max_attempts": 1},  # tried again one level up, where it shows in the log
                    # Other servers of this API do not know Amazon's newer checksums.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise FetchFailure(ExitCode.CONFIGURATION, f"S3 cannot be used: {error}") from error

    def files(self) -> list[SourceFile]:
        """The keys below the prefix; where there are none, the key that is the prefix."""
        prefix = f"{self._address.prefix}/" if self._address.prefix else ""
        found = self._listed(prefix)
        if not found and prefix:
            found = [item for item in self._listed(self._address.prefix) if item["Key"] == self._address.prefix]
            prefix = self._address.prefix.rpartition("/")[0]
            prefix += "/" if prefix else ""
        if not found:
            raise FetchFailure(
                ExitCode.REFUSED, f"there is nothing at s3://{self._address.bucket}/{self._address.prefix}"
            )
        self._keys = {item["Key"].removeprefix(prefix): item["Key"] for item in found}
        return [
            SourceFile(item["Key"].removeprefix(prefix), int(item["Size"]), str(item.get("ETag", ""))) for item in found
        ]

    def fetch(self, file: SourceFile, sink: Sink) -> None:
        """Reads one object, from where it was left; another version of it in between is refused by the server."""
        if sink.written_bytes == file.size_bytes:
            return
        request = {"Bucket": self._address.bucket, "Key": self._keys[file.name]}
        if file.version:
            request["IfMatch"] = file.version
        if sink.written_bytes:
            request["Range"] = f"bytes={sink.written_bytes}-"
        try:
            answer = self._client.get_object(**request)
            status = answer["ResponseMetadata"]["HTTPStatusCode"]
            if sink.written_bytes and status != 206:
                raise FetchFailure(ExitCode.UNREACHABLE, "the bucket's server does not send parts of objects")
            for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                sink.write(chunk)
        except (ClientError, BotoCoreError, OSError) as error:
            raise self._failed(error) from error

    def _listed(self, prefix: str) -> list[dict[str, Any]]:
        """What begins with a prefix, without the empty objects that some tools make for folders."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._address.bucket, Prefix=prefix, PaginationConfig={"PageSize": PAGE_KEYS}
        )
        found: list[dict[str, Any]] = []
        try:
            for page in itertools.islice(pages, _MAX_PAGES):
                found += [item for item in page.get("Contents", ()) if not item["Key"].endswith("/")]
        except (ClientError, BotoCoreError) as error:
            raise self._failed(error) from error
        return found

    def _failed(self, error: Exception) -> FetchFailure:
        bucket = f"the bucket {self._address.bucket}"
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return FetchFailure(ExitCode.REFUSED, f"{bucket} needs credentials: set AWS_ACCESS_KEY_ID and so on")
        if isinstance(error, ClientError):
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
            if 400 <= status < 500 and status not in _TRY_AGAIN_STATUS:
                return FetchFailure(ExitCode.REFUSED, f"{bucket}: {error}")
        return Transient(f"{bucket}: {error}")
