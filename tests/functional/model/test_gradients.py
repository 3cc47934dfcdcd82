"""How gradients are laid out as vectors, and gradients of several groups of samples."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.model.gradients import (
    FlatLayout,
    batched_loss_gradients,
    loss_gradients,
)
from tests.functional.model.gradient_cases import (
    Heads,
    convolutional,
    frozen_bias,
    gradient,
    made,
    mlp,
    samples,
)


class Interleaved(nn.Module):
    """Parameters of one block lie between those of another; 2 + 3 + 4 + 5 + 6 coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(2))
        for name, size in (("a", 3), ("b", 4)):
            layer = nn.Module()
            layer.weight = nn.Parameter(torch.zeros(size))
            setattr(self, name, layer)
        self.a.bias, self.b.bias = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(6))


ORDER = ["scale", "a.weight", "b.weight", "a.bias", "b.bias"]


def interleaved(partition):
    named = dict(Interleaved().named_parameters())
    return FlatLayout([(name, named[name]) for name in ORDER], partition)


@pytest.mark.parametrize(
    ("partition", "names", "blocks"),
    [
        ("none", ORDER, [20]),
        ("tensor", ORDER, [2, 3, 4, 5, 6]),
        (
            "layer",
            ["scale", "a.weight", "a.bias", "b.weight", "b.bias"],
            [2, 8, 10],
        ),
        (
            ["*.bias", "a.*"],
            ["scale", "b.weight", "a.weight", "a.bias", "b.bias"],
            [6, 3, 11],
        ),
        (
            ["a.*", "*"],
            ["scale", "b.weight", "b.bias", "a.weight", "a.bias"],
            [12, 8],
        ),
        (1, ORDER, [20]),
        (3, ORDER, [7, 7, 6]),
        (20, ORDER, [1] * 20),
    ],
    ids=["none", "tensor", "layer", "patterns and the rest", "patterns for all", "1", "3", "20"],
)
def test_parameters_of_a_block_lie_side_by_side(partition, names, blocks):
    layout = interleaved(partition)
    assert layout.names == names
    assert layout.blocks == blocks
    named = [(name, tuple(p.shape)) for name, p in Interleaved().named_parameters()]
    assert {*zip(layout.names, (tuple(p.shape) for p in layout.parameters), strict=True)} == {
        *named
    }


@pytest.mark.parametrize("partition", ["none", "layer", "tensor", ["0.*"], 4])
def test_frozen_parameters_have_no_place(partition):
    model = made(frozen_bias)
    layout = FlatLayout(model.named_parameters(), partition)
    assert layout.names == ["0.weight", "2.bias", "4.weight", "4.bias"]
    assert sum(layout.blocks) == 48 + 7 + 35 + 5


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (["a.*", "c.*"], r"'c\.\*' matches no parameter, of scale, a\.weight"),
        (["*", "a.*"], r"'a\.\*' matches only parameters that earlier patterns took"),
        (0, r"partition=0: must be between 1 and 20"),
        (21, r"partition=21: must be between 1 and 20"),
    ],
)
def test_a_partition_that_does_not_fit_is_named(partition, message):
    with pytest.raises(ValueError, match=message):
        interleaved(partition)


def test_a_model_without_trainable_parameters_is_refused():
    model = made(mlp).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that needs a gradient"):
        FlatLayout(model.named_parameters())


def test_a_layout_knows_its_parameters():
    model = made(mlp)
    layout = FlatLayout(model.named_parameters(), "tensor")
    assert layout.is_of(reversed([*model.named_parameters()]))
    assert not layout.is_of(made(mlp).named_parameters())
    model.extra = nn.Linear(2, 2)
    assert not layout.is_of(model.named_parameters())
    del model.extra
    model[0].bias.requires_grad_(False)
    assert not layout.is_of(model.named_parameters())


