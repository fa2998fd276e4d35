"""Time to the first sound of the audio service against the same engine that speaks a whole text first, one after the other.

The peer is what most speech servers do: one text after the other, each spoken and encoded whole before its first byte leaves. It is
called in this process, without any connection. The service is measured from outside, through gRPC: until the first sound, and
until the last. The text is of many sentences; only the ratios matter.

    python bench/audio_speaking.py                                   # starter-voice, 40 sentences
    python bench/audio_speaking.py --sentences 5 --concurrency 1
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from serving import running_service
from trenza.audio.v1 import audio_pb2 as pb
from trenza.audio.v1 import audio_pb2_grpc
from trenza.common.v1 import common_pb2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from mesh import STARTER_MODELS

SENTENCE = "Sentence number {} says that there are three blue squares and one green star above the red circle. "
CALL_LIMIT_S = 300.0
Times = dict[int, tuple[float, float]]
"""Mean seconds until the first sound and until the last, by the number of concurrent requests."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=40)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of the service")
    arguments = parser.parse_args()
    text = "".join(SENTENCE.format(number) for number in range(arguments.sentences))
    locked = measure_locked(text, arguments)
    slots = max(arguments.concurrency)
    with running_service("audio", STARTER_MODELS, slots=slots, threads=arguments.threads) as address:
        ours = asyncio.run(measure_service(address, text, arguments))
    print(f"\nstarter-voice, {arguments.sentences} sentences as MP3, median of {arguments.rounds} rounds, seconds")
    print(f"{'concurrent':>10} {'locked':>8} {'first sound':>12} {'last sound':>11} {'locked / first':>15}")
    for concurrent in arguments.concurrency:
        whole, (first, last) = locked[concurrent], ours[concurrent]
        print(f"{concurrent:>10} {whole:>8.3f} {first:>12.3f} {last:>11.3f} {whole / first:>15.1f}", flush=True)


def measure_locked(text: str, arguments: argparse.Namespace) -> dict[int, float]:
    """Mean time until a request has its first byte where texts are spoken whole, one after the other."""
    from trenza_audio.engines.espeak import Espeak
    from trenza_audio.speaking.encoding import encoder_for
    from trenza_audio.speaking.engine import EspeakSpec
    from trenza_audio.speaking.stage import Line

    synthesiser = Espeak(EspeakSpec())
    line = Line(text=text, voice="en-us", language="gmw/en-US", speed=1.0)

    def speak() -> None:
        encoder = encoder_for("mp3", synthesiser.sample_rate_hz)
        samples = np.asarray(synthesiser.speak(line, lambda: False).samples, np.int16)
        encoded = encoder.feed(samples) + encoder.end()
        assert len(encoded) > 1000 * arguments.sentences

    def one_round(concurrent: int) -> float:
        begun = time.perf_counter()
        waited = []
        for _ in range(concurrent):
            speak()
            waited.append(time.perf_counter() - begun)
        return statistics.mean(waited)

    one_round(1)
    return {c: statistics.median(one_round(c) for _ in range(arguments.rounds)) for c in arguments.concurrency}


async def measure_service(address: str, text: str, arguments: argparse.Namespace) -> Times:
    """The service, under concurrent calls."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = audio_pb2_grpc.AudioServiceStub(channel)
        context = common_pb2.RequestContext(model="starter-voice")
        spoken = pb.SpeakRequest(context=context, input=text, language="en", format=pb.AUDIO_FORMAT_MP3)

        async def request() -> tuple[float, float]:
            begun, first = time.perf_counter(), 0.0
            call: Any = stub.Speak(spoken, timeout=CALL_LIMIT_S)
            async for message in call:
                if not first and message.chunk:
                    first = time.perf_counter() - begun
            assert first
            return first, time.perf_counter() - begun

        async def one_round(concurrent: int) -> tuple[float, float]:
            times = await asyncio.gather(*(request() for _ in range(concurrent)))
            return statistics.mean(first for first, _ in times), statistics.mean(last for _, last in times)

        await one_round(1)
        found: Times = {}
        for concurrent in arguments.concurrency:
            firsts, lasts = zip(*[await one_round(concurrent) for _ in range(arguments.rounds)], strict=True)
            found[concurrent] = statistics.median(firsts), statistics.median(lasts)
        return found


if __name__ == "__main__":
    main()
