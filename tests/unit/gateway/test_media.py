"""Pictures as links: over HTTP, in a folder, and in a bucket of a real S3 server."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from fleet_fakes import eventually
from images_fakes import FakeImagesReplica, ImagesFleet, error_of, images_fleet, large, picture
from moto.server import ThreadedMotoServer
from trenza_gateway.media.folder import FolderStore
from trenza_gateway.media.opening import media_store
from trenza_gateway.media.s3 import Bucket, S3Store
from trenza_gateway.media.store import Media, MediaError, MediaStore
from trenza_gateway.media.tokens import new_token, read_token
from trenza_gateway.settings import Settings
from trenza_runtime.lifecycle import StartError

BUCKET = "pictures"
LIFETIME_S = 100.0


class Clock:
    """Seconds since the Unix epoch, as a test says."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """An S3 server with one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the server, whose bucket is empty."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"{s3_url}/moto-api/reset")
    client = boto3.client("s3", endpoint_url=s3_url)
    client.create_bucket(Bucket=BUCKET)
    return client


def keys(s3: Any) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def read(media: Media | None) -> bytes | None:
    """The whole content, closed afterwards."""
    if media is None:
        return None
    content = b""
    while chunk := media.content.read(1000):
        content += chunk
    media.content.close()
    assert len(content) == media.size_bytes
    return content


@pytest.fixture(params=["folder", "s3"])
async def stores(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Callable[[], MediaStore]]:
    """Makes stores that share one place, as several gateways or one before and after a restart do."""
    made: list[MediaStore] = []
    url = ""
    if request.param == "s3":
        request.getfixturevalue("s3")
        url = request.getfixturevalue("s3_url")

    def make() -> MediaStore:
        if url:
            made.append(S3Store(Bucket(BUCKET, "some/", url), LIFETIME_S, clock))
        else:
            made.append(FolderStore(tmp_path / "media", 10_000, LIFETIME_S, clock))
        return made[-1]

    yield make
    for store in made:
        await store.close()


class TestBothStores:
    async def test_kept_until_its_time_is_over(self, stores: Callable[[], MediaStore], clock: Clock) -> None:
        store = stores()
        await store.start()
        token = await store.put([b"one ", b"", b"two"], "image/webp")
        media = await store.get(token)
        assert media is not None
        assert (media.media_type, media.size_bytes) == ("image/webp", 7)
        assert media.expires_unix_s == clock.now_s + LIFETIME_S
        assert read(media) == b"one two"
        clock.now_s += LIFETIME_S - 1
        assert await store.sweep() == 0
        assert read(await store.get(token)) == b"one two"
        clock.now_s += 1
        assert await store.get(token) is None
        assert await store.sweep() == 1
        clock.now_s -= LIFETIME_S
        assert await store.get(token) is None, "it is gone, not only refused"

    async def test_another_gateway_and_a_restart(self, stores: Callable[[], MediaStore], clock: Clock) -> None:
        first, second = stores(), stores()
        await first.start()
        token = await first.put([b"one"], "image/png")
        await second.start()
        assert read(await second.get(token)) == b"one"
        clock.now_s += LIFETIME_S
        assert await second.sweep() == 1
        assert await first.sweep() == 0

    async def test_names_that_are_none(self, stores: Callable[[], MediaStore]) -> None:
        store = stores()
        await store.start()
        token = await store.put([b"one"], "image/png")
        for name in (
            "",
            ".",
            "..",
            "../x",
            token[:-1],
            f"{token}.part",
            f"../media/{token}",
            token.upper(),
            "x" * 5000,
        ):
            assert await store.get(name) is None
        other = new_token(read_token(token).expires_unix_s, "image/png").text  # type: ignore[union-attr]
        assert await store.get(other) is None

    async def test_many_at_once(self, stores: Callable[[], MediaStore], clock: Clock) -> None:
        store = stores()
        await store.start()
        contents = [bytes([number]) * 50 for number in range(40)]
        tokens = await asyncio.gather(*(store.put([content], "image/jpeg") for content in contents))
        assert len(set(tokens)) == 40
        assert [read(await store.get(token)) for token in tokens] == contents
        clock.now_s += LIFETIME_S
        assert await store.sweep() == 40