@pytest.mark.parametrize("partition", ["none", "layer", ["*.bias"], 3])
def test_what_is_written_is_read_back_at_its_place(partition):
    model = made(mlp)
    layout = FlatLayout(model.named_parameters(), partition)
    vector = torch.arange(1.0, sum(layout.blocks) + 1, dtype=torch.float64)
    layout.write_gradient(vector)
    assert torch.equal(layout.gradient(), vector)
    start = 0
    for name, p in zip(layout.names, layout.parameters, strict=True):
        expected = vector[start : start + p.numel()].view_as(p)
        assert torch.equal(model.get_parameter(name).grad, expected)
        start += p.numel()
    layout.write_gradient(-vector)
    assert torch.equal(layout.gradient(), -vector)
    assert vector[0] == 1, "the vector and what was written share no memory"


def test_no_gradient_counts_as_zeros():
    model = made(mlp)
    layout = FlatLayout(model.named_parameters())
    pieces = [None if p.dim() == 1 else torch.ones_like(p) for p in layout.parameters]
    assert (
        layout.flatten(pieces).tolist()
        == [1.0] * 48 + [0.0] * 8 + [1.0] * 56 + [0.0] * 7 + [1.0] * 35 + [0.0] * 5
    )
    assert not layout.gradient().any()


def test_a_parameter_gets_a_gradient_only_where_the_vector_has_one():
    model = made(mlp)
    layout = FlatLayout(model.named_parameters(), "tensor")
    model[0].weight.grad = torch.ones_like(model[0].weight)
    in_place = model[0].weight.grad
    vector = torch.zeros(sum(layout.blocks), dtype=torch.float64)
    vector[48] = 3.0
    layout.write_gradient(vector)
    assert model[0].weight.grad is in_place
    assert not in_place.any(), "one that had a gradient has zeros now"
    assert model[0].bias.grad.tolist() == [3.0] + [0.0] * 7
    assert all(p.grad is None for p in [*model[2].parameters(), *model[4].parameters()])
    vector[48] = 5.0
    assert model[0].bias.grad[0] == 3.0


@pytest.mark.parametrize("partition", ["none", "tensor", ["*.bias"]])
@pytest.mark.parametrize("make", [mlp, frozen_bias, Heads])
def test_gradients_one_after_another_equal_plain_autograd(make, partition):
    model = made(make)
    layout = FlatLayout(model.named_parameters(), partition)
    groups = [samples(n, seed=n) for n in (1, 4, 7)]
    losses = [partial(lambda x, y: cross_entropy(model(x), y), *group) for group in groups]
    actual = loss_gradients(losses, layout)
    expected = torch.stack([gradient(model, layout, *group) for group in groups])
    torch.testing.assert_close(actual, expected, atol=1e-14, rtol=1e-12)


def test_gradients_are_returned_not_written():
    model = made(mlp)
    layout = FlatLayout(model.named_parameters())
    x, y = samples(4)
    loss_gradients([lambda: cross_entropy(model(x), y)], layout)
    batched_loss_gradients(model, nn.CrossEntropyLoss(), x[None], y[None], layout)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("partition", ["none", "tensor", ["*.bias"], 5])
@pytest.mark.parametrize(
    ("make", "shape"), [(mlp, (6,)), (frozen_bias, (6,)), (convolutional, (1, 6, 6))]
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_all_at_once_equal_those_one_after_another(make, shape, partition, reduction):
    model, criterion = made(make), nn.CrossEntropyLoss(reduction=reduction)
    layout = FlatLayout(model.named_parameters(), partition)
    x, y = zip(*(samples(4, seed, shape) for seed in range(3)), strict=True)
    losses = [
        partial(lambda x, y: criterion(model(x), y), *group) for group in zip(x, y, strict=True)
    ]
    torch.testing.assert_close(
        batched_loss_gradients(model, criterion, torch.stack(x), torch.stack(y), layout),
        loss_gradients(losses, layout),
        atol=1e-13,
        rtol=1e-11,
    )


def test_groups_have_dropout_of_their_own():
    model = nn.Sequential(nn.Dropout(0.5), made(mlp))
    layout = FlatLayout(model.named_parameters())
    x, y = samples(16)
    same = (torch.stack([column] * 2) for column in (x, y))
    first, second = batched_loss_gradients(model, nn.CrossEntropyLoss(), *same, layout)
    assert not torch.allclose(first, second)
