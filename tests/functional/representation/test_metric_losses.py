"""Multi-similarity and R-margin against loops over pairs, and where they are hard to compute."""

from functools import cache, partial
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import MultiSimilarityLoss

from avalanche_ext.functional import (
    discriminative_representation_loss,
    margin_loss,
    multi_similarity_loss,
)
from tests.oracles import margin_loss_by_loops, multi_similarity_by_loops

FORMS = ["rows", "matrix", "pairs"]
SWITCHES = ["omit", "repel"]
BATCHES = {
    "several classes": [0, 0, 1, 2, 1, 1],
    "one class": [3, 3, 3],
    "all different": [0, 1, 2, 3],
    "two samples": [0, 1],
}
BOUNDARY = torch.tensor(0.6, dtype=torch.float64)


def representations(n: int, width: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, width, dtype=torch.float64, generator=generator)


@cache
def mask(n: int, p: float = 0.4) -> torch.Tensor:
    return torch.rand(n, n, generator=torch.Generator().manual_seed(n)) < p


LOSSES = {
    "drl": lambda h, y: discriminative_representation_loss(h, y, 2.0),
    "drl, pairs": lambda h, y: discriminative_representation_loss(h, y, 2.0, "pairs"),
    **{f"multi-similarity, {f}": partial(multi_similarity_loss, form=f) for f in FORMS},
    **{
        f"margin, {switch}, hinge {hinge}": lambda h, y, s=switch, hinge=hinge: margin_loss(
            h, y, BOUNDARY, 1.5, mask(len(y)), hinge, s
        )
        for switch in SWITCHES
        for hinge in (False, True)
    },
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
def test_multi_similarity_equals_loops_over_pairs(labels, form):
    h = representations(len(labels))
    loss = multi_similarity_loss(h, torch.tensor(labels), 1.5, 30.0, 0.35, form)
    expected = multi_similarity_by_loops(h.tolist(), labels, 1.5, 30.0, 0.35, form)
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("hinge", [False, True])
@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
def test_margin_loss_equals_loops_over_pairs(labels, switch, hinge):
    h, switched = representations(len(labels)), mask(len(labels))
    loss = margin_loss(h, torch.tensor(labels), BOUNDARY, 0.3, switched, hinge, switch)
    expected = margin_loss_by_loops(h.tolist(), labels, 0.6, 0.3, switched.tolist(), hinge, switch)
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=8),
    form=st.sampled_from(FORMS),
    switch=st.sampled_from(SWITCHES),
    hinge=st.booleans(),
    p=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_both_equal_loops_for_any_labels(labels, form, switch, hinge, p):
    h, y, n = representations(len(labels)), torch.tensor(labels), len(labels)
    loss = multi_similarity_loss(h, y, form=form)
    expected = multi_similarity_by_loops(h.tolist(), labels, 2.0, 40.0, 0.5, form)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    loss = margin_loss(h, y, BOUNDARY, 0.2, mask(n, p), hinge, switch)
    expected = margin_loss_by_loops(
        h.tolist(), labels, 0.6, 0.2, mask(n, p).tolist(), hinge, switch
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
def test_multi_similarity_of_pairs_and_its_gradient_are_those_of_pytorch_metric_learning(labels):
    y = torch.tensor(labels)
    ours, theirs = (representations(len(labels)).requires_grad_() for _ in range(2))
    loss = multi_similarity_loss(ours, y, 1.5, 30.0, 0.35, "pairs")
    expected = MultiSimilarityLoss(alpha=1.5, beta=30.0, base=0.35)(theirs, y)
    torch.testing.assert_close(loss, expected)
    (gradient,), (wanted,) = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs)
    torch.testing.assert_close(gradient, wanted)


def test_multi_similarity_of_several_layers_is_the_sum():
    layers, y = [representations(5, width) for width in (3, 7, 2)], torch.tensor([0, 0, 1, 2, 1])
    for form in FORMS:
        together = multi_similarity_loss(layers, y, form=form)
        torch.testing.assert_close(
            together, sum(multi_similarity_loss(h, y, form=form) for h in layers)
        )


@every_loss
@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
def test_gradient_by_finite_differences(loss, labels):
    y = torch.tensor(labels)
    h = representations(len(labels)).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: loss(h, y), h)
    assert torch.autograd.gradgradcheck(lambda h: loss(h, y), h)


@every_loss
def test_gradients_of_several_batches_by_torch_func(loss):
    batches = torch.stack([representations(6), representations(7)[:6]])
    y = torch.tensor([0, 0, 1, 2, 1, 1])
    found = torch.func.vmap(torch.func.grad(lambda h: loss(h, y)))(batches)
    leaf = batches.clone().requires_grad_()
    (expected,) = torch.autograd.grad(sum(loss(h, y) for h in leaf), leaf)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("hinge", [False, True])
def test_the_boundarys_gradient_by_finite_differences(hinge, switch):
    h, y, boundary = representations(6), torch.tensor([0, 0, 1, 2, 1, 1]), BOUNDARY.clone()
    assert torch.autograd.gradcheck(
        lambda b: margin_loss(h, y, b, 0.2, mask(6), hinge, switch), boundary.requires_grad_()
    )


