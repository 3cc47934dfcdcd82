"""Masks from scores, constant weights of random signs, and tasks inferred by entropy."""

import pytest
import torch

from avalanche_ext.functional.supermasks import infer_tasks, signed_constant, supermask
from tests.oracles import supermask_by_loops, task_by_differences


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("share", [None, 1e-9, 0.3, 0.5, 1.0])
def test_masks_are_the_loops(share):
    scores = drawn(4, 5).round(decimals=1)  # Some sizes are equal.
    scores[0, 0] = 0.0
    found = supermask(scores, share)
    assert found.flatten().tolist() == supermask_by_loops(scores.flatten().tolist(), share)
    assert found.shape == scores.shape
    assert found.dtype == scores.dtype


@pytest.mark.parametrize(("share", "sign"), [(None, 1.0), (0.5, -1.0)])
def test_the_gradient_goes_straight_through(share, sign):
    scores = (-drawn(6).abs()).requires_grad_()
    factors = drawn(6, seed=1)
    (supermask(scores, share) * factors).sum().backward()
    assert torch.equal(scores.grad, sign * factors)


def test_weights_have_one_size_and_random_signs():
    generator = torch.Generator().manual_seed(0)
    linear = signed_constant(torch.Size([50, 8]), generator)
    assert linear.unique().tolist() == [-0.5, 0.5]
    assert abs(float(linear.mean())) < 0.1
    kernel = signed_constant(torch.Size([4, 2, 3, 3]), generator)
    torch.testing.assert_close(kernel.abs(), torch.full((4, 2, 3, 3), 1 / 3))


@pytest.mark.parametrize("method", ["one_shot", "binary"])
@pytest.mark.parametrize("n_tasks", [1, 2, 5])
def test_tasks_are_those_of_differences(method, n_tasks):
    weights = [drawn(6, 4), drawn(3, 6, seed=1)]
    masks = [
        [(drawn(*w.shape, seed=9 * i + j) > 0).double() for j, w in enumerate(weights)]
        for i in range(2, n_tasks + 2)
    ]
    x = drawn(30, 4, seed=5)

    def outputs(alpha):
        h = x
        for layer, w in enumerate(weights):
            h = torch.relu(h) if layer else h
            products = torch.stack([h @ (w * mask[layer]).T for mask in masks], dim=1)
            h = (alpha[..., None] * products).sum(1)
        return h

    with torch.no_grad():
        found = infer_tasks(outputs, x.new_zeros(30, n_tasks), method)
    arrays = [w.numpy() for w in weights], [[m.numpy() for m in mask] for mask in masks]
    assert found.tolist() == [task_by_differences(row, *arrays, method) for row in x.numpy()]
    assert n_tasks == 1 or len({*found.tolist()}) > 1


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="method='half': must be one of one_shot, binary"):
        infer_tasks(lambda alpha: alpha, torch.ones(1, 2), "half")
