import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.functional import discriminative_representation_loss
from tests.oracles import discriminative_representation_loss_by_loops

NORMALISATIONS = ["batch", "pairs"]
BATCHES = {
    "two classes": [0, 0, 1, 1, 1],
    "one class": [3, 3, 3],
    "all different": [0, 1, 2],
    "one sample": [5],
}


def representations(n: int) -> torch.Tensor:
    return torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
def test_equals_loops_over_pairs(labels, normalisation):
    h = representations(len(labels))
    loss = discriminative_representation_loss(h, torch.tensor(labels), 0.7, normalisation)
    expected = discriminative_representation_loss_by_loops(h.tolist(), labels, 0.7, normalisation)
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.floats(0, 5))
def test_equals_loops_for_any_labels(labels, alpha):
    h = representations(len(labels))
    loss = discriminative_representation_loss(h, torch.tensor(labels), alpha)
    expected = discriminative_representation_loss_by_loops(h.tolist(), labels, alpha, "batch")
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_gradient_by_finite_differences(normalisation):
    h = representations(5).requires_grad_()
    y = torch.tensor([0, 1, 1, 0, 2])
    assert torch.autograd.gradcheck(
        lambda h: discriminative_representation_loss(h, y, 2.0, normalisation), h
    )


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_order_of_the_batch_does_not_matter(normalisation):
    h, y = representations(6), torch.tensor([0, 0, 1, 2, 2, 2])
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    one = discriminative_representation_loss(h, y, 2.0, normalisation)
    other = discriminative_representation_loss(h[order], y[order], 2.0, normalisation)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_no_pairs_is_zero_with_zero_gradient(normalisation):
    h = representations(1).requires_grad_()
    loss = discriminative_representation_loss(h, torch.tensor([0]), 2.0, normalisation)
    loss.backward()
    assert loss.item() == 0
    assert not h.grad.any()


def test_layers_add_up_when_they_are_concatenated():
    first, second, y = representations(5), representations(6)[:5], torch.tensor([0, 0, 1, 1, 2])
    together = discriminative_representation_loss(torch.cat([first, second], 1), y, 2.0)
    apart = sum(discriminative_representation_loss(h, y, 2.0) for h in (first, second))
    torch.testing.assert_close(together, apart)
