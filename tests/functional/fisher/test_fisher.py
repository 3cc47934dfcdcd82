"""Diagonal Fisher information matrices and MAS against loops and an independent library."""

import numpy as np
import pytest
import torch
from nngeometry.backend import TorchHooksJacobianBackend
from nngeometry.layercollection import LayerCollection
from nngeometry.metrics import FIM
from nngeometry.object import PMatDiag
from torch import nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, TensorDataset

from avalanche_ext.functional.fisher.diagonal import (
    diagonal_fisher,
    fisher_rows,
    output_sensitivity,
    reversed_fisher,
)
from tests.functional.fisher.fisher_cases import (
    EVERY,
    KINDS,
    Case,
    assert_equal,
    double_by_default,
    mlp,
    weights_of,
)
from tests.oracles import (
    diagonal_fisher_by_loops,
    outputs_by_loops,
    reversed_fisher_by_loops,
    sensitivity_by_loops,
)

pytestmark = pytest.mark.filterwarnings("ignore:No exact per-sample rule")

SEED = 5

every_case = pytest.mark.parametrize("case", EVERY.values(), ids=EVERY.keys())
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_case
@every_kind
def test_diagonals_are_those_of_a_loop(case, kind):
    model, (x, y) = case.model(), case.samples()
    found = diagonal_fisher(model, x, y, kind, seed=SEED)
    model.eval()
    weights = weights_of(kind, outputs_by_loops(model, x), y, SEED)
    assert_equal(found, diagonal_fisher_by_loops(model, x, weights))


@every_case
def test_reversed_diagonals_are_those_of_a_loop(case):
    model, (x, y) = case.model(), case.samples()
    found = reversed_fisher(model, x, y)
    assert_equal(found, reversed_fisher_by_loops(model.eval(), x, y))


def test_reversed_logits_keep_what_is_sure_important():
    model, y = torch.nn.Linear(2, 3, bias=False).double(), torch.tensor([0])
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.weight[0, 0] = 50.0
    assert float(diagonal_fisher(model, x, y, "empirical")["weight"].sum()) < 1e-30
    found = reversed_fisher(model, x, y)["weight"]
    assert found[:, 0].tolist() == pytest.approx([1.0, 0.25, 0.25])
    with torch.no_grad():
        model.weight[2, 0] = -1000.0
    found = reversed_fisher(model, x, y, unused=[-1000.0])["weight"]
    assert found[:, 0].tolist() == pytest.approx([1.0, 1.0, 0.0])


@every_case
def test_sensitivities_are_those_of_a_loop(case):
    model, (x, _) = case.model(), case.samples()
    found = output_sensitivity(model, x)
    assert_equal(found, sensitivity_by_loops(model.eval(), x))


@every_case
@every_kind
def test_single_precision_is_as_near_as_it_can_be(case, kind):
    model, (x, y) = case.model(), case.samples()
    expected = diagonal_fisher(model, x, y, kind, seed=SEED)
    single = case.model(torch.float32)
    found = diagonal_fisher(single, x if case.has_tokens else x.float(), y, kind, seed=SEED)
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert_equal(found, expected, rtol=2e-3)


def by_nngeometry(model, x, weights):
    """Σ_c of the weighted squares of the gradients of log p_c, by PMatDiag, as one vector."""
    model.eval()

    def weighted(inputs, weights):
        return weights.sqrt() * model(inputs).log_softmax(1)

    generator = TorchHooksJacobianBackend(
        layer_collection=LayerCollection.from_model(model), model=model, function=weighted
    )
    loader = DataLoader(TensorDataset(x, weights), batch_size=len(x))
    return PMatDiag(generator=generator, examples=loader).data


def flat(diagonal):
    return torch.cat([value.flatten() for value in diagonal.values()])


@pytest.mark.parametrize("name", ["plain convolutions", "an mlp"])
@every_kind
def test_diagonals_are_those_of_nngeometry(name, kind):
    model, (x, y) = EVERY[name].model(), EVERY[name].samples()
    found = flat(diagonal_fisher(model, x, y, kind, seed=SEED))
    model.eval()
    weights = weights_of(kind, outputs_by_loops(model, x), y, SEED).double()
    with double_by_default():
        expected = by_nngeometry(model, x, weights)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-15)
    if kind == "true":
        loader = DataLoader(TensorDataset(x, y), batch_size=len(x))
        with double_by_default():
            closed_form = FIM(model, loader, PMatDiag).data
        torch.testing.assert_close(found, closed_form, rtol=1e-6, atol=1e-15)