def test_without_the_hinge_the_boundary_and_the_representations_do_not_meet():
    y, boundary = torch.tensor([0, 0, 1, 2, 1, 1]), BOUNDARY.clone().requires_grad_()
    for seed in (6, 7):
        loss = margin_loss(representations(seed)[:6], y, boundary)
        (gradient,) = torch.autograd.grad(loss, boundary)
        assert gradient.item() == -(8 - 22) / 2
    h = representations(6).requires_grad_()
    (near,) = torch.autograd.grad(margin_loss(h, y, BOUNDARY), h)
    (far,) = torch.autograd.grad(margin_loss(h, y, 100 * BOUNDARY), h)
    torch.testing.assert_close(near, far)


@given(data=st.data(), labels=st.lists(st.integers(0, 2), min_size=1, max_size=7))
def test_the_order_of_the_batch_does_not_matter(data, labels):
    n, y = len(labels), torch.tensor(labels)
    order = torch.tensor(data.draw(st.permutations(range(n))))
    h, switched = representations(n), mask(n)
    for form in FORMS:
        torch.testing.assert_close(
            multi_similarity_loss(h, y, form=form),
            multi_similarity_loss(h[order], y[order], form=form),
        )
    for switch, hinge in (("omit", False), ("repel", True)):
        one = margin_loss(h, y, BOUNDARY, 0.2, switched, hinge, switch)
        permuted = switched[order][:, order]
        other = margin_loss(h[order], y[order], BOUNDARY, 0.2, permuted, hinge, switch)
        torch.testing.assert_close(one, other)


@every_loss
def test_a_single_row_is_zero_with_zero_gradient(loss):
    h = representations(1).requires_grad_()
    value = loss(h, torch.tensor([0]))
    value.backward()
    assert value.item() == 0
    assert not h.grad.any()


def test_in_the_form_pairs_a_row_without_pairs_of_a_kind_adds_nothing_of_that_kind():
    h = representations(3)
    alone = multi_similarity_loss(h, torch.tensor([0, 1, 2]), form="pairs")
    within_alone = multi_similarity_loss(h, torch.tensor([0, 1, 2]), 1e-3, form="pairs")
    torch.testing.assert_close(alone, within_alone)


@every_loss
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2], [0, 1, 0, 2, 2], [4] * 5])
def test_equal_rows_have_finite_gradients(loss, labels):
    h = representations(5).float()
    h[1] = h[0]
    h.requires_grad_()
    value = loss(h, torch.tensor(labels))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(h.grad).all()
    assert h.grad.any()


@every_loss
def test_a_zero_row_leaves_the_others_finite_gradients(loss):
    h = representations(5).float()
    h[2] = 0
    h.requires_grad_()
    value = loss(h, torch.tensor([0, 0, 1, 1, 2]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(h.grad).all()
    assert h.grad.any()


@pytest.mark.parametrize(
    "loss", [loss for name, loss in LOSSES.items() if not name.startswith("drl")]
)
def test_a_zero_row_has_no_direction_to_be_moved_in(loss):
    y = torch.tensor([0, 0, 1, 1, 2])
    for length in (0.0, 1e-9):
        h = representations(5).float()
        h[2] *= length
        h.requires_grad_()
        loss(h, y).backward()
        assert not h.grad[2].any()


def test_a_zero_row_is_similar_to_none():
    h, labels = representations(5), [0, 0, 1, 1, 2]
    h[2] = 0
    for form in FORMS:
        loss = multi_similarity_loss(h, torch.tensor(labels), form=form)
        expected = multi_similarity_by_loops(h.tolist(), labels, 2.0, 40.0, 0.5, form)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


@every_loss
@pytest.mark.parametrize("scale", [1e-4, 1e4, 1e8])
def test_twenty_rows_of_any_size_in_single_precision(loss, scale):
    h = (scale * representations(20, 210)).float().relu().requires_grad_()
    value = loss(h, torch.arange(20) % 10)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(h.grad).all()
    exact = loss(h.detach().double(), torch.arange(20) % 10)
    assert value.item() == pytest.approx(exact.item(), rel=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_sharp_multi_similarity_does_not_overflow(form):
    h = torch.ones(4, 3).requires_grad_()
    value = multi_similarity_loss(h, torch.arange(4), 500.0, 500.0, 0.5, form)
    value.backward()
    # Twelve pairs of different classes have s = 1, three in each row; but for the form "pairs" all
    # entries, four in each row, have s = 0 among those of one class. Beside e^250 nothing counts.
    expected = {
        "pairs": 0.5 + log(3) / 500,
        "rows": 0.5 + log(3) / 500 + 0.5 + log(4) / 500,
        "matrix": (0.5 + log(12) / 500 + 0.5 + log(16) / 500) / 4,
    }
    assert value.item() == pytest.approx(expected[form], rel=1e-6)
    assert torch.isfinite(h.grad).all()
