"""Which representations the losses on them are given."""

import pytest
import torch
from avalanche.models import IncrementalClassifier, SimpleMLP, SlimResNet18
from torch import nn

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import (
    DRLPlugin,
    MetricLossPlugin,
    MultiSimilarityPlugin,
    OnlineReplayPlugin,
    RMarginPlugin,
)
from avalanche_ext.plugins.core.gathering import Gatherer
from tests.cases import Spy, digits, make_naive, train


def metric_loss(**given):
    return MetricLossPlugin("ContrastiveLoss", **given)


HIDDEN_AND_LOGITS = {"drl": DRLPlugin, "multi_similarity": MultiSimilarityPlugin}
LAST_HIDDEN = {"r_margin": RMarginPlugin, "metric_loss": metric_loss}
EACH = {**HIDDEN_AND_LOGITS, **LAST_HIDDEN}


def recording(plugin, sink: list[list[torch.Tensor]]):
    """The plugin, which keeps the representations that its loss is given."""
    inner = plugin.representation_loss

    def representation_loss(representations, labels):
        sink.append([*representations])
        return inner(representations, labels)

    plugin.representation_loss = representation_loss
    return plugin


def gathered_shapes(plugin, model: nn.Module, x: torch.Tensor) -> list[tuple[int, ...]]:
    """Shapes of what is gathered in one iteration."""
    gathered: list[list[torch.Tensor]] = []
    strategy = make_naive(recording(plugin, gathered), model=model)
    strategy.experience = digits().train_stream[0]
    strategy.mbatch = [x, torch.arange(len(x)) % 2, torch.zeros(len(x), dtype=torch.int64)]
    plugin.before_training_exp(strategy)
    plugin.before_forward(strategy)
    strategy.mb_output = strategy.forward()
    plugin.after_forward(strategy)
    strategy.loss = torch.zeros(1)
    plugin.before_backward(strategy)
    (representations,) = gathered
    assert all(rows.requires_grad for rows in representations)
    return [tuple(rows.shape) for rows in representations]


@pytest.mark.parametrize("name", EACH)
def test_default_layers_of_avalanches_mlp_with_in_place_relu(name):
    model = SimpleMLP(num_classes=10, input_size=64, hidden_size=32, hidden_layers=2, drop_rate=0)
    expected = [(4, 32), (4, 32), (4, 10)] if name in HIDDEN_AND_LOGITS else [(4, 32)]
    assert gathered_shapes(EACH[name](), model, torch.rand(4, 1, 8, 8)) == expected


@pytest.mark.parametrize("name", EACH)
def test_default_layers_of_the_reduced_resnet_are_pooled_features_and_for_some_the_logits(name):
    expected = [(3, 160), (3, 10)] if name in HIDDEN_AND_LOGITS else [(3, 160)]
    shapes = gathered_shapes(EACH[name](), SlimResNet18(10, nf=20), torch.rand(3, 3, 32, 32))
    assert shapes == expected


def test_the_pooled_features_are_those_of_the_reduced_resnet():
    gathered: list[list[torch.Tensor]] = []
    model = SlimResNet18(10, nf=4)
    features = []
    model.linear.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    gathered_shapes(recording(RMarginPlugin(), gathered), model, torch.rand(3, 3, 32, 32))
    assert torch.equal(gathered[0][0], features[0])


@pytest.mark.parametrize("name", EACH)
def test_layers_by_name(name):
    model, x = SlimResNet18(10, nf=4), torch.rand(2, 3, 32, 32)
    shapes = gathered_shapes(EACH[name](layers=["layer1", "logits"]), model, x)
    assert shapes == [(2, 4 * 32 * 32), (2, 10)]


@pytest.mark.parametrize("name", LAST_HIDDEN)
def test_the_last_hidden_layer_is_the_last_that_has_run(name):
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier, self.second = nn.Linear(5, 10), nn.Linear(7, 5)
            self.first = nn.Linear(64, 7)

        def forward(self, x):
            return self.classifier(self.second(self.first(x.flatten(1)).relu()).relu())

    assert gathered_shapes(EACH[name](), Backwards(), torch.rand(4, 1, 8, 8)) == [(4, 5)]


@pytest.mark.parametrize("name", LAST_HIDDEN)
def test_a_model_without_hidden_layers_is_refused(name):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match=r"layers=None.*'logits'"):
        train(make_naive(EACH[name](), model=model), digits())


@pytest.mark.parametrize("name", EACH)
def test_a_multi_head_model_without_hidden_layers_is_refused(name):
    model = mlp([], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    with pytest.raises(ValueError, match=r"layers=None.*'logits'"):
        train(make_naive(EACH[name](), model=model), split_digits(scenario="task"))


@pytest.mark.parametrize("name", EACH)
def test_the_hidden_layer_of_a_multi_head_model_has_the_rows_in_the_batchs_order(name):
    gathered: list[list[torch.Tensor]] = []

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            (rows,) = gathered.pop()
            hidden = strategy.model.model.hidden[0](strategy.mb_x.flatten(1)).relu()
            torch.testing.assert_close(rows, hidden)
            self.checked += len(strategy.mb_task_id.unique()) > 1

    plugin, check = recording(EACH[name](lam=0.3), gathered), Check()
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    strategy = make_naive(OnlineReplayPlugin(mem_size=40), plugin, check, model=model)
    train(strategy, split_digits(scenario="task"))
    assert check.checked > 50


@pytest.mark.parametrize("name", HIDDEN_AND_LOGITS)
def test_units_of_a_head_that_are_not_in_use_yet_count_for_nothing(name):
    """Avalanche's growing head outputs -1000 for them, which would dominate everything else."""
    head = IncrementalClassifier(6, initial_out_features=10)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), head)
    gathered: list[list[torch.Tensor]] = []
    strategy = make_naive(recording(HIDDEN_AND_LOGITS[name](lam=0.3), gathered), model=model)
    strategy.train(split_digits().train_stream[0], eval_streams=[])
    for _, logits in gathered:
        assert logits.shape[1] == 10
        assert logits[:, :2].any()
        assert not logits[:, 2:].any()


def test_a_layer_that_runs_more_than_once_puts_all_its_runs_side_by_side():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again = nn.Linear(64, 5), nn.Linear(5, 5)
            self.classifier = nn.Linear(5, 10)

        def forward(self, x):
            h = self.first(x.flatten(1)).relu()
            return self.classifier(self.again(self.again(h)))

    model, x = Twice(), torch.rand(4, 1, 8, 8)
    gatherer = Gatherer()
    gatherer.start(model, {"again": model.again}, "inputs")
    output = model(x)
    gatherer.stop()
    gathered = gatherer.taken(output, torch.zeros(4, dtype=torch.int64))["again"]
    h = model.first(x.flatten(1)).relu()
    torch.testing.assert_close(gathered, torch.cat([h, model.again(h)], dim=1))
