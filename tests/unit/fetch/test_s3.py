"""Models from a bucket, on moto's server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from fetch_runs import Fetching, sha256
from moto.server import ThreadedMotoServer
from trenza_fetch.failures import ExitCode, FetchFailure
from trenza_fetch.sources.address import BucketAddress
from trenza_fetch.sources.s3 import BucketSource
from trenza_fetch.sources.source import Sink

BUCKET = "models"
WEIGHTS = b"weights" * 400_000
MANIFEST = b'name = "tiny"\nmodality = "chat"\n[files]\nmodel = "weights/tiny.gguf"\n'


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, fetching: Fetching) -> Any:
    """A bucket with a model; the program and this process have what it takes to read it."""
    access = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": server,
    }
    for name, value in access.items():
        monkeypatch.setenv(name, value)
    fetching.environment = access
    httpx.post(f"{server}/moto-api/reset")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for name, content in {"model.toml": MANIFEST, "weights/tiny.gguf": WEIGHTS, "weights/": b""}.items():
        client.put_object(Bucket=BUCKET, Key=f"llm/tiny/{name}", Body=content)
    client.put_object(Bucket=BUCKET, Key="llm/tiny2/other", Body=b"other")
    return client


def tiny(source: str = f"s3://{BUCKET}/llm/tiny", **more: Any) -> dict[str, Any]:
    return {"name": "tiny", "modality": "chat", "source": source, **more}


def test_a_prefix_becomes_a_model(fetching: Fetching, bucket: Any) -> None:
    run = fetching.run(tiny(sha256={"weights/tiny.gguf": sha256(WEIGHTS)}))
    assert run.process.returncode == ExitCode.DONE, run.events
    assert fetching.visible() == {"tiny/model.toml": MANIFEST, "tiny/weights/tiny.gguf": WEIGHTS}


def test_a_single_key(fetching: Fetching, bucket: Any) -> None:
    manifest = 'name = "tiny"\nmodality = "chat"\n[files]\nmodel = "tiny.gguf"\n'
    run = fetching.run(tiny(f"s3://{BUCKET}/llm/tiny/weights/tiny.gguf", manifest=manifest))
    assert run.process.returncode == ExitCode.DONE, run.events
    assert sorted(fetching.visible()) == ["tiny/model.toml", "tiny/tiny.gguf"]


def test_more_keys_than_one_page(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trenza_fetch.sources.s3.PAGE_KEYS", 3)
    for number in range(10):
        bucket.put_object(Bucket=BUCKET, Key=f"many/{number}", Body=b"x")
    names = [file.name for file in BucketSource(BucketAddress(BUCKET, "many")).files()]
    assert names == [str(number) for number in range(10)]


def test_a_wrong_checksum(fetching: Fetching, bucket: Any) -> None:
    run = fetching.run(tiny(sha256={"weights/tiny.gguf": sha256(b"other")}))
    assert run.process.returncode == ExitCode.CHECKSUM
    assert fetching.visible() == {}


def test_hostile_keys(fetching: Fetching, bucket: Any) -> None:
    bucket.put_object(Bucket=BUCKET, Key="llm/tiny/../../../evil", Body=b"evil")
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.REFUSED
    assert "'../../../evil', which would lie outside the model's folder" in run.why
    assert fetching.visible() == {}


@pytest.mark.parametrize("source", [f"s3://{BUCKET}/absent", "s3://absent-bucket/tiny"])
def test_what_is_not_there(fetching: Fetching, bucket: Any, source: str) -> None:
    run = fetching.run(tiny(source))
    assert run.process.returncode == ExitCode.REFUSED
    assert not run.said("trying again")


def test_without_credentials(fetching: Fetching, bucket: Any) -> None:
    del fetching.environment["AWS_ACCESS_KEY_ID"], fetching.environment["AWS_SECRET_ACCESS_KEY"]
    fetching.environment |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(fetching.folder)}
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.REFUSED
    assert run.why == "the bucket models needs credentials: set AWS_ACCESS_KEY_ID and so on"


def test_a_server_that_is_not_there(fetching: Fetching, bucket: Any) -> None:
    fetching.environment["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:9"
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.UNREACHABLE
    assert sum(event["event"] == "trying again" for event in run.events) == 2


def test_an_object_is_gone_on_with_and_not_mixed_with_another_version(fetching: Fetching, bucket: Any) -> None:
    source = BucketSource(BucketAddress(BUCKET, "llm/tiny"))
    (file,) = (file for file in source.files() if file.name == "weights/tiny.gguf")
    sink = Sink(fetching.folder / "tiny.gguf", file.name, file.size_bytes, lambda: False)
    sink.write(WEIGHTS[:1_000_000])
    source.fetch(file, sink)
    assert sink.sha256 == sha256(WEIGHTS)
    sink.close()
    assert sink.path.read_bytes() == WEIGHTS

    sink = Sink(fetching.folder / "tiny.gguf", file.name, file.size_bytes, lambda: False)
    sink.write(WEIGHTS[:1_000_000])
    bucket.put_object(Bucket=BUCKET, Key="llm/tiny/weights/tiny.gguf", Body=WEIGHTS[::-1])
    with pytest.raises(FetchFailure) as failure:
        source.fetch(file, sink)
    assert failure.value.code == ExitCode.REFUSED
    sink.discard()
