"""Seconds of sound per second of the audio service against faster-whisper behind a lock: same model, same run, side by side.

The peer is what most Whisper servers do: one model, one request after the other. It is given its best case: it is called in this
process, without any connection, always from the same thread. The service is measured from outside, through gRPC, uploads
included. Only the ratios matter. The weights are random (speed does not depend on what they say), the shape is a real
Whisper's, and every recording gives a text of `--tokens` tokens.

    python bench/audio_hearing.py --shape small                              # or tiny, base
    python bench/audio_hearing.py --model /path/to/folder                    # any Whisper in CTranslate2's format
    python bench/audio_hearing.py --speaches http://127.0.0.1:8000 --speaches-model NAME
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from serving import one_model, running_service
from trenza.audio.v1 import audio_pb2 as pb
from trenza.audio.v1 import audio_pb2_grpc
from trenza.common.v1 import common_pb2

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "unit" / "audio"))


SHAPES = {
    "tiny": {"width": 384, "layers": 4, "heads": 6},
    "base": {"width": 512, "layers": 6, "heads": 8},
    "small": {"width": 768, "layers": 12, "heads": 12},
}
VOCABULARY = 51_865
CHUNK_BYTES = 2**20
CALL_LIMIT_S = 1800.0
Request = Callable[[Path], Awaitable[None]]
Speeds = dict[int, float]
"""Seconds of sound per second, by the number of concurrent requests."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small", help="the size of the random model")
    parser.add_argument("--model", type=Path, help="a model's folder in place of the random one")
    parser.add_argument("--seconds", type=float, default=28.0, help="length of each recording")
    parser.add_argument("--tokens", type=int, default=80, help="tokens that the random model writes about each")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="windows in one step of the service")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of either side")
    parser.add_argument("--speaches", metavar="URL", help="an OpenAI-compatible server to measure beside")
    parser.add_argument("--speaches-model", default="", metavar="NAME", help="what that server calls the same model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model.resolve() if arguments.model else random_model(folder, arguments)
        compare(folder, model, arguments)


def random_model(folder: Path, arguments: argparse.Namespace) -> Path:
    """A model of a real Whisper's shape whose texts end after so many tokens."""
    from tiny_whisper import write_model

    stop_at = 3 + arguments.tokens  # behind start, language and task
    kind: Any = {"vocabulary": VOCABULARY, "stop_at": stop_at, "quantization": "float16", **SHAPES[arguments.shape]}
    return write_model(folder / "random", **kind)


def compare(folder: Path, model: Path, arguments: argparse.Namespace) -> None:
    """Measures all sides with one model and prints a table."""
    recordings = spoken_recordings(folder, max(arguments.concurrency), arguments.seconds)
    root = one_model(folder / "models", "audio", "whisper", {"model": model})
    shape = {"slots": max(arguments.concurrency), "batch": arguments.batch, "threads": arguments.threads}
    with running_service("audio", root, **shape) as address:
        columns = asyncio.run(measure(model, address, recordings, arguments))
    kind = "" if arguments.model else f"{arguments.shape}, random, "
    print(
        f"\n{kind}recordings of {arguments.seconds:g} s, median of {arguments.rounds} rounds, {arguments.threads} threads"
    )
    print("seconds of sound per second, and the service's over each other's")
    peers = [name for name in columns if name != "service"]
    print(
        f"{'concurrent':>10}" + "".join(f"{name:>10}" for name in columns) + "".join(f"{'/ ' + n:>11}" for n in peers)
    )
    for concurrent in arguments.concurrency:
        speeds = "".join(f"{column[concurrent]:>10.1f}" for column in columns.values())
        ratios = "".join(f"{columns['service'][concurrent] / columns[peer][concurrent]:>11.2f}" for peer in peers)
        print(f"{concurrent:>10}{speeds}{ratios}", flush=True)


async def measure(
    model: Path, address: str, recordings: list[Path], arguments: argparse.Namespace
) -> dict[str, Speeds]:
    """The speeds of every side. They take turns within each round, so that a machine that slows down slows all of them."""
    async with contextlib.AsyncExitStack() as stack:
        sides: dict[str, Request] = {"locked": stack.enter_context(locked(model, arguments.threads))}
        sides["service"] = await stack.enter_async_context(service(address))
        if arguments.speaches:
            sides["speaches"] = await stack.enter_async_context(speaches(arguments))
        for request in sides.values():
            await request(recordings[0])
        rounds: dict[tuple[str, int], list[float]] = collections.defaultdict(list)
        for concurrent in arguments.concurrency:
            for _ in range(arguments.rounds):
                for name, request in sides.items():
                    begun = time.perf_counter()
                    await asyncio.gather(*(request(recording) for recording in recordings[:concurrent]))
                    speed = arguments.seconds * concurrent / (time.perf_counter() - begun)
                    rounds[name, concurrent].append(speed)
        return {name: {c: statistics.median(rounds[name, c]) for c in arguments.concurrency} for name in sides}


def spoken_recordings(folder: Path, count: int, length_s: float) -> list[Path]:
    """Files in which somebody counts, each from another number on; servers that look for speech first find it everywhere."""
    import sounds
    from trenza_audio.engines.espeak import Espeak
    from trenza_audio.speaking.engine import EspeakSpec
    from trenza_audio.speaking.stage import Line

    synthesiser = Espeak(EspeakSpec())
    wanted = round(length_s * sounds.RATE_HZ)
    recordings = []
    for number in range(count):
        text = ", ".join(str(n) for n in range(100 * number, 100 * number + int(length_s * 3)))
        spoken = synthesiser.speak(Line(text, "en-us", "gmw/en-US"), lambda: False).samples
        places = np.arange(wanted) * (synthesiser.sample_rate_hz / sounds.RATE_HZ)
        samples = np.interp(places, np.arange(len(spoken)), spoken).astype(np.int16)
        recordings.append(sounds.write_wav(folder / f"recording-{number}.wav", samples))
    return recordings


@contextlib.contextmanager
def locked(model: Path, threads: int) -> Iterator[Request]:
    """Plain faster-whisper in one thread, for which the requests stand in line."""
    import ctranslate2
    from faster_whisper import WhisperModel

    gpu = ctranslate2.get_cuda_device_count() > 0
    device, kind = ("cuda", "float16") if gpu else ("cpu", "int8")
    whisper = WhisperModel(str(model), device=device, compute_type=kind, cpu_threads=threads)

    def transcribe(recording: Path) -> None:
        segments, _ = whisper.transcribe(str(recording), language="en", temperature=0.0)
        assert list(segments)

    with ThreadPoolExecutor(1) as thread:

        async def request(recording: Path) -> None:
            await asyncio.get_running_loop().run_in_executor(thread, transcribe, recording)

        yield request


@contextlib.asynccontextmanager
async def service(address: str) -> AsyncIterator[Request]:
    """The service, through gRPC."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = audio_pb2_grpc.AudioServiceStub(channel)
        context = common_pb2.RequestContext(model="bench")
        config = pb.TranscriptionConfig(context=context, language="en", temperature=0.0)

        async def request(recording: Path) -> None:
            sound = await asyncio.to_thread(recording.read_bytes)
            chunks = (sound[at : at + CHUNK_BYTES] for at in range(0, len(sound), CHUNK_BYTES))
            messages = [pb.TranscribeRequest(config=config), *(pb.TranscribeRequest(chunk=chunk) for chunk in chunks)]
            call: Any = stub.Transcribe(iter(messages), timeout=CALL_LIMIT_S)
            kinds = [response.WhichOneof("event") async for response in call]
            assert kinds[-1] == "summary"
            assert "segment" in kinds

        yield request


@contextlib.asynccontextmanager
async def speaches(arguments: argparse.Namespace) -> AsyncIterator[Request]:
    """Another server with OpenAI's API."""
    async with httpx.AsyncClient(base_url=arguments.speaches, timeout=CALL_LIMIT_S) as client:
        form = {"model": arguments.speaches_model, "language": "en", "temperature": "0", "response_format": "json"}

        async def request(recording: Path) -> None:
            files = {"file": (recording.name, await asyncio.to_thread(recording.read_bytes), "audio/wav")}
            answer = await client.post("/v1/audio/transcriptions", data=form, files=files)
            answer.raise_for_status()

        yield request


if __name__ == "__main__":
    main()