class TestTokens:
    def test_unguessable_and_sorted_by_expiry(self) -> None:
        tokens = {new_token(1_800_000_000.2, "image/png").text for _ in range(1000)}
        assert len(tokens) == 1000
        assert {len(token) for token in tokens} == {10 + 1 + 32 + 4}
        early, late = new_token(1_800_000_000, "image/png"), new_token(2**32 + 5, "image/webp")
        assert early.text < late.text
        assert read_token(late.text) == late

    @pytest.mark.parametrize("suffix", [".gif", "", ".png\n", ".png/..", "٣.png"])
    def test_no_others(self, suffix: str) -> None:
        assert read_token(new_token(5, "image/png").text.removesuffix(".png") + suffix) is None


class TestFolder:
    @pytest.fixture
    async def folder(self, tmp_path: Path, clock: Clock) -> FolderStore:
        store = FolderStore(tmp_path / "new" / "media", 1000, LIFETIME_S, clock)
        await store.start()
        return store

    async def test_private_files(self, folder: FolderStore, tmp_path: Path) -> None:
        token = await folder.put([b"x"], "image/png")
        path = tmp_path / "new" / "media"
        assert os.listdir(path) == [token]
        assert path.stat().st_mode & 0o777 == 0o700
        assert (path / token).stat().st_mode & 0o777 == 0o600

    async def test_full_until_something_expires(self, folder: FolderStore, clock: Clock) -> None:
        await folder.put([b"x" * 600], "image/png")
        clock.now_s += 1
        await folder.put([b"x" * 400], "image/png")
        for _ in range(2):
            with pytest.raises(MediaError, match="no room"):
                await folder.put([b"x"], "image/png")
        clock.now_s += LIFETIME_S - 1
        await folder.put([b"x" * 600], "image/png")
        with pytest.raises(MediaError):
            await folder.put([b"x"], "image/png")

    async def test_what_was_there_before_counts(self, folder: FolderStore, tmp_path: Path, clock: Clock) -> None:
        await folder.put([b"x" * 900], "image/png")
        again = FolderStore(tmp_path / "new" / "media", 1000, LIFETIME_S, clock)
        await again.start()
        with pytest.raises(MediaError):
            await again.put([b"x" * 200], "image/png")

    async def test_the_limit_holds_at_once(self, folder: FolderStore, tmp_path: Path) -> None:
        found = await asyncio.gather(*(folder.put([b"x" * 300], "image/png") for _ in range(8)), return_exceptions=True)
        assert len([token for token in found if isinstance(token, str)]) == 3
        assert sum(path.stat().st_size for path in (tmp_path / "new" / "media").iterdir()) == 900

    async def test_only_its_own_files_and_what_a_crash_left(
        self, folder: FolderStore, tmp_path: Path, clock: Clock
    ) -> None:
        path = tmp_path / "new" / "media"
        (path / "notes.txt").write_text("mine")
        left = new_token(clock.now_s + 5, "image/png").text + ".part"
        (path / left).write_bytes(b"half")
        assert await folder.sweep() == 0
        clock.now_s += 5
        assert await folder.sweep() == 1
        assert os.listdir(path) == ["notes.txt"]

    async def test_a_disk_that_fails(
        self, folder: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_path: Path, _target: Path) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", full)
            with pytest.raises(MediaError, match="cannot be kept"):
                await folder.put([b"x" * 1000], "image/png")
        assert os.listdir(tmp_path / "new" / "media") == []
        await folder.put([b"x" * 1000], "image/png")

    async def test_a_folder_that_cannot_be_used(self, tmp_path: Path, clock: Clock) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(StartError, match="TRENZA_GATEWAY_MEDIA_FOLDER"):
            await FolderStore(tmp_path / "file", 1000, LIFETIME_S, clock).start()