@every_case
@every_kind
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_the_size_of_chunks_does_not_matter(case, kind, chunk_size):
    model, (x, y) = case.model(), case.samples()
    expected = diagonal_fisher(model, x, y, kind, seed=SEED)
    found = diagonal_fisher(model, x, y, kind, seed=SEED, chunk_size=chunk_size)
    assert_equal(found, expected)


def test_repeating_the_samples_changes_nothing():
    model, (x, y) = EVERY["an mlp"].model(), EVERY["an mlp"].samples()
    for kind in ("true", "empirical"):
        once = diagonal_fisher(model, x, y, kind)
        twice = diagonal_fisher(model, torch.cat([x, x]), torch.cat([y, y]), kind)
        assert_equal(twice, once, rtol=1e-12)


def test_drawn_labels_follow_the_predictive_distribution():
    outputs = torch.tensor([[2.0, 0.0, -1.0, 0.5]], dtype=torch.float64).expand(4000, 4)
    rows = fisher_rows("sampled", None, seed=1)(outputs, torch.arange(4000))
    p = outputs[0].softmax(0)
    labels = (rows[0] + p).argmax(1)
    shares = torch.bincount(labels, minlength=4) / 4000
    torch.testing.assert_close(rows[0], one_hot(labels, 4) - p)
    assert (shares - p).abs().max() < 4 * (0.25 / 4000) ** 0.5


def test_drawn_labels_depend_on_the_seed_and_the_place_alone():
    outputs = torch.zeros(60, 3)
    place = torch.arange(60)
    rows = fisher_rows("sampled", None, seed=1)
    every = rows(outputs, place)
    assert torch.equal(rows(outputs[:7], place[20:27])[0], every[0, 20:27])
    assert torch.equal(rows(outputs, place.flip(0))[0], every[0].flip(0))
    assert torch.equal(fisher_rows("sampled", None, seed=1)(outputs, place), every)
    assert not torch.equal(fisher_rows("sampled", None, seed=2)(outputs, place), every)


def test_classes_of_no_probability_are_never_drawn():
    outputs = torch.tensor([[-1e9, 0.0, -1e9, 0.0, -1e9]]).expand(500, 5)
    labels = fisher_rows("sampled", None)(outputs, torch.arange(500))[0].argmax(1)
    assert set(labels.tolist()) == {1, 3}


def test_true_rows_make_the_covariance_of_the_labels():
    outputs = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    s = fisher_rows("true", None)(outputs, torch.arange(6))
    p = outputs.softmax(1)
    expected = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    torch.testing.assert_close(torch.einsum("rnc,rnd->ncd", s, s), expected)


def test_a_model_that_is_sure_has_no_fisher():
    model = nn.Linear(2, 3).double()
    with torch.no_grad():
        model.bias.copy_(torch.tensor([2000.0, 0.0, 0.0]))
    x = torch.ones(4, 2, dtype=torch.float64)
    for kind, y in (("true", None), ("sampled", None), ("empirical", torch.zeros(4).long())):
        assert not flat(diagonal_fisher(model, x, y, kind)).any()


@every_kind
def test_global_generators_are_left_alone(kind):
    model, (x, y) = EVERY["an mlp"].model(), EVERY["an mlp"].samples()
    model.train()
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    diagonal_fisher(model, x, y, kind)
    output_sensitivity(model, x)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert model.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "empiric"}, "kind='empiric': must be one of true, sampled, empirical"),
        ({"y": None}, 'y=None: kind="empirical" needs labels'),
        ({"y": torch.zeros(3).long()}, r"y has the shape \(3,\): must be \(7,\)"),
        ({"y": torch.full((7,), 4)}, "y has labels from 4 to 4: must be from 0 to 3"),
        ({"y": torch.full((7,), -1)}, "y has labels from -1 to -1: must be from 0 to 3"),
        ({"x": torch.zeros(0, 6), "y": torch.zeros(0).long()}, "x has no samples"),
        ({"t": torch.zeros(2)}, r"t has the shape \(2,\): must be \(7,\)"),
    ],
)
def test_bad_input_is_named(arguments, message):
    model, (x, y) = Case(mlp).model(), Case(mlp).samples()
    with pytest.raises(ValueError, match=message):
        diagonal_fisher(model, **{"x": x, "y": y, "kind": "empirical"} | arguments)


def test_a_model_without_trained_parameters_is_refused():
    model = Case(mlp).model().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that needs a gradient"):
        diagonal_fisher(model, *Case(mlp).samples())
