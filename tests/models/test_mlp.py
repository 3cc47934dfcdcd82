"""The multi-layer perceptron of the papers."""

from __future__ import annotations

import re
from math import prod, sqrt
from typing import Any

import pytest
import torch
from torch import nn

from avalanche_ext.models import MLP


@pytest.mark.parametrize("hidden_sizes", [[], [7], [100, 100], [5, 4, 3]])
@pytest.mark.parametrize("input_shape", [(6,), (1, 8, 8), (3, 4, 5)])
def test_shapes(hidden_sizes: list[int], input_shape: tuple[int, ...]) -> None:
    model = MLP(hidden_sizes, input_shape=input_shape, n_classes=4)
    assert model(torch.rand(2, *input_shape)).shape == (2, 4)
    sizes = [prod(input_shape), *hidden_sizes, 4]
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [
        (sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)
    ]


def test_against_plain_matrices() -> None:
    model = MLP([5, 4], input_shape=(2, 3), n_classes=3)
    w1, b1, w2, b2, w3, b3 = model.parameters()
    x = torch.randn(8, 2, 3)
    h = x.reshape(8, 6)
    h = (h @ w1.T + b1).clamp(min=0)
    h = (h @ w2.T + b2).clamp(min=0)
    torch.testing.assert_close(model(x), h @ w3.T + b3)


def test_parameters_are_ordered_from_input_to_output() -> None:
    names = [name for name, _ in MLP([5, 4], input_shape=(6,), n_classes=3).named_parameters()]
    assert names == [
        "hidden.0.weight",
        "hidden.0.bias",
        "hidden.2.weight",
        "hidden.2.bias",
        "classifier.weight",
        "classifier.bias",
    ]


def test_it_neither_writes_to_its_input_nor_depends_on_the_mode() -> None:
    model = MLP([5], input_shape=(6,), n_classes=3)
    x = torch.randn(8, 6)
    before = x.clone()
    assert torch.equal(model.train()(x), model.eval()(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("initialisation", "bound"),
    [
        ("xavier", lambda n_in, n_out: sqrt(6 / (n_in + n_out))),
        ("torch", lambda n_in, n_out: 1 / sqrt(n_in)),
    ],
)
def test_weights_are_uniform_within_their_bound(initialisation: Any, bound: Any) -> None:
    torch.manual_seed(0)
    model = MLP([300, 200], input_shape=(28, 28), n_classes=10, initialisation=initialisation)
    for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
        limit = bound(layer.in_features, layer.out_features)
        weight, n = layer.weight, layer.weight.numel()
        assert 0.98 * limit < weight.abs().max() <= limit
        assert weight.mean().abs() < 5 * limit / sqrt(3 * n)
        assert weight.std().item() == pytest.approx(limit / sqrt(3), rel=0.05)
        assert bool((layer.bias == 0).all()) is (initialisation == "xavier")


def test_the_global_seed_decides_the_weights() -> None:
    def drawn(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return MLP([3], input_shape=(2,), n_classes=2).hidden[0].weight.flatten().tolist()

    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"hidden_sizes": [100, 0]}, "hidden_sizes[1]"),
        ({"hidden_sizes": [2.5]}, "hidden_sizes[0]"),
        ({"hidden_sizes": 100}, "hidden_sizes"),
        ({"n_classes": 0}, "n_classes"),
        ({"n_classes": True}, "n_classes"),
        ({"initialisation": "kaiming"}, "initialisation"),
    ],
)
def test_wrong_arguments_are_named(given: dict[str, Any], named: str) -> None:
    arguments: dict[str, Any] = {"hidden_sizes": [4], "input_shape": (3,), "n_classes": 2}
    with pytest.raises(ValueError, match=rf"^MLP: {re.escape(named)} is .*, but must be "):
        MLP(**(arguments | given))


def test_the_shape_of_a_tensor_will_do() -> None:
    x = torch.rand(3, 1, 4, 4)
    assert MLP([5], input_shape=x.shape[1:], n_classes=2)(x).shape == (3, 2)
