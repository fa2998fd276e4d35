"""The store that the settings ask for."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from trenza_runtime.lifecycle import StartError

from trenza_gateway.media.folder import FolderStore
from trenza_gateway.media.store import MediaStore
from trenza_gateway.settings import Settings


def media_store(settings: Settings, clock: Callable[[], float]) -> MediaStore:
    """The store, not started. Raises StartError where a setting or a library that it needs is missing."""
    if settings.media_store == "folder":
        folder = settings.media_folder or Path(tempfile.gettempdir()) / f"trenza-media-{os.geteuid()}"
        return FolderStore(folder, settings.media_limit_bytes, settings.media_lifetime_s, clock)
    if importlib.util.find_spec("boto3") is None:
        raise StartError(
            "TRENZA_GATEWAY_MEDIA_STORE=s3 needs boto3: install it with `pip install 'trenza-gateway[s3]'`"
        )
    if not settings.media_s3_bucket:
        raise StartError("TRENZA_GATEWAY_MEDIA_STORE=s3 needs TRENZA_GATEWAY_MEDIA_S3_BUCKET")
    from trenza_gateway.media.s3 import Bucket, S3Store

    bucket = Bucket(settings.media_s3_bucket, settings.media_s3_prefix, settings.media_s3_endpoint)
    return S3Store(bucket, settings.media_lifetime_s, clock)
