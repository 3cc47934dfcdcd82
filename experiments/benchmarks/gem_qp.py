"""Cost of GEM's quadratic programs alone, on gradients of real iterations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from gem_setting import (
    MEMORY_SIZE,
    MEMORY_STRENGTH,
    BareGEM,
    Setting,
    dual_problem,
    make_settings,
    project,
    solve_by_quadprog,
)
from harness import medians, timed
from numpy.typing import NDArray
from torch import Tensor

from avalanche_ext.functional import project_gradient
from avalanche_ext.functional.projection.dual import solve_dual

N_PROBLEMS, N_BLOCKS = 5, 62
Floats = NDArray[np.float64]

LEGEND = f"""
ms per projection, medians over rounds of the mean over {N_PROBLEMS} iterations that violate a
constraint after T tasks; v >= {MEMORY_STRENGTH}.
dual: only the quadratic program, from Gram matrix and products in NumPy to v, in double precision
    and for all T constraints.
projection: from gradient and references in torch to the projected gradient; by hand as in the bare
    loop: Gram matrix, quadprog and the sum. project_gradient solves the dual only for the
    constraints that v = {MEMORY_STRENGTH} leaves violated.
{N_BLOCKS} blocks: p-mGEM with as many equal blocks of coordinates; by hand, a loop over the
    violated blocks. The duals alone are solved for all blocks, by solve_dual as one batch."""


class RecordingGEM(BareGEM):
    """Record the gradients and references of projected iterations."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.problems: list[tuple[Tensor, Tensor]] = []

    def project(self, gradient: Tensor) -> Tensor:
        self.problems.append((gradient, self.references.clone()))
        return super().project(gradient)


def recorded(setting: Setting) -> list[tuple[Tensor, Tensor]]:
    gem = RecordingGEM(setting)
    for x, y in setting.batches():
        gem.iteration(x, y)
        if len(gem.problems) == N_PROBLEMS:
            break
    return gem.problems


def block_sizes(n_parameters: int) -> list[int]:
    return [len(part) for part in np.array_split(np.arange(n_parameters), N_BLOCKS)]


def blocks_of(gradient: Tensor, references: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    sizes = block_sizes(len(gradient))
    return zip(gradient.split(sizes), references.split(sizes, dim=1), strict=True)


def project_blocks(gradient: Tensor, references: Tensor) -> list[Tensor]:
    return [
        project(g, G) if bool((G @ g < 0).any()) else g for g, G in blocks_of(gradient, references)
    ]


def dual_problems(blocks: Iterable[tuple[Tensor, Tensor]]) -> tuple[Floats, Floats]:
    """Return the Gram matrices, (B, T, T), and the products, (B, T), in double precision."""
    grams, products = zip(*(dual_problem(g.double(), G.double()) for g, G in blocks), strict=True)
    return np.stack(grams), np.stack(products)


def quadprog_loop(gram: Floats, products: Floats) -> None:
    for matrix, vector in zip(gram, products, strict=True):
        solve_by_quadprog(matrix, vector)


def dual(solver: Any, gram: Floats, products: Floats) -> Floats:
    """Solve for v = w + γ, w >= 0."""
    return MEMORY_STRENGTH + solve_dual(gram, products + MEMORY_STRENGTH * gram.sum(-1), solver)


def compare(title: str, runs: dict[str, Callable[..., object]], problems: Any, rounds: int) -> None:
    """Print each run's time per problem, and the ratio to the first."""

    def all_problems(run: Callable[..., object]) -> None:
        for problem in problems:
            run(*problem)

    seconds = medians([partial(timed, partial(all_problems, run)) for run in runs.values()], rounds)
    for name, time in zip(runs, seconds, strict=True):
        milliseconds = time / len(problems) * 1e3
        print(f"{title:<32}{name:<24}{milliseconds:>9.3f}{time / seconds[0]:>9.2f}", flush=True)


def report(n_tasks: Sequence[int], rounds: int) -> None:
    print(LEGEND)
    print(f"\n{'':<56}{'ms':>9}{'/first':>9}")
    ours = partial(project_gradient, memory_strength=MEMORY_STRENGTH)
    solvers = {f'solve_dual, "{s}"': partial(dual, s) for s in ("exact", "quadprog", "pivoting")}
    for setting in make_settings(n_tasks, MEMORY_SIZE):
        problems = recorded(setting)
        past = f"T = {len(setting.memory_x)}"
        if not problems:
            print(f"{past}: no iteration violates a constraint")
            continue
        compare(
            f"{past}, dual",
            {"quadprog": quadprog_loop, **solvers},
            [dual_problems([problem]) for problem in problems],
            rounds,
        )
        compare(
            f"{past}, projection",
            {"by hand": project, "project_gradient": ours},
            problems,
            rounds,
        )
        compare(
            f"{past}, {N_BLOCKS} blocks, dual",
            {"loop of quadprog": quadprog_loop, **solvers},
            [dual_problems(blocks_of(*problem)) for problem in problems],
            rounds,
        )
        sizes = block_sizes(len(problems[0][0]))
        compare(
            f"{past}, {N_BLOCKS} blocks, projection",
            {"by hand": project_blocks, "project_gradient": partial(ours, blocks=sizes)},
            problems,
            rounds,
        )
        violated = [bool((G @ g < 0).any()) for problem in problems for g, G in blocks_of(*problem)]
        share = sum(violated) / len(violated)
        print(f"  ({share:.0%} of the {N_BLOCKS} blocks have a violated constraint)")
