"""A server of packed networks for hours: equal answers, flat memory, and how many requests a second.

Threads answer requests of random batch sizes by one packed CNN and one packed transformer block, both with binary
weights and inputs, while every few seconds one of the two is saved to a new file, loaded from it and put in the place
of the one that serves. Each answer is compared to the bit with what was answered when nothing else ran. A line of JSON
is written at each interval: seconds, requests, wrong answers, loads, and the bytes that the process holds. Memory is
flat where the median of the last tenth of the lines after the warm-up is within 1 % of that of the first. Linux only.

Run: python benchmarks/soak.py [--minutes 120] [--threads 4] [--log soak.jsonl]
"""

import argparse
import gc
import itertools
import json
import random
import signal
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TextIO

import torch
from torch import Tensor, nn

import proxconnect as pc

REQUESTS, MOST_IMAGES, PAGE = 24, 6, 4096
FLAT = 0.01


class Block(nn.Module):
    """A convolution with its norm and a shortcut around both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.act(self.norm(self.conv(image)) + image)
        return answer


def cnn() -> nn.Module:
    """A small residual network for images of 32 × 32."""
    stem = nn.Conv2d(3, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64)
    return nn.Sequential(*stem, Block(64), Block(64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def transformer() -> nn.Module:
    """A block of a transformer for 50 tokens."""
    return nn.TransformerEncoderLayer(64, 4, 256, batch_first=True, norm_first=True, activation="gelu")


@dataclass
class Served:
    """A network that answers, and what it answers when nothing else runs."""

    build: Callable[[], nn.Module]
    model: nn.Module
    requests: list[Tensor]
    answers: list[Tensor]

    @classmethod
    def made(cls, build: Callable[[], nn.Module], shape: tuple[int, ...], draw: random.Random) -> "Served":
        """A network as if it were trained, and its requests."""
        binary = pc.binarize(build(), weights="bnn++", activations="poly").eval().requires_grad_(False)
        model = pc.pack(binary)
        requests = [torch.randn(draw.randint(1, MOST_IMAGES), *shape) for _ in range(REQUESTS)]
        with torch.inference_mode():
            return cls(build, model, requests, [model(request) for request in requests])

    def replace(self, folder: Path, number: int) -> None:
        """Go on with the same network, saved and loaded again."""
        path = folder / f"{number}.safetensors"
        pc.save(self.model, path)
        with torch.device("meta"):
            architecture = self.build().eval()
        self.model = pc.load(path, architecture)
        path.unlink()


@dataclass
class Counts:
    """What one thread has done so far: requests, or loads of files."""

    done: int = 0
    wrong: int = 0
    errors: list[str] = field(default_factory=list)


def work(served: list[Served], counts: Counts, seed: int, stop: threading.Event) -> None:
    """Answer requests until it is time to stop."""
    draw = random.Random(seed)
    try:
        with torch.inference_mode():
            while not stop.is_set():
                one, number = draw.choice(served), draw.randrange(REQUESTS)
                counts.wrong += not torch.equal(one.model(one.requests[number]), one.answers[number])
                counts.done += 1
    except Exception as error:
        counts.errors.append(repr(error))
        stop.set()


def resident() -> int:
    """The bytes of memory that this process holds."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def reload(served: list[Served], folder: Path, every: float, counts: Counts, stop: threading.Event) -> None:
    """Load one network after the other from a new file, now and then."""
    try:
        for number in itertools.count():
            if stop.wait(every):
                return
            served[number % len(served)].replace(folder, number)
            counts.done += 1
    except Exception as error:
        counts.errors.append(repr(error))
        stop.set()


@dataclass(frozen=True)
class Line:
    """The state of the server at one time."""

    seconds: float
    requests: int
    wrong: int
    loads: int
    resident: int


def growth(lines: list[Line], warm_up: float) -> float | None:
    """By which share memory grew from the first tenth of the lines after the warm-up to the last; None for too few."""
    held = [line.resident for line in lines if line.seconds >= warm_up]
    tenth = len(held) // 10
    return statistics.median(held[-tenth:]) / statistics.median(held[:tenth]) - 1 if tenth else None


def serve(arguments: argparse.Namespace, log: TextIO) -> tuple[list[Line], list[str]]:
    """The lines of a run and the errors that ended it."""
    torch.manual_seed(0)
    draw, stop = random.Random(0), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    served = [Served.made(cnn, (3, 32, 32), draw), Served.made(transformer, (50, 64), draw)]
    counts, loads, lines = [Counts() for _ in range(arguments.threads)], Counts(), list[Line]()
    with tempfile.TemporaryDirectory() as folder:
        threads = [threading.Thread(target=work, args=(served, one, i, stop)) for i, one in enumerate(counts)]
        loading = served, Path(folder), arguments.reload, loads, stop
        threads.append(threading.Thread(target=reload, args=loading))
        start = monotonic()
        for thread in threads:
            thread.start()
        try:
            while not stop.is_set() and monotonic() - start < 60 * arguments.minutes:
                sleep(arguments.interval)
                requests, wrong = sum(one.done for one in counts), sum(one.wrong for one in counts)
                lines.append(Line(monotonic() - start, requests, wrong, loads.done, resident()))
                print(json.dumps(vars(lines[-1])), file=log, flush=True)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    return lines, [error for one in (*counts, loads) for error in one.errors]


def main() -> None:
    """Serve, then say how it was; status 1 where an answer was wrong, an error ended it, or memory grew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--warm-up", type=float, help="minutes that memory may take to settle; a tenth by default")
    parser.add_argument("--threads", type=int, default=4, help="that answer at the same time")
    parser.add_argument("--kernel-threads", type=int, default=2, help="that compute each answer")
    parser.add_argument("--reload", type=float, default=5, help="seconds from one load of a file to the next")
    parser.add_argument("--interval", type=float, default=5, help="seconds from one line to the next")
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.kernel_threads)
    with arguments.log.open("w") as log:
        lines, errors = serve(arguments, log)
        if not lines:
            sys.exit(f"no line was written: --minutes must be longer than --interval; errors: {errors}")
        warm_up, last = 60 * (arguments.minutes / 10 if arguments.warm_up is None else arguments.warm_up), lines[-1]
        grown = growth(lines, warm_up)
        verdict = {
            "requests_per_second": last.requests / last.seconds, "wrong": last.wrong, "loads": last.loads,
            "growth": grown, "is_flat": grown is not None and abs(grown) <= FLAT, "errors": errors,
        }  # fmt: skip
        print(json.dumps(verdict), file=log)
    print(json.dumps(verdict, indent=1))
    sys.exit(1 if errors or last.wrong or not verdict["is_flat"] else 0)


if __name__ == "__main__":
    main()
