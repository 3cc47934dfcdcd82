"""Cost of an iteration of GEM and mGEM, and of their quadratic programs alone.

    python experiments/benchmarks/gem.py [--only iterations|qp] [--tasks T ...] [--threads N]
        [--rounds N | --quick] [--iterations N]

Permuted MNIST if $AVALANCHE_EXT_DATA is a folder with MNIST/raw, otherwise random images of the
same shape; an MLP 784-100-100-10, batches of 10, SGD with learning rate 0.1, 256 samples of each
task in memory, memory_strength 0.5.
"""

from __future__ import annotations

import argparse
import os
import warnings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["iterations", "qp"])
    parser.add_argument(
        "--tasks",
        type=int,
        nargs="+",
        help="numbers of past tasks; by default 1 5 10 20 for iterations, 20 100 for QPs",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_const", dest="rounds", const=1, help="one round of each"
    )
    parser.add_argument("--iterations", type=int, default=50, help="iterations per run")
    arguments = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(arguments.threads)
    # NumPy's linear algebra reads these at import, so the imports follow.
    import torch

    torch.set_num_threads(arguments.threads)
    warnings.showwarning = lambda *_: None  # Avalanche re-enables its warnings in every call.
    print(f"threads: {arguments.threads}, rounds: {arguments.rounds}")
    if arguments.only != "qp":
        import gem_iterations

        n_tasks = arguments.tasks or [1, 5, 10, 20]
        gem_iterations.report(n_tasks, arguments.iterations, arguments.rounds)
    if arguments.only != "iterations":
        import gem_qp

        gem_qp.report(arguments.tasks or [20, 100], arguments.rounds)


if __name__ == "__main__":
    main()
