"""Uploads as they come: every format, and what is no sound, half a sound, or far too much of it."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import sounds
from faster_whisper.audio import decode_audio
from trenza_audio.engines.whisper_sound import RATE_HZ, Samples, SoundError, SoundFile


def pieces_of(file: SoundFile) -> Iterator[Samples]:
    while (piece := file.read()) is not None:
        yield piece


def read(path: Path, limit_s: float = 100.0) -> Samples:
    """All of a file, in pieces of about a second."""
    file = SoundFile(str(path), limit_s)
    try:
        pieces = list(pieces_of(file))
    finally:
        file.close()
    assert all(len(piece) <= 4 * RATE_HZ for piece in pieces)
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


def can_be_heard(path: Path) -> bool:
    try:
        read(path)
    except SoundError:
        return False
    return True


@pytest.mark.parametrize("kind", sounds.FORMATS)
def test_every_format_is_known_by_its_content(tmp_path: Path, kind: str) -> None:
    path = sounds.write_as(tmp_path / "no ending", sounds.tones(5), kind)
    heard = read(path)
    assert len(heard) / RATE_HZ == pytest.approx(5, abs=0.1)
    assert np.array_equal(heard.astype(np.float32) / 32768, decode_audio(str(path)))
    misnamed = path.rename(tmp_path / "picture.jpeg")
    assert np.array_equal(read(misnamed), heard)


def test_the_length_that_a_file_states_is_told_before_it_is_read(tmp_path: Path) -> None:
    file = SoundFile(str(sounds.write_as(tmp_path / "sound", sounds.tones(5), "mp4")), 100)
    assert file.duration_s == pytest.approx(5, abs=0.1)
    assert file.samples == 0
    file.close()


@pytest.mark.parametrize(("channels", "rate_hz"), [(2, 8000), (6, 48_000), (8, 44_100), (11, 16_000), (1, 192_000)])
def test_any_number_of_channels_becomes_one(tmp_path: Path, channels: int, rate_hz: int) -> None:
    tone = sounds.tones(3)
    path = sounds.write_wav(tmp_path / "many", tone, channels, rate_hz)
    heard = read(path)
    assert len(heard) / RATE_HZ == pytest.approx(3 * RATE_HZ / rate_hz, abs=0.05)
    assert np.abs(heard).max() > 1000


@pytest.mark.parametrize("width", ["u8", "s16", "s32", "flt"])
def test_channels_of_which_nobody_knows_where_they_belong_count_alike(tmp_path: Path, width: str) -> None:
    """Eleven channels without a layout, ten of them silent: a mean, whatever the numbers' type."""
    loud = np.sin(np.arange(RATE_HZ) * 0.2) * 0.9
    columns = np.zeros((RATE_HZ, 11))
    columns[:, 3] = loud
    kinds: dict[str, tuple[int, int, Callable[[np.ndarray], np.ndarray]]] = {
        "u8": (1, 8, lambda x: (x * 127 + 128).astype(np.uint8)),
        "s16": (1, 16, lambda x: (x * 32767).astype("<i2")),
        "s32": (1, 32, lambda x: (x * (2**31 - 1)).astype("<i4")),
        "flt": (3, 32, lambda x: x.astype("<f4")),
    }
    tag, bits, convert = kinds[width]
    data = convert(columns).tobytes()
    block = 11 * bits // 8
    form = struct.pack("<HHIIHH", tag, 11, RATE_HZ, RATE_HZ * block, block, bits)
    path = tmp_path / "eleven"
    path.write_bytes(
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )
    heard = read(path)
    assert len(heard) == RATE_HZ
    assert np.abs(heard).max() == pytest.approx(0.9 / 11 * 32767, rel=0.05)


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("sound.wav", b"RIFF" * 100)
    picture = io.BytesIO()
    with av.open(picture, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    cases = {
        "text": b"This is no sound at all. " * 200,
        "zeros": bytes(100_000),
        "random": random.Random(1).randbytes(200_000),
        "zip": archive.getvalue(),
        "silent film": picture.getvalue(),
        "head of a wav": sounds.write_wav(tmp_path / "x", sounds.tones(1)).read_bytes()[:20],
        "empty": b"",
    }
    for name, content in cases.items():
        path = tmp_path / "upload"
        path.write_bytes(content)
        assert not can_be_heard(path), name


def test_a_playlist_cannot_name_other_files(tmp_path: Path) -> None:
    """FFmpeg follows such lists to any file and address."""
    secret = sounds.write_wav(tmp_path / "secret.wav", sounds.tones(2))
    lists = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{secret}'\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\na=control:file://{secret}\n",
        f'<?xml version="1.0"?><MPD><Period><AdaptationSet mimeType="audio/wav"><Representation id="1"><BaseURL>{secret}'
        "</BaseURL></Representation></AdaptationSet></Period></MPD>",
    )
    for content in lists:
        path = tmp_path / "list"
        path.write_text(content)
        with pytest.raises(SoundError):
            read(path)


@pytest.mark.parametrize("kind", sounds.FORMATS)
def test_half_a_file_gives_half_a_sound_or_a_clear_no(tmp_path: Path, kind: str) -> None:
    path = sounds.write_as(tmp_path / "whole", sounds.tones(6), kind)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    try:
        heard = read(path)
    except SoundError:
        assert kind in ("mp4", "m4a")  # they keep their table of contents at the end
    else:
        assert 1 < len(heard) / RATE_HZ < 5


@pytest.mark.parametrize("kind", ["mp3", "wav", "ogg", "webm", "flac", "mp4"])
def test_damaged_files_do_no_harm(tmp_path: Path, kind: str) -> None:
    content = sounds.write_as(tmp_path / "whole", sounds.tones(4), kind).read_bytes()
    draw = random.Random(kind)
    for _ in range(25):
        damaged = bytearray(content)
        for _ in range(draw.choice([1, 10, 100])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        can_be_heard(path)


def test_a_small_file_that_holds_hours_is_refused_when_the_limit_is_reached(tmp_path: Path) -> None:
    path = sounds.write_as(tmp_path / "bomb", sounds.silence(600), "flac")
    assert os.path.getsize(path) < 1_000_000
    file = SoundFile(str(path), 30)
    with pytest.raises(SoundError, match="longer than 30 seconds"):
        list(pieces_of(file))
    assert file.samples < 40 * RATE_HZ
    file.close()


def test_a_head_that_promises_too_much_is_not_believed(tmp_path: Path) -> None:
    content = bytearray(sounds.write_wav(tmp_path / "x", sounds.tones(2)).read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\x7f"
    path = tmp_path / "promise"
    path.write_bytes(content)
    assert len(read(path)) == 2 * RATE_HZ
    content[24:28] = struct.pack("<I", 2_000_000)
    path.write_bytes(content)
    with pytest.raises(SoundError, match="samples per second"):
        read(path)


def test_no_sound_in_a_proper_file_is_no_mistake(tmp_path: Path) -> None:
    assert len(read(sounds.write_wav(tmp_path / "nothing", sounds.silence(0)))) == 0
    assert len(read(sounds.write_wav(tmp_path / "a moment", sounds.silence(0.002)))) == 32


def test_a_stopped_file_ends(tmp_path: Path) -> None:
    file = SoundFile(str(sounds.write_as(tmp_path / "long", sounds.tones(60), "wav")), 100)
    assert file.read() is not None
    file.stop()
    rest = sum(len(piece) for piece in pieces_of(file))
    assert rest < 10 * RATE_HZ
    file.close()
    with pytest.raises(SoundError):
        SoundFile(str(tmp_path / "gone"), 100)
