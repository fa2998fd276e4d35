"""Pictures per minute of the images service against the same pipeline behind a lock: same model, one after the other in one run.

The peer is what a web service around diffusers usually is: one pipeline, one picture after the other. It is given its best case: it
is called in this process, without any connection, always from the same thread, and encodes its pictures as the service does. The
service is measured from outside, through gRPC. Only the ratios matter; they depend on how much of the device one picture fills.

    python bench/images_concurrency.py                             # starter-draw
    python bench/images_concurrency.py --model /path/to/folder     # any other pipeline's folder
    python bench/images_concurrency.py --random 256 --steps 4      # random weights, pictures of 256 pixels
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from serving import one_model, running_service
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2 as pb
from trenza.images.v1 import images_pb2_grpc

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))


CONCURRENCY = (1, 4, 8)
PROMPT = "a red circle above a blue square"
CALL_LIMIT_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = REPOSITORY / "models" / "starter" / "starter-draw" / "pipeline"
    parser.add_argument("--model", type=Path, default=usual, help="a diffusers pipeline's folder")
    parser.add_argument("--random", type=int, metavar="SIDE", help="a pipeline of random weights in place of a model")
    parser.add_argument("--size", type=int, help="side of the pictures in pixels; the model's own by default")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=0.0)
    parser.add_argument("--pictures", type=int, default=32, help="pictures in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of either side")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = random_model(folder / "random", arguments.random) if arguments.random else arguments.model.resolve()
        compare(folder, model, arguments)


def random_model(folder: Path, side: int) -> Path:
    """A pipeline of the SDXL class with some 60 million random weights."""
    from unit.images.tiny_pipelines import write_sdxl

    return write_sdxl(folder, side, widths=(64, 128, 256), layers=2)


def compare(folder: Path, model: Path, arguments: argparse.Namespace) -> None:
    """Measures both sides with one model and prints a table."""
    locked = measure_locked(model, arguments)
    root = one_model(folder / "models", "images", "diffusers", {"pipeline": model})
    with running_service("images", root, slots=max(CONCURRENCY), threads=arguments.threads) as address:
        ours = asyncio.run(measure_service(address, arguments))
    print(f"\n{model.name}, {arguments.steps} steps, median of {arguments.rounds} rounds, {arguments.threads} threads")
    print(f"{'concurrent':>10} {'locked, /min':>13} {'service, /min':>14} {'ratio':>6}")
    for concurrent in CONCURRENCY:
        ratio = ours[concurrent] / locked[concurrent]
        print(f"{concurrent:>10} {locked[concurrent]:>13.1f} {ours[concurrent]:>14.1f} {ratio:>6.2f}", flush=True)


def measure_locked(model: Path, arguments: argparse.Namespace) -> dict[int, float]:
    """Pictures per minute of one pipeline, by the number of requests that stand in line for it."""
    import torch
    from diffusers import DiffusionPipeline

    torch.set_num_threads(arguments.threads)
    gpu = torch.cuda.is_available()
    loader: Any = DiffusionPipeline
    pipe = loader.from_pretrained(model, dtype=torch.float16 if gpu else torch.float32)
    pipe.to("cuda" if gpu else "cpu")
    pipe.set_progress_bar_config(disable=True)
    size = {"width": arguments.size, "height": arguments.size} if arguments.size else {}

    def request(number: int) -> None:
        image = pipe(
            PROMPT,
            num_inference_steps=arguments.steps,
            guidance_scale=arguments.guidance,
            generator=torch.Generator("cpu").manual_seed(number),
            **size,
        ).images[0]
        image.save(io.BytesIO(), "PNG")

    def one_round() -> float:
        begun = time.perf_counter()
        for number in range(arguments.pictures):
            request(number)
        return 60 * arguments.pictures / (time.perf_counter() - begun)

    request(0)
    return {c: statistics.median(one_round() for _ in range(arguments.rounds)) for c in CONCURRENCY}


async def measure_service(address: str, arguments: argparse.Namespace) -> dict[int, float]:
    """Pictures per minute of the service, by the number of concurrent calls."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = images_pb2_grpc.ImagesServiceStub(channel)

        async def request(number: int) -> None:
            options = pb.DrawingOptions(
                steps=arguments.steps,
                guidance_scale=arguments.guidance,
                seed=number,
                width=arguments.size or 0,
                height=arguments.size or 0,
            )
            context = common_pb2.RequestContext(model="bench")
            call: Any = stub.Generate(
                pb.GenerateRequest(context=context, prompt=PROMPT, options=options), timeout=CALL_LIMIT_S
            )
            kinds = [response.event.WhichOneof("event") async for response in call]
            assert kinds[-1] == "summary"

        async def one_round(concurrent: int) -> float:
            begun = time.perf_counter()
            waiting = iter(range(arguments.pictures))

            async def one_after_the_other() -> None:
                for number in waiting:
                    await request(number)

            await asyncio.gather(*(one_after_the_other() for _ in range(concurrent)))
            return 60 * arguments.pictures / (time.perf_counter() - begun)

        await request(0)
        return {c: statistics.median([await one_round(c) for _ in range(arguments.rounds)]) for c in CONCURRENCY}


if __name__ == "__main__":
    main()
