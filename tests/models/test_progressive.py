"""Progressive networks made of a given model."""

from __future__ import annotations

import pytest
import torch
from avalanche.models import PNN
from avalanche.training import PNNStrategy
from torch import nn

from avalanche_ext.models.catalogue import mlp, simple_cnn
from avalanche_ext.models.progressive import progressive_network
from tests.cases import digits, quiet

DIGIT = (1, 8, 8)


def trained(network: nn.Module, n_tasks: int = 2) -> list[dict[str, torch.Tensor]]:
    """Train on some tasks, and return the first column as it is after each."""
    benchmark = digits(scenario="task", train_size=30, test_size=20)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    strategy = quiet(PNNStrategy, network, optimizer=optimizer)
    columns = []
    for experience in benchmark.train_stream[:n_tasks]:
        strategy.eval(benchmark.test_stream)
        strategy.train(experience, eval_streams=[])
        state = network.columns[0].state_dict()
        columns.append({key: value.clone() for key, value in state.items()})
    return columns


@pytest.mark.parametrize("multi_head", [False, True])
def test_the_first_column_starts_as_the_model_and_is_kept(multi_head: bool) -> None:
    model = mlp([7, 5], multi_head=multi_head, input_shape=DIGIT, n_classes=2)
    network = progressive_network(model)
    assert isinstance(network, PNN)
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)][:2]
    for layer, linear in zip(network.columns[0], linears, strict=True):
        assert torch.equal(layer.itoh.weight, linear.weight)
    start = network.columns[0][0].itoh.weight.detach().clone()
    first, second = trained(network)
    assert not torch.equal(first["0.itoh.weight"], start)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert len(network.columns) == 2


def test_dropout_is_refused() -> None:
    with pytest.raises(ValueError, match=r"leave model\.dropout out"):
        progressive_network(mlp([7], dropout=0.5, input_shape=DIGIT, n_classes=2))


def test_evaluating_a_task_adds_no_column() -> None:
    network = progressive_network(mlp([7], input_shape=DIGIT, n_classes=2))
    trained(network, 1)
    assert len(network.columns) == 1
    assert all(parameter.requires_grad for parameter in network.columns.parameters())


def test_a_later_column_sees_the_earlier_ones() -> None:
    network = progressive_network(mlp([7, 5], input_shape=DIGIT, n_classes=2))
    trained(network)
    network.eval()
    x = torch.randn(3, *DIGIT)
    before = [network(x, task) for task in (0, 1)]
    with torch.no_grad():
        network.columns[0][0].itoh.weight.zero_()
    after = [network(x, task) for task in (0, 1)]
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
    with torch.no_grad():
        network.columns[1][0].itoh.weight.zero_()
    assert torch.equal(network(x, 0), after[0])


class Convolutions(nn.Sequential):
    def __init__(self) -> None:
        layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        super().__init__(*layers, nn.Linear(4 * 6 * 6, 2))


def test_any_models_column_is_kept_with_its_statistics() -> None:
    network = progressive_network(Convolutions())
    first, second = trained(network)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any("running_mean" in key for key in first)


def test_a_convolutional_network_has_a_prediction_for_tasks_not_learned() -> None:
    network = progressive_network(simple_cnn(input_shape=(3, 16, 16), n_classes=2))
    assert network(torch.randn(4, 3, 16, 16), 0).shape == (4, 2)


def test_several_tasks_an_experience_are_refused() -> None:
    network = progressive_network(mlp([7], input_shape=DIGIT, n_classes=2))
    joint = digits(scenario="task", train_size=30).train_stream
    experience = joint[0]
    experience.task_labels = [0, 1]
    network.train()
    with pytest.raises(ValueError, match=r"one task label per experience, but .* has \[0, 1\]"):
        network.adaptation(experience)
