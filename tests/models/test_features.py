"""A classifier without its last layer."""

from __future__ import annotations

import pytest
import torch
from avalanche.models import MultiHeadClassifier
from torch import Tensor, nn

from avalanche_ext.models import MLP
from avalanche_ext.models.catalogue import mlp, simple_cnn, slim_resnet18
from avalanche_ext.models.features import (
    Features,
    FeaturesAndClassifier,
    single_head,
    with_heads,
)

MODELS = {
    "mlp": (mlp([7, 5], input_shape=(1, 8, 8), n_classes=4), (1, 8, 8)),
    "slim_resnet18": (slim_resnet18(4, input_shape=(3, 32, 32), n_classes=4), (3, 32, 32)),
    "reduced_resnet18": (slim_resnet18(4, input_shape=(3, 40, 40), n_classes=4), (3, 40, 40)),
    "simple_cnn": (simple_cnn(input_shape=(3, 16, 16), n_classes=4), (3, 16, 16)),
}


@pytest.mark.parametrize("name", MODELS)
def test_features_and_the_last_layer_make_the_model(name: str) -> None:
    model, shape = MODELS[name]
    x = torch.randn(3, *shape)
    model.eval()
    features = Features(model).eval()
    assert features(x).shape == (3, features.n_features)
    assert torch.equal(single_head(model)(features(x)), model(x))
    both = FeaturesAndClassifier(model).eval()
    assert torch.equal(both(x), model(x))
    assert torch.equal(both.get_features(x), features(x))


class Nested(nn.Module):
    """Its last layer is hidden in the middle of a part."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.ModuleDict({"last": nn.Linear(4, 2)})

    def forward(self, x: Tensor) -> Tensor:
        return self.part["last"](x)


def test_heads_replace_a_last_layer_that_they_can_reach() -> None:
    chain = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    model = nn.Module()
    model.classifier = chain
    assert isinstance(with_heads(model).classifier, MultiHeadClassifier)
    with pytest.raises(ValueError, match=r"classifies by its layer 'part\.last'"):
        with_heads(Nested())


@pytest.mark.parametrize("multi_head", [mlp, slim_resnet18])
def test_a_multi_head_models_features(multi_head: object) -> None:
    shape = (3, 32, 32)
    made = {
        mlp: lambda heads: mlp([7, 5], multi_head=heads, input_shape=shape, n_classes=4),
        slim_resnet18: lambda heads: slim_resnet18(
            4, multi_head=heads, input_shape=shape, n_classes=4
        ),
    }[multi_head]
    torch.manual_seed(0)
    many = made(True)
    torch.manual_seed(0)
    one = made(False)
    x = torch.randn(2, *shape)
    assert torch.equal(Features(many).eval()(x), Features(one).eval()(x))
    with pytest.raises(ValueError, match=r"must have a single one: leave model\.multi_head out"):
        single_head(many)


def test_the_model_stays_as_it_is() -> None:
    model = MLP([7], input_shape=(4,), n_classes=3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Features(model)(torch.ones(2, 4)).sum().backward()
    assert model(torch.ones(2, 4)).shape == (2, 3)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


class Softmaxed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x).softmax(1)


def test_a_model_that_computes_after_its_last_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="changes the output of its last Linear layer"):
        Features(Softmaxed())(torch.ones(2, 4))


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="Conv2d has no Linear layer to take for its classifier"):
        Features(nn.Conv2d(1, 1, 3))
