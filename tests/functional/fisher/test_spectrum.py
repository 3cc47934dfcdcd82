"""Eigenpairs of Fishers against dense eigendecompositions."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from avalanche_ext.functional.fisher import spectrum as module
from avalanche_ext.functional.fisher.diagonal import diagonal_fisher
from avalanche_ext.functional.fisher.measures import layer_curvature, layer_mass
from avalanche_ext.functional.fisher.spectrum import fisher_eigenvalues, fisher_spectrum
from avalanche_ext.functional.model.gradients import FlatLayout
from tests.functional.fisher.spectrum_cases import (
    N_CLASSES,
    N_SAMPLES,
    RULED,
    UNRULED,
    Heads,
    assert_pairs,
    dense,
    made,
    mlp,
    samples,
    without_rule,
)
from tests.oracles.spectrum import top_eigenpairs

KINDS = ["true", "sampled", "empirical"]
METHODS = ["kernel", "lanczos"]
EVERY = RULED | UNRULED

pytestmark = pytest.mark.filterwarnings("ignore:No exact per-sample rule")


def global_generators() -> list[list[int]]:
    """The states of torch's and of NumPy's."""
    numpy = np.random.get_state()[1]  # noqa: NPY002 - the global one is what is looked at
    return [torch.random.get_rng_state().tolist(), numpy.tolist()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("make", "method"),
    [(make, method) for make in RULED.values() for method in METHODS]
    + [(make, "auto") for make in UNRULED.values()],
    ids=[f"{name}-{method}" for name in RULED for method in METHODS] + [*UNRULED],
)
@pytest.mark.parametrize("rank", [1, 6, 20])
def test_eigenpairs_are_those_of_the_whole_fisher(make, method, kind, rank):
    model, (x, y) = made(make), samples(make)
    found = fisher_spectrum(model, x, y, rank, kind, seed=3, method=method)
    fisher = dense(model, x, y, kind, seed=3)
    assert_pairs(found.eigenvalues, found.eigenvectors, fisher, rank)
    assert found.trace == pytest.approx(np.trace(fisher), rel=1e-9)


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_the_trace_is_the_sum_of_the_diagonal(make, kind):
    model, (x, y) = made(make), samples(make)
    diagonal = diagonal_fisher(model, x, y, kind, seed=3)
    expected = pytest.approx(float(sum(d.sum() for d in diagonal.values())), rel=1e-9)
    for rank, method in ((2, "auto"), (2, "lanczos"), (0, "auto")):
        assert fisher_spectrum(model, x, y, rank, kind, seed=3, method=method).trace == expected


@pytest.mark.parametrize("method", METHODS)
def test_tasks_have_their_heads_in_whatever_order_samples_come(method):
    model, (x, y) = made(Heads), samples(Heads, 12)
    t = torch.tensor([0, 1, 1] * 4)
    fisher = dense(model, x, y, "true", t=t)
    found = fisher_spectrum(model, x, y, 5, "true", t=t, method=method)
    assert_pairs(found.eigenvalues, found.eigenvectors, fisher, 5)
    assert found.eigenvectors[:, -5 * N_CLASSES :].abs().max() < 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_frozen_parameters_are_left_out(method):
    model, (x, y) = made(mlp), samples(mlp)
    model[0].weight.requires_grad_(False)
    model[3].bias.requires_grad_(False)
    found = fisher_spectrum(model, x, y, 4, "true", method=method)
    assert_pairs(found.eigenvalues, found.eigenvectors, dense(model, x, y, "true"), 4)


@pytest.mark.parametrize("method", METHODS)
def test_one_sample_has_its_gradient_as_eigenvector(method):
    model, (x, y) = made(mlp), samples(mlp, 1)
    found = fisher_spectrum(model, x, y, 3, "empirical", method=method)
    model.eval()
    loss = nn.functional.cross_entropy(model(x), y)
    g = torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*model.parameters()])])
    assert found.eigenvalues.tolist() == pytest.approx([float(g @ g)], rel=1e-9)
    assert found.trace == pytest.approx(float(g @ g), rel=1e-9)
    assert abs(float(found.eigenvectors[0] @ g)) == pytest.approx(float(g.norm()), rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [3, 40])
def test_a_rank_above_that_of_the_fisher_gives_all_there_is(method, n):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = made(lambda: nn.Linear(2, 2, bias=False))
    found = fisher_spectrum(model, x, None, 100, "sampled", method=method)
    fisher = dense(model, x, x, "sampled")
    assert len(found.eigenvalues) == 2  # The two outputs' gradients are each other's negatives.
    v, values = found.eigenvectors, found.eigenvalues
    np.testing.assert_allclose((v.T * values) @ v, fisher, atol=1e-12 * values[0].item())


@pytest.mark.parametrize("method", METHODS)
def test_more_classes_than_samples(method):
    model = made(lambda: nn.Linear(3, 30))
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = fisher_spectrum(model, x, None, 58, "true", method=method)
    assert_pairs(found.eigenvalues, found.eigenvectors, dense(model, x, x, "true"), 58)
    assert len(found.eigenvalues) == 2 * (30 - 1)


@pytest.mark.parametrize("method", METHODS)
def test_repeated_eigenvalues_are_found_as_often_as_they_are_there(method):
    """A linear model that is zero: F = XᵀX / N ⊗ (I / C − 11ᵀ / C²), here each N (C − 1) times."""
    model = made(lambda: nn.Linear(8, 16, bias=False))
    nn.init.zeros_(model.weight)
    x = torch.eye(8, dtype=torch.float64)[:6]
    found = fisher_spectrum(model, x, None, 89, "true", method=method)
    assert found.eigenvalues.tolist() == pytest.approx([1 / (6 * 16)] * 89, rel=1e-9)
    assert_pairs(found.eigenvalues, found.eigenvectors, dense(model, x, x, "true"), 89)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["true", "sampled"])
def test_a_fisher_of_zeros_has_no_eigenpairs(method, kind):
    model, (x, _) = made(mlp), samples(mlp)
    model[3].bias.data[1] = 1e6  # The model is so sure of one class that its gradients vanish.
    found = fisher_spectrum(model, x, None, 5, kind, method=method)
    assert found.trace == 0
    assert found.eigenvalues.shape == (0,)
    n_parameters = sum(p.numel() for p in model.parameters())
    assert found.eigenvectors.shape == (0, n_parameters)
    layout = FlatLayout(model.named_parameters())
    assert layer_mass(found, layout) == layer_curvature(found, layout) == {"0": 0.0, "3": 0.0}


@pytest.mark.parametrize("method", METHODS)
def test_nearly_vanished_gradients_keep_their_digits_in_single_precision(method):
    model, (x, _) = made(mlp), samples(mlp)
    model[3].bias.data[1] = 45.0  # p is about 1e-19 for the other classes, and F likewise.
    double = fisher_spectrum(model, x, None, 3, "true", method=method)
    single = fisher_spectrum(model.float(), x.float(), None, 3, "true", method=method)
    assert 0 < double.trace < 1e-15
    assert single.eigenvalues.tolist() == pytest.approx(double.eigenvalues.tolist(), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_keeps_rows_orthonormal(method):
    model, (x, y) = made(mlp).float(), samples(mlp, 60)
    found = fisher_spectrum(model, x.float(), y, 40, "empirical", method=method)
    v = found.eigenvectors
    assert v.dtype == found.eigenvalues.dtype == torch.float32
    assert (v @ v.T - torch.eye(len(v))).abs().max() < 1e-5
    fisher = dense(model.double(), x, y, "empirical")
    expected, _ = top_eigenpairs(fisher, len(v))
    np.testing.assert_allclose(found.eigenvalues, expected, atol=1e-5 * expected[0])


def test_rank_zero_gives_no_pairs():
    model, (x, y) = made(mlp), samples(mlp)
    for method in ("auto", *METHODS):
        found = fisher_spectrum(model, x, y, 0, method=method)
        assert found.eigenvalues.shape == (0,)
        assert found.eigenvectors.shape == (0, sum(p.numel() for p in model.parameters()))
        assert found.trace > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_largest_entry_of_each_vector_is_positive(method):
    model, (x, y) = made(mlp), samples(mlp)
    vectors = fisher_spectrum(model, x, y, 9, method=method).eigenvectors
    assert (vectors.max(1).values == vectors.abs().max(1).values).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_same_call_gives_the_same_bits_and_leaves_everything_as_it_was(method):
    model, (x, y) = made(RULED["convolutions"]), samples(RULED["convolutions"])
    model.train()
    model[1].eval()
    model[4].weight.grad = torch.ones_like(model[4].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = global_generators()
    with torch.no_grad():
        first = fisher_spectrum(model, x, y, 7, "sampled", seed=5, method=method)
    again = fisher_spectrum(model, x, y, 7, "sampled", seed=5, method=method)
    assert torch.equal(first.eigenvalues, again.eigenvalues)
    assert torch.equal(first.eigenvectors, again.eigenvectors)
    assert first.trace == again.trace
    assert not first.eigenvectors.requires_grad
    assert global_generators() == states
    assert [module.training for module in model] == [True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[4].weight.grad.eq(1).all()
    assert model[0].weight.grad is None


def test_kernels_that_would_be_large_are_not_formed_unless_asked_for(monkeypatch):
    model, (x, y) = made(mlp), samples(mlp)
    monkeypatch.setattr(module, "MOST_KERNEL_ROWS", N_SAMPLES * N_CLASSES - 1)
    asked = fisher_spectrum(model, x, y, 4, "true", method="kernel")
    allowed = fisher_spectrum(model, x, y, 4, "sampled")
    monkeypatch.setattr(module, "layerwise_gradients", None)
    found = fisher_spectrum(model, x, y, 4, "true")
    torch.testing.assert_close(found.eigenvalues, asked.eigenvalues)
    torch.testing.assert_close(found.eigenvectors, asked.eigenvectors)
    assert len(allowed.eigenvalues) == 4
    assert fisher_eigenvalues(model, x, y, "true") is None


@pytest.mark.parametrize("make", RULED.values(), ids=RULED.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_all_eigenvalues_are_those_of_the_whole_fisher(make, kind):
    model, (x, y) = made(make), samples(make)
    fisher = dense(model, x, y, kind, seed=2)
    n_rows = N_SAMPLES * (N_CLASSES if kind == "true" else 1)
    expected = np.linalg.eigvalsh(fisher)[::-1][:n_rows]
    found = fisher_eigenvalues(model, x, y, kind, seed=2)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-14 * expected[0])
    assert (found >= 0).all()


def test_there_are_no_more_eigenvalues_than_parameters():
    model = made(lambda: nn.Linear(2, 2, bias=False))
    x = torch.randn(9, 2, dtype=torch.float64)
    assert len(fisher_eigenvalues(model, x, None, "true")) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": -1}, "rank=-1: must be at least 0"),
        ({"method": "power"}, "method='power': must be"),
        ({"kind": "empirical"}, "y=None"),
        ({"x": torch.zeros(0, 6).double()}, "x"),
    ],
    ids=["rank", "method", "labels", "samples"],
)
def test_what_is_wrong_is_named(given, message):
    x = torch.ones(2, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        fisher_spectrum(**{"model": made(mlp), "x": x, "y": None, "rank": 2} | given)


def test_too_large_a_kernel_is_not_decomposed(monkeypatch):
    model, (x, y) = made(mlp), samples(mlp)
    monkeypatch.setattr(module, "MOST_KERNEL_ROWS", N_SAMPLES)
    assert fisher_eigenvalues(model, x, y, "true") is None
    assert len(fisher_eigenvalues(model, x, y, "sampled")) == N_SAMPLES


def test_layers_without_rules_have_no_kernel():
    model, (x, y) = made(without_rule), samples(without_rule)
    with pytest.raises(ValueError, match=r'method="kernel": .* needs rules'):
        fisher_spectrum(model, x, y, 2, method="kernel")
    assert fisher_eigenvalues(model, x, y) is None


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_has_diverged_is_refused(method):
    model, (x, y) = made(mlp), samples(mlp)
    model[3].weight.data[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="trace of the Fisher is nan"):
        fisher_spectrum(model, x, y, 2, method=method)
