"""Cosines of gradients and of representations of pairs of samples."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from avalanche_ext.functional.representation.diversity import (
    PairCosines,
    cosines,
    gradient_cosines,
    pairs_by_kind,
)
from tests.functional.fisher.fisher_cases import EVERY, Case, double_by_default, mlp
from tests.functional.per_sample.fisher_models import multi_head
from tests.oracles.diversity import (
    cosines_by_loops,
    gradient_cosines_by_loops,
    pair_numbers_by_loops,
)

pytestmark = pytest.mark.filterwarnings("ignore:No exact per-sample rule")


@pytest.mark.parametrize("case", EVERY.values(), ids=EVERY.keys())
def test_cosines_of_gradients_are_those_of_a_loop(case):
    model, (x, y) = case.model(), case.samples(9)
    expected = gradient_cosines_by_loops(model, x, y)
    np.testing.assert_allclose(gradient_cosines(model, x, y), expected, rtol=1e-9, atol=1e-11)


def test_heads_are_those_of_the_tasks():
    case = Case(multi_head, (1, 8, 8), n_classes=6)
    x, y = case.samples(8)
    t = torch.tensor([2, 0, 0, 2, 0, 2, 2, 0])
    y = 2 * t + y % 2
    with double_by_default():
        model = case.model()
        expected = gradient_cosines_by_loops(model, x, y, t)
        np.testing.assert_allclose(gradient_cosines(model, x, y, t=t), expected, atol=1e-11)


def test_the_model_its_gradients_and_the_generators_are_left_as_they_were():
    model, (x, y) = Case(mlp).model(), Case(mlp).samples()
    model[0].eval()
    nn.functional.cross_entropy(model(x), y).backward()
    before = [p.clone() for p in model.parameters()] + [p.grad.clone() for p in model.parameters()]
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    assert not gradient_cosines(model, x, y).requires_grad
    after = [*model.parameters(), *(p.grad for p in model.parameters())]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def fitted(scale):
    """Samples of class 1 in single precision with logits (−scale · x, 0, −1.1 scale · x)."""
    model = nn.Linear(1, 3)
    with torch.no_grad():
        model.weight.copy_(scale * torch.tensor([[-1.0], [0.0], [-1.1]]))
        model.bias.zero_()
    return model, torch.tensor([[1.0], [1.5], [-0.1]]), torch.tensor([1, 1, 1])


def test_samples_that_are_fitted_beyond_single_precision_have_cosines():
    model, x, y = fitted(100.0)
    assert model(x[:1]).softmax(1)[0, 1].item() == 1.0
    found = gradient_cosines(model, x, y)
    # Nearly all of 1 - p_1 is that of class 0, so that e is about (1, -1, 0) / sqrt(2) for both.
    assert float(found[0, 1]) == pytest.approx((1.5 + 1) / math.sqrt(2 * 3.25), rel=1e-4)
    assert found[2, 2] == pytest.approx(1)


def test_a_gradient_of_length_zero_has_no_cosine():
    model, x, y = fitted(1000.0)
    found = gradient_cosines(model, x, y)
    assert found.isnan().tolist() == [[True] * 3, [True] * 3, [True, True, False]]


def test_parameters_that_are_not_trained_do_not_count():
    model, (x, y) = Case(mlp).model(), Case(mlp).samples()
    model[5].requires_grad_(False)
    found = gradient_cosines(model, x, y)
    np.testing.assert_allclose(found, gradient_cosines_by_loops(model, x, y), atol=1e-11)
    model[5].requires_grad_(True)
    assert not torch.allclose(found, gradient_cosines(model, x, y), atol=1e-3)


@pytest.mark.parametrize(
    ("n_labels", "label", "message"), [(6, 0, r"\(7,\), a label"), (7, 4, "must be from 0 to 3")]
)
def test_labels_that_do_not_fit_are_refused(n_labels, label, message):
    x, _ = Case(mlp).samples()
    with pytest.raises(ValueError, match=message):
        gradient_cosines(Case(mlp).model(), x, torch.full((n_labels,), label))


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_cosines_do_not_depend_on_lengths(scale):
    vectors = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    vectors[3] = 0
    found = cosines(scale * vectors)
    np.testing.assert_allclose(found, cosines_by_loops(vectors.double().numpy()), atol=1e-6)
    assert found.nan_to_num(0).abs().max() <= 1


def some_pairs():
    """Cosines of eight samples, one of which has no gradient and another no representation."""
    rng = torch.Generator().manual_seed(0)
    both = [cosines(torch.randn(8, 3, generator=rng)) for _ in range(2)]
    both[0][2] = both[0][:, 2] = both[1][5] = both[1][:, 5] = math.nan
    return *both, torch.tensor([0, 1, 0, 2, 1, 0, 0, 1])


@pytest.mark.parametrize(("kind", "same_class"), [("negative", False), ("positive", True)])
def test_numbers_of_pairs_are_those_of_a_loop(kind, same_class):
    gradients, representations, labels = some_pairs()
    found = pairs_by_kind(gradients, representations, labels)[kind].numbers()
    expected = pair_numbers_by_loops(
        gradients.numpy(), representations.numpy(), labels.tolist(), same_class
    )
    assert [*found] == [*expected]
    np.testing.assert_allclose([*found.values()], [*expected.values()], rtol=1e-10)


def test_each_pair_is_of_one_kind_unless_it_has_no_cosine():
    pairs = pairs_by_kind(*some_pairs())
    assert len(pairs["negative"].gradients) + len(pairs["positive"].gradients) == 6 * 5 / 2
    # Of 0, 0, 1, 1, 1, 2 with both cosines.
    assert len(pairs["positive"].representations) == 1 + 3


@pytest.mark.parametrize("n", [0, 1, 5])
def test_what_cannot_be_said_is_nan(n):
    equal = torch.full((n,), 0.25)
    numbers = PairCosines(equal + 1e-8, torch.linspace(0, 1, n)).numbers()
    assert math.isnan(numbers["correlation"])
    assert math.isnan(numbers["conflict_mean"])
    assert math.isnan(numbers["conflicting"]) == (n == 0)
    assert numbers["gradient_mean"] == pytest.approx(0.25 if n else math.nan, nan_ok=True)


def test_one_class_has_no_negative_pairs():
    gradients, representations, _ = some_pairs()
    pairs = pairs_by_kind(gradients, representations, torch.ones(8))
    assert len(pairs["negative"].gradients) == 0
    assert len(pairs["positive"].gradients) == 15
