"""The pull towards an anchor, against dense solves."""

import pytest
import torch
from torch import nn

from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from avalanche_ext.functional.model.gradients import FlatLayout
from tests.functional.fisher.curvature_cases import P, curvature, dense


def network(dtype=torch.float64):
    """Nine parameters: a weight of (3, 2) and a bias of (3,)."""
    torch.manual_seed(0)
    return nn.Linear(2, 3, dtype=dtype)


def pulled(part, strength, rates, dtype=torch.float64):
    """Return δ before and after the step."""
    model = network(dtype)
    layout = FlatLayout(model.named_parameters())
    anchor = torch.randn(P, dtype=dtype, generator=torch.Generator().manual_seed(3))
    before = layout.flatten(layout.parameters).detach() - anchor
    part.step(layout, anchor, strength, rates)()
    return before, layout.flatten(layout.parameters).detach() - anchor


RATES = [0.1, torch.tensor([0.1] * 6 + [0.5] * 3), torch.tensor([0.0] * 2 + [0.3] * 7)]


@pytest.mark.parametrize("rates", RATES, ids=["one rate", "two rates", "some of rate 0"])
@pytest.mark.parametrize("strength", [0.01, 1.0, 1e4])
@pytest.mark.parametrize(("k", "diagonal"), [(0, True), (3, False), (3, True), (P, True)])
def test_the_step_is_a_dense_solve(k, diagonal, strength, rates):
    part = curvature(k, diagonal=diagonal)
    before, after = pulled(part, strength, rates)
    eta = torch.diag(torch.as_tensor(rates, dtype=torch.float64).expand(P))
    system = torch.eye(P, dtype=torch.float64) + strength * eta @ dense(part)
    expected = torch.linalg.solve(system, before)
    torch.testing.assert_close(after, expected, rtol=1e-6, atol=1e-7)


def test_along_eigenvectors_alone_it_shrinks_each_by_its_own_factor():
    part = curvature(3, diagonal=False)
    before, after = pulled(part, 2.0, 0.1)
    stiffness = 0.1 * 2.0 * part.eigenvalues
    along = part.eigenvectors @ before
    torch.testing.assert_close(part.eigenvectors @ after, along / (1 + stiffness))
    rest = before - part.eigenvectors.T @ along
    torch.testing.assert_close(after - part.eigenvectors.T @ (part.eigenvectors @ after), rest)


@pytest.mark.parametrize("strength", [1e8, 1e30, 1e300, float("inf")])
@pytest.mark.parametrize("diagonal", [True, False])
def test_at_any_strength_it_ends_as_a_hard_projection(strength, diagonal):
    vectors = torch.eye(P)[:2]
    weight = torch.tensor([0.0] * 4 + [1.0] * 2 + [0.0] * 3) if diagonal else None
    part = LowRankCurvature(weight, torch.tensor([2.0, 1e-3]), vectors)
    before, after = pulled(part, strength, 0.1, torch.float32)
    held = [0, 1, 4, 5] if diagonal else [0, 1]
    free = [i for i in range(P) if i not in held]
    torch.testing.assert_close(after[held], torch.zeros(len(held)), atol=1e-3, rtol=0)
    torch.testing.assert_close(after[free], before[free])


@pytest.mark.parametrize(("k", "diagonal"), [(0, True), (3, False), (3, True)])
def test_of_strength_zero_it_moves_nothing(k, diagonal):
    before, after = pulled(curvature(k, diagonal=diagonal), 0.0, 0.1)
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("k", [0, 3])
def test_for_small_strengths_it_is_the_step_along_the_gradient(k):
    part = curvature(k)
    before, after = pulled(part, 1e-6, 0.1)
    torch.testing.assert_close(after - before, -1e-7 * part.product(before), rtol=1e-5, atol=1e-14)


def test_it_can_be_repeated():
    model = network()
    layout = FlatLayout(model.named_parameters())
    anchor = torch.zeros(P, dtype=torch.float64)
    part = curvature(3)
    step = part.step(layout, anchor, 1.0, 0.5)
    before = layout.flatten(layout.parameters).detach()
    for _ in range(3):
        step()
    system = torch.eye(P, dtype=torch.float64) + 0.5 * dense(part)
    expected = torch.linalg.matrix_power(torch.linalg.inv(system), 3) @ before
    torch.testing.assert_close(layout.flatten(layout.parameters).detach(), expected)
    assert all(p.grad is None for p in layout.parameters)


@pytest.mark.parametrize("strength", [1.0, 1e4, 1e12])
@pytest.mark.parametrize("diagonal", [True, False])
def test_in_single_precision_it_is_the_dense_solve_to_rounding(diagonal, strength):
    part = curvature(4, diagonal=diagonal, dtype=torch.float32)
    before, after = pulled(part, strength, 0.1, torch.float32)
    exact = LowRankCurvature(
        None if part.diagonal is None else part.diagonal.double(),
        part.eigenvalues.double(),
        part.eigenvectors.double(),
    )
    system = torch.eye(P, dtype=torch.float64) + strength * 0.1 * dense(exact)
    expected = torch.linalg.solve(system, before.double()).float()
    torch.testing.assert_close(after, expected, rtol=1e-3, atol=1e-5)
