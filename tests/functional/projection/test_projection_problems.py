"""What GEM's projection refuses, and what it does when quadprog refuses."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avalanche_ext.functional import project_gradient
from tests.functional.projection.projection_cases import SOLVERS

G = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
AGREEING, VIOLATING = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([-1.0, 1.0, 1.0])


@pytest.mark.parametrize("g", [AGREEING, VIOLATING], ids=["agreeing", "violating"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient": torch.ones(1, 3)}, r"gradient.*1, 3"),
        ({"gradient": torch.tensor(1.0)}, "gradient"),
        ({"references": torch.ones(3)}, r"references.*3"),
        ({"references": torch.ones(2, 4)}, r"references.*2, 4"),
        ({"references": torch.empty(0, 4)}, r"references.*0, 4"),
        ({"memory_strength": -0.1}, r"memory_strength.*-0\.1"),
        ({"memory_strength": float("nan")}, "memory_strength.*nan"),
        ({"memory_strength": float("inf")}, "memory_strength.*inf"),
        ({"solver": "quadprg"}, "solver.*quadprg"),
        ({"blocks": [1, 1]}, r"blocks.*[\[(]1, 1[\])]"),
        ({"blocks": [2, 2]}, r"blocks.*[\[(]2, 2[\])]"),
        ({"blocks": []}, r"blocks.*[\[(][\])]"),
        ({"blocks": [3, 0]}, r"blocks.*[\[(]3, 0[\])]"),
        ({"blocks": [4, -1]}, r"blocks.*[\[(]4, -1[\])]"),
    ],
)
def test_wrong_arguments_are_named_with_their_values(g, arguments, message):
    with pytest.raises(ValueError, match=message):
        project_gradient(**({"gradient": g, "references": G} | arguments))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
class TestNumbersThatAreNotFinite:
    def test_a_gradient_with_one_is_not_projected(self, value, solver):
        g = torch.tensor([-1.0, 1.0, value])
        with pytest.raises(FloatingPointError, match="finite"):
            project_gradient(g, G, 0.0, solver)

    def test_a_reference_with_one_is_not_projected_on(self, value, solver):
        references = torch.cat([G, torch.tensor([[0.0, 0.0, value]])])
        with pytest.raises(FloatingPointError, match="finite"):
            project_gradient(VIOLATING, references, 0.0, solver)

    def test_another_block_does_not_hide_one(self, value, solver):
        g = torch.tensor([-1.0, 1.0, value])
        references = torch.tensor([[1.0, 0.0, -value], [0.0, 1.0, -value]])
        with pytest.raises(FloatingPointError, match="finite"):
            project_gradient(g, references, 0.0, solver, blocks=[2, 1])

    def test_without_references_it_stays(self, value, solver):
        g = torch.tensor([value, 1.0, 1.0])
        z = project_gradient(g, torch.empty(0, 3), 0.0, solver)
        assert torch.equal(z.nan_to_num(), g.nan_to_num())


REJECTED = """
import warnings

import quadprog
import torch


def reject(*args, **kwargs):
    raise ValueError("constraints are inconsistent, no solution")


quadprog.solve_qp = reject
from avalanche_ext.functional import project_gradient
from tests.functional.projection.projection_cases import PROBLEMS, allowed, answer, error, tensors

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name in ["gaussian 5x40", "gaussian 20x60", "opposite 20x60", "nearly collinear 5x40"]:
        for gamma in (0.0, 0.5):
            z = project_gradient(*tensors(PROBLEMS[name]), gamma, "quadprog")
            expected = answer(name, gamma)
            assert error(z, expected) <= allowed(PROBLEMS[name][0], expected, 1e-6), (name, gamma)
print([w.category.__name__ for w in caught])
"""


def test_a_problem_that_quadprog_rejects_is_solved_with_one_warning_in_a_process():
    done = subprocess.run(
        [sys.executable, "-c", REJECTED],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['RuntimeWarning']"
