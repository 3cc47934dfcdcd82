"""Diagonal Fisher information matrices and MAS of models with a head for each task."""

import pytest
import torch
from torch import nn

from avalanche_ext.functional.fisher.diagonal import (
    diagonal_fisher,
    fisher_rows,
    output_sensitivity,
)
from avalanche_ext.functional.fisher.spectrum import fisher_spectrum
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.per_sample.sums import layerwise_gradients
from tests.functional.fisher.fisher_cases import (
    KINDS,
    Case,
    assert_equal,
    double_by_default,
    weights_of,
)
from tests.functional.per_sample.fisher_models import multi_head
from tests.oracles import diagonal_fisher_by_loops, outputs_by_loops, sensitivity_by_loops

# Each head is a layer with a rule, for the samples of its task.
pytestmark = pytest.mark.filterwarnings("error:No exact per-sample rule")

SEED = 5

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def heads():
    """A model of Avalanche's with three heads, in double precision, and samples of two tasks."""
    case = Case(multi_head, (1, 8, 8), n_classes=6)
    x, y = case.samples(8)
    t = torch.tensor([2, 0, 0, 2, 0, 2, 2, 0])
    with double_by_default():
        yield case.model(), x, 2 * t + y % 2, t


@every_kind
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_heads_are_those_of_the_tasks(heads, kind, chunk_size):
    model, x, y, t = heads
    found = diagonal_fisher(model, x, y, kind, t=t, seed=SEED, chunk_size=chunk_size)
    model.eval()
    weights = weights_of(kind, outputs_by_loops(model, x, t), y, SEED)
    assert_equal(found, diagonal_fisher_by_loops(model, x, weights, t))
    for name, value in found.items():
        if "classifiers" in name:
            assert bool(value.any()) == ("classifiers.1." not in name)


@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_the_order_of_samples_of_several_tasks_does_not_matter(heads, kind):
    model, x, y, t = heads
    expected = diagonal_fisher(model, x, y, kind, t=t)
    sensitivity = output_sensitivity(model, x, t=t)
    for order in (t.argsort(), torch.arange(8).flip(0)):
        found = diagonal_fisher(model, x[order], y[order], kind, t=t[order])
        assert_equal(found, expected)
        found = output_sensitivity(model, x[order], t=t[order])
        assert_equal(found, sensitivity)


def test_sensitivities_of_several_tasks_are_those_of_a_loop(heads):
    model, x, _, t = heads
    found = output_sensitivity(model, x, t=t, chunk_size=2)
    assert_equal(found, sensitivity_by_loops(model.eval(), x, t))


@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_samples_of_different_tasks_meet_in_the_kernel(heads, chunk_size):
    model, x, y, t = heads
    layout, rows = FlatLayout(model.named_parameters()), fisher_rows("empirical", y)
    layers = layerwise_gradients(model, layout, x, rows, t=t, chunk_size=chunk_size)
    model.eval()
    losses = torch.nn.functional.cross_entropy(model(x, t), y, reduction="none")
    gradients = [
        layout.flatten(
            torch.autograd.grad(loss, layout.parameters, retain_graph=True, allow_unused=True)
        )
        for loss in losses
    ]
    g = torch.stack(gradients)
    torch.testing.assert_close(sum(layer.kernel() for layer in layers), g @ g.T)


class HeadsOfOtherWidths(nn.Module):
    """Heads with two and four outputs."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 4)])

    def forward(self, x, t):
        return self.heads[int(t[0])](x)


@every_kind
def test_heads_may_have_different_widths(kind):
    x, t = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
    y = torch.arange(6) % 2
    with double_by_default():
        model, x = HeadsOfOtherWidths(), x.double()
        diagonal = diagonal_fisher(model, x, y, kind, t=t, seed=SEED)
        spectrum = fisher_spectrum(model, x, y, 50, kind, t=t, seed=SEED)
    total = sum(float(part.sum()) for part in diagonal.values())
    assert spectrum.trace == pytest.approx(total)
    assert float(spectrum.eigenvalues.sum()) == pytest.approx(total)


class Experts(nn.Module):
    """Sends each sample to one of two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        is_for_a = x[:, 0] > 0
        outputs = x.new_empty(len(x), 2)
        outputs[is_for_a], outputs[~is_for_a] = self.a(x[is_for_a]), self.b(x[~is_for_a])
        return outputs


def test_an_expert_may_get_no_sample():
    x = torch.tensor([[1.0, 2.0, 3.0], [2.0, -1.0, 1.0], [-1.0, 0.5, 2.0], [3.0, 1.0, 1.0]])
    with double_by_default():
        model, x = Experts(), x.double()
        with pytest.warns(UserWarning, match="No exact per-sample rule"):
            found = diagonal_fisher(model, x, None, "true")
        weights = weights_of("true", outputs_by_loops(model, x), None, SEED)
        assert_equal(found, diagonal_fisher_by_loops(model, x, weights))