class TestS3:
    async def test_keys_and_types(self, s3: Any, s3_url: str, clock: Clock) -> None:
        store = S3Store(Bucket(BUCKET, "some/", s3_url), LIFETIME_S, clock)
        await store.start()
        token = await store.put([b"x"], "image/webp")
        assert keys(s3) == [f"some/{token}"]
        assert s3.head_object(Bucket=BUCKET, Key=f"some/{token}")["ContentType"] == "image/webp"
        await store.close()

    async def test_other_objects_are_left_alone(self, s3: Any, s3_url: str, clock: Clock) -> None:
        for key in ("some/00-first", "some/zz", "other/x"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        store = S3Store(Bucket(BUCKET, "some/", s3_url), LIFETIME_S, clock)
        await store.start()
        await store.put([b"x"], "image/png")
        clock.now_s += LIFETIME_S
        assert await store.sweep() == 1
        assert keys(s3) == ["other/x", "some/00-first", "some/zz"]
        await store.close()

    async def test_more_than_a_page(self, s3: Any, s3_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trenza_gateway.media.s3.PAGE_KEYS", 3)
        store = S3Store(Bucket(BUCKET, "", s3_url), LIFETIME_S, clock)
        await store.start()
        for _ in range(8):
            await store.put([b"x"], "image/png")
        clock.now_s += LIFETIME_S
        kept = await store.put([b"x"], "image/png")
        assert await store.sweep() == 8
        assert keys(s3) == [kept]
        await store.close()

    async def test_a_bucket_that_is_not_there(self, s3: Any, s3_url: str, clock: Clock) -> None:
        store = S3Store(Bucket("no-such-bucket", "", s3_url), LIFETIME_S, clock)
        with pytest.raises(StartError, match="TRENZA_GATEWAY_MEDIA_S3_BUCKET"):
            await store.start()
        await store.close()

    async def test_a_server_that_does_not_answer(self, s3: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trenza_gateway.media.s3.ATTEMPTS", 1)
        store = S3Store(Bucket(BUCKET, "", "http://127.0.0.1:1"), LIFETIME_S, clock)
        await store.start()
        for asked in (
            store.put([b"x"], "image/png"),
            store.get(new_token(clock.now_s + 5, "image/png").text),
            store.sweep(),
        ):
            with pytest.raises(MediaError, match="does not answer"):
                await asked
        await store.close()

    async def test_an_endpoint_that_is_no_url(self, s3: Any, clock: Clock) -> None:
        store = S3Store(Bucket(BUCKET, "", "nonsense"), LIFETIME_S, clock)
        with pytest.raises(StartError, match="TRENZA_GATEWAY_MEDIA_S3_ENDPOINT"):
            await store.start()
        await store.close()

    def test_what_is_missing_is_said(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        with pytest.raises(StartError, match="TRENZA_GATEWAY_MEDIA_S3_BUCKET"):
            media_store(Settings(media_store="s3"), clock)
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(StartError, match=r"pip install 'trenza-gateway\[s3\]'"):
            media_store(Settings(media_store="s3", media_s3_bucket=BUCKET), clock)


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[ImagesFleet]:
    async with images_fleet(media_folder=tmp_path / "media") as running:
        yield running


class TestLinks:
    async def test_generations(self, images: ImagesFleet, tmp_path: Path) -> None:
        response = await images.generate(response_format="url", n=2, seed=3, output_format="jpeg")
        data = response.json()["data"]
        assert [set(item) for item in data] == [{"url", "seed"}] * 2
        assert [item["seed"] for item in data] == [3, 4]
        for index, item in enumerate(data):
            assert item["url"].startswith(f"{images.http_url}/media/")
            found = await images.client.get(item["url"])
            assert found.status_code == 200
            assert found.content == picture(index)
            assert found.headers["content-type"] == "image/jpeg"
            assert found.headers["x-content-type-options"] == "nosniff"
            assert found.headers["x-request-id"]
            said, age_s = found.headers["cache-control"].split("max-age=")
            assert said == "private, "
            assert 3500 <= int(age_s.removesuffix(", immutable")) <= 3601
        assert len(os.listdir(tmp_path / "media")) == 2

    async def test_edits_and_variations(self, images: ImagesFleet) -> None:
        for response in (await images.edit(response_format="url"), await images.vary(response_format="url")):
            found = await images.client.get(response.json()["data"][0]["url"])
            assert found.content == picture()

    async def test_heads_and_other_methods(self, images: ImagesFleet) -> None:
        url = (await images.generate(response_format="url")).json()["data"][0]["url"]
        head = await images.client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(picture()))
        assert head.headers["content-type"] == "image/png"
        assert (await images.client.delete(url)).status_code == 405
        assert (await images.client.head(f"{url}x")).status_code == 404

    async def test_large_pictures(self, images: ImagesFleet) -> None:
        images.replicas[0].script = large(3_000_000)
        url = (await images.generate(response_format="url")).json()["data"][0]["url"]
        assert (await images.client.get(url)).content == picture(size_bytes=3_000_000)
        async with images.client.stream("GET", url) as response:
            assert response.status_code == 200
        assert (await images.client.get(url)).status_code == 200

    @pytest.mark.parametrize(
        "path", ["", "x", "..%2fx", "..%2F..%2Fetc%2Fpasswd", "%2e%2e/secret", "a/b", "%00", "x" * 3000]
    )
    async def test_no_way_out_of_the_folder(self, images: ImagesFleet, tmp_path: Path, path: str) -> None:
        (tmp_path / "x").write_text("private words")
        response = await images.client.get(f"/media/{path}")
        assert response.status_code == 404
        assert "private words" not in response.text

    async def test_no_key_is_needed(self, tmp_path: Path) -> None:
        key_file = tmp_path / "keys"
        key_file.write_text(f"me:{sha256(b'tz-secret').hexdigest()}\n")
        async with images_fleet(media_folder=tmp_path / "media", api_keys_file=key_file) as images:
            images.client.headers["authorization"] = "Bearer tz-secret"
            url = (await images.generate(response_format="url")).json()["data"][0]["url"]
            del images.client.headers["authorization"]
            assert (await images.client.get(url)).status_code == 200
            assert (await images.client.get(f"{images.http_url}/v1/models")).status_code == 401

    async def test_they_expire_and_are_deleted(self, tmp_path: Path) -> None:
        async with images_fleet(media_folder=tmp_path / "media", media_lifetime_s=1) as images:
            url = (await images.generate(response_format="url")).json()["data"][0]["url"]
            assert (await images.client.get(url)).status_code == 200

            async def gone() -> bool:
                return (await images.client.get(url)).status_code == 404

            await eventually(gone)
            await eventually(lambda: os.listdir(tmp_path / "media") == [])

    async def test_a_store_that_is_full(self, tmp_path: Path) -> None:
        async with images_fleet(media_folder=tmp_path / "media", media_limit_bytes=2500) as images:
            response = await images.generate(response_format="url", n=3)
            assert error_of(response, 503) == (None, "media_unavailable")
            assert "b64_json" in response.json()["error"]["message"]
            assert response.headers["retry-after"]
            assert (await images.generate()).status_code == 200

    async def test_where_they_lead(self, tmp_path: Path) -> None:
        forwarded = {"x-forwarded-host": "pictures.example:8443, inner", "x-forwarded-proto": "https"}

        async def origin(images: ImagesFleet, headers: dict[str, str]) -> str:
            body = {"prompt": "x", "response_format": "url"}
            response = await images.client.post("/v1/images/generations", json=body, headers=headers)
            return str(response.json()["data"][0]["url"].partition("/media/")[0])

        async with images_fleet(media_folder=tmp_path) as images:
            assert await origin(images, {}) == images.http_url
            assert await origin(images, {"host": "pictures.example"}) == "http://pictures.example"
            assert await origin(images, {"host": 'evil"><x'}) == images.http_url
            assert await origin(images, forwarded) == images.http_url
        async with images_fleet(media_folder=tmp_path, media_trust_forwarded=True) as images:
            assert await origin(images, forwarded) == "https://pictures.example:8443"
            assert await origin(images, {"x-forwarded-proto": "javascript"}) == images.http_url
        async with images_fleet(media_folder=tmp_path, media_public_url="https://cdn.example/p/") as images:
            assert await origin(images, forwarded) == "https://cdn.example/p"

    async def test_two_gateways_with_one_bucket(self, s3: Any, s3_url: str) -> None:
        settings = {
            "media_store": "s3",
            "media_s3_bucket": BUCKET,
            "media_s3_endpoint": s3_url,
            "media_lifetime_s": 2,
        }
        async with (
            images_fleet(FakeImagesReplica("images-0", large(2_000_000)), **settings) as one,
            images_fleet(**settings) as other,
        ):
            url = (await one.generate(response_format="url")).json()["data"][0]["url"]
            path = url.removeprefix(one.http_url)
            assert keys(s3) == [path.replace("/media/", "trenza/")]
            found = await other.client.get(path)
            assert found.status_code == 200
            assert found.content == picture(size_bytes=2_000_000)
            assert found.headers["content-type"] == "image/png"

            async def gone() -> bool:
                return (await other.client.get(path)).status_code == 404 and not keys(s3)

            await eventually(gone, 15)

    async def test_they_have_one_name_in_the_metrics(self, images: ImagesFleet) -> None:
        await images.client.get("/media/secret-name")
        text = (await images.client.get("/metrics")).text
        assert 'route="/media/{token}"' in text
        assert "secret-name" not in text

    async def test_carried_and_linked_are_the_same(self, images: ImagesFleet) -> None:
        carried = (await images.generate()).json()
        linked = (await images.generate(response_format="url")).json()
        content = (await images.client.get(linked["data"][0]["url"])).content
        assert b64decode(carried["data"][0]["b64_json"]) == content
        assert {**carried, "data": None, "created": None} == {**linked, "data": None, "created": None}
