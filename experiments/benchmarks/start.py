"""Cost of a run besides its cells: imports, reports, data, in processor time of all processes.

    python experiments/benchmarks/start.py [--seeds N] [--quick]

Linux only. The image files are MNIST's, under $AVALANCHE_EXT_DATA, or random without it. Processor
time is also valid while other processes share the cores; "wall / half" needs two idle cores.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from time import perf_counter
from typing import NamedTuple

import numpy as np

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
PR_SET_CHILD_SUBREAPER = 36
N_WORKERS = 4

LOAD = """
import sys
from pathlib import Path
from time import process_time
import torch
from avalanche_ext.benchmarks import split
from avalanche_ext.data import TensorLoader

def private():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))

torch.set_num_threads(1)
before, started = private(), process_time()
how = {"folder": sys.argv[1], "image_size": None, "channels": 1}
benchmark = split("image_folder", how)
loaded = process_time() - started
for experience in benchmark.train_stream:
    for x, _, _ in TensorLoader(experience.dataset, 10):
        pass
print(loaded, (private() - before) / 1024, flush=True)
sys.stdin.readline()
"""


class Cost(NamedTuple):
    """Seconds: wall time, and processor time of the command alone and with all it started."""

    wall: float
    main: float
    all: float


def cost(*words: str) -> Cost:
    """Run a command until all processes that it started have ended."""
    started = perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "avalanche_ext", *words], stdout=subprocess.DEVNULL
    )
    wall = main = whole = 0.0
    while True:  # Orphaned processes become children of this one.
        try:
            pid, status, used = os.wait4(-1, 0)
        except ChildProcessError:
            return Cost(wall, main, whole)
        whole += used.ru_utime + used.ru_stime
        if pid == process.pid:
            wall, main = perf_counter() - started, used.ru_utime + used.ru_stime
            if status:
                sys.exit(f"{' '.join(words)} failed")


def grid(seeds: int, out: Path) -> None:
    run = ("run", str(QUICKSTART), "--seeds", str(seeds), "--jobs", "2", "--out", str(out))
    first = cost(*run)
    folder = out / "quickstart"
    files = [*folder.glob("*/*/result.json")]
    cells = sum(json.loads(file.read_text())["seconds"]["total"] for file in files)
    again, report = cost(*run), cost("report", str(folder))
    print(f"quickstart, {len(files)} cells of {cells:.1f} s on two workers, with wandb offline")
    print(f"  wall {first.wall:.1f} s, {first.wall / (cells / 2):.2f} x half the sum of the cells")
    print(f"  processor time {first.all:.1f} s, of which the command itself {first.main:.2f} s")
    print(f"run again: {again.all:.2f} s of processor time; report: {report.all:.2f} s")


def write_images(folder: Path, n: int) -> None:
    from PIL import Image

    x, y = pixels(n)
    for part, rows in (("train", range(n * 6 // 7)), ("test", range(n * 6 // 7, n))):
        for i in rows:
            file = folder / part / str(y[i]) / f"{i:05}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[i]).save(file)


def pixels(n: int) -> tuple[np.ndarray, Sequence[int]]:
    root = os.environ.get("AVALANCHE_EXT_DATA")
    if root is None:
        x = np.random.default_rng(0).integers(0, 2, (n, 28, 28), dtype=np.uint8) * 255
        return x, [i % 10 for i in range(n)]
    from torchvision.datasets import MNIST

    parts = [MNIST(root, train=train) for train in (True, False)]
    x = np.concatenate([part.data.numpy() for part in parts])[:n]
    return x, [label for part in parts for label in part.targets.tolist()][:n]


def loads(folder: Path, workers: int) -> list[tuple[float, float]]:
    """Load in several processes at once; return processor seconds and private MB."""
    there = Barrier(workers)

    def load(_: int) -> tuple[float, float]:
        words = [sys.executable, "-c", LOAD, str(folder)]
        with subprocess.Popen(words, stdin=-1, stdout=-1, text=True) as process:
            seconds, megabytes = map(float, process.stdout.readline().split())
            there.wait()
            process.communicate("\n")
        return seconds, megabytes

    with ThreadPoolExecutor(workers) as pool:
        return [*pool.map(load, range(workers))]


def data(n: int, folder: Path) -> None:
    write_images(folder / "images", n)
    ((decoding, _),) = loads(folder / "images", 1)
    mapped = loads(folder / "images", N_WORKERS)
    slowest, largest = (max(column) for column in zip(*mapped, strict=True))
    print(
        f"{n} PNG files: first benchmark {decoding:.2f} s of processor time, next {slowest:.2f} s"
    )
    print(f"  {N_WORKERS} workers: at most {largest:.0f} MB of private memory each for an epoch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed and 7,000 images: a minute")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        os.environ["AVALANCHE_EXT_CACHE"] = f"{name}/cache"
        grid(1 if options.quick else options.seeds, Path(name))
        data(7_000 if options.quick else 70_000, Path(name))


if __name__ == "__main__":
    main()
