"""The models of experiment files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche.models import MultiTaskModule
from torch import nn

from avalanche_ext.models.catalogue import mlp, simple_cnn, slim_resnet18
from avalanche_ext.models.resnet import ReducedResNet18

IMAGE = (3, 32, 32)
MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": lambda **given: mlp([6], **given),
    "slim_resnet18": lambda **given: slim_resnet18(width=4, **given),
    "simple_cnn": simple_cnn,
}


@pytest.mark.parametrize("name", MODELS)
def test_one_head(name: str) -> None:
    model = MODELS[name](input_shape=IMAGE, n_classes=7)
    assert not isinstance(model, MultiTaskModule)
    assert model(torch.rand(2, *IMAGE)).shape == (2, 7)


@pytest.mark.parametrize("name", MODELS)
def test_many_heads(name: str) -> None:
    model: Any = MODELS[name](input_shape=IMAGE, n_classes=7, multi_head=True).eval()
    assert isinstance(model, MultiTaskModule)
    x = torch.rand(2, *IMAGE)
    assert model(x, torch.zeros(2).long()).shape == (2, 7)
    with pytest.raises(KeyError):
        model(x, torch.ones(2).long())


def test_a_resnet_for_other_sizes_has_heads_too() -> None:
    model: Any = slim_resnet18(width=4, multi_head=True, input_shape=(3, 40, 40), n_classes=7)
    assert isinstance(model, MultiTaskModule)
    assert model(torch.rand(2, 3, 40, 40), torch.zeros(2).long()).shape == (2, 7)


def test_an_mlp_drops_hidden_units_in_training_alone() -> None:
    model = mlp([50, 50], dropout=0.5, input_shape=(4,), n_classes=3)
    x = torch.rand(1, 4)
    model.train()
    assert not torch.equal(model(x), model(x))
    hidden: Any = model.hidden
    dropped = [int((hidden[:n](x) == 0).sum()) for n in (3, 6)]
    assert all(n > 10 for n in dropped), "ReLU alone keeps more"
    model.eval()
    assert torch.equal(model(x), model(x))
    without = mlp([50, 50], input_shape=(4,), n_classes=3)
    assert not any(isinstance(module, nn.Dropout) for module in without.modules())


def test_arguments_are_passed_on() -> None:
    model = mlp([6, 5], initialisation="torch", input_shape=(4,), n_classes=3)
    assert [tuple(p.shape) for p in model.parameters()] == [
        (6, 4),
        (6,),
        (5, 6),
        (5,),
        (3, 5),
        (3,),
    ]
    assert all(bool((p != 0).any()) for p in model.parameters())


@pytest.mark.parametrize("size", [32, 84])
def test_the_epsilon_of_normalisation_is_that_of_every_layer(size: int) -> None:
    given: dict[str, Any] = {"width": 4, "input_shape": (3, size, size), "n_classes": 5}
    for eps, model in (
        (1e-5, slim_resnet18(**given)),
        (1e-3, slim_resnet18(**given, norm_eps=1e-3)),
    ):
        layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(layers) == 20
        assert {layer.eps for layer in layers} == {eps}


def test_the_reduced_resnet_is_that_of_gem() -> None:
    """About 1.1 million parameters, an eleventh of the full ResNet-18."""
    model: Any = slim_resnet18(input_shape=IMAGE, n_classes=100)
    assert model.conv1.out_channels == 20
    assert model.linear.in_features == 160
    assert sum(p.numel() for p in model.parameters()) == 1_109_240


def test_on_larger_images_the_reduced_resnet_has_more_features() -> None:
    for size, n_features in (((84, 84), 640), ((25, 25), 160), ((64, 32), 320)):
        model: Any = slim_resnet18(input_shape=(3, *size), n_classes=5)
        assert model.linear.in_features == n_features
        assert model(torch.rand(2, 3, *size)).shape == (2, 5)


def test_the_reduced_resnet_is_avalanches_on_images_of_its_size() -> None:
    theirs: Any = slim_resnet18(width=4, input_shape=IMAGE, n_classes=5).eval()
    ours = ReducedResNet18(5, 4, (32, 32)).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(3, *IMAGE)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("slim_resnet18", (1, 28, 28), r"\(3, H, W\)"),
        ("slim_resnet18", (3, 24, 64), "at least 25"),
        ("simple_cnn", (1, 28, 28), r"\(3, H, W\)"),
        ("simple_cnn", (3, 9, 40), "at least 10"),
        ("simple_cnn", (64,), r"\(3, H, W\)"),
    ],
)
def test_samples_that_do_not_fit(name: str, shape: tuple[int, ...], wanted: str) -> None:
    with pytest.raises(ValueError, match=f"model {name} takes .*{wanted}") as raised:
        MODELS[name](input_shape=shape, n_classes=2)
    assert str(shape) in str(raised.value)


@pytest.mark.parametrize("size", [(10, 10), (28, 40), (84, 84)])
def test_simple_cnn_takes_images_of_other_sizes(size: tuple[int, int]) -> None:
    model = simple_cnn(input_shape=(3, *size), n_classes=5)
    assert model(torch.rand(2, 3, *size)).shape == (2, 5)
