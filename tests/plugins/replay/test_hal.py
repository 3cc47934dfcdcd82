"""Hindsight anchors in real strategies."""

import copy

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from torch import Tensor, nn

from avalanche_ext.buffers import ReservoirBuffer
from avalanche_ext.metrics import TransferMatrix
from avalanche_ext.models import MLP
from avalanche_ext.plugins import DRLPlugin, HALPlugin, MGEMPlugin, OnlineReplayPlugin
from tests.cases import Spy, digits, make_naive, quiet, small_model, train, weights
from tests.plugins.bgd_cases import Growing

LOSSES = ["union", "sum", "separate"]


@pytest.mark.parametrize("loss", LOSSES)
def test_without_strength_it_is_experience_replay(loss):
    def final(plugin: OnlineReplayPlugin) -> Tensor:
        strategy = make_naive(plugin)
        train(strategy, digits(train_size=100))
        return weights(strategy)

    replay = final(OnlineReplayPlugin(50, loss=loss, seed=4))
    assert torch.equal(final(HALPlugin(50, lam=0.0, loss=loss, seed=4)), replay)
    assert not torch.equal(final(HALPlugin(50, lam=0.1, loss=loss, seed=4)), replay)


def test_anchors_hold_the_model_where_it_was():
    def movement(lam: float) -> float:
        plugin = HALPlugin(50, lam=lam)
        train(make_naive(plugin), digits(train_size=200))
        return plugin.diagnostics()["hal/anchoring"]

    assert movement(1.0) < 0.7 * movement(1e-6)


@pytest.mark.parametrize(("kind", "per_task"), [("split", 2), ("permuted", 10)])
@pytest.mark.parametrize("is_online", [False, True])
def test_one_anchor_for_each_class_of_each_task_that_has_ended(kind, per_task, is_online):
    stream = digits(kind, train_size=60).train_stream
    plugin = HALPlugin(50, anchor_steps=1, hindsight_steps=1)
    strategy = make_naive(plugin)
    seen = []
    experiences = (
        split_online_stream(stream, experience_size=20, shuffle=False) if is_online else stream
    )
    for experience in experiences:
        strategy.train(experience, eval_streams=[])
        seen.append(0 if plugin.anchors is None else len(plugin.anchors[1]))
    assert [*dict.fromkeys(seen)] == [per_task * ended for ended in range(5)]
    labels = plugin.anchors[1].tolist()
    assert labels == [*range(8)] if kind == "split" else [*range(10)] * 4


def test_online_streams_and_plain_ones_have_the_same_anchors():
    benchmark = digits(train_size=100)
    plain, online = (HALPlugin(60, seed=3) for _ in range(2))
    strategy = make_naive(plain)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[], shuffle=False)
    strategy = make_naive(online)
    for experience in split_online_stream(benchmark.train_stream, 10, shuffle=False):
        strategy.train(experience, eval_streams=[], shuffle=False)
    for one, other in zip(plain.anchors, online.anchors, strict=True):
        assert torch.equal(one, other)


def test_a_criterion_that_cannot_be_differentiated_twice_is_refused_before_training():
    strategy = make_naive(HALPlugin(50), criterion=nn.MultiMarginLoss())
    with pytest.raises(ValueError, match=r"MultiMarginLoss.*second derivative"):
        train(strategy, digits(train_size=20))
    assert strategy.clock.train_iterations == 0
    for criterion in (nn.CrossEntropyLoss(weight=torch.ones(10)), nn.MultiLabelSoftMarginLoss()):
        make_naive(HALPlugin(50), criterion=criterion)


def test_a_task_that_comes_again_has_its_anchors_learned_again():
    first, second, *_ = digits(train_size=40).train_stream
    plugin = HALPlugin(50)
    strategy = make_naive(plugin)
    found = []
    for experience in (first, second, first, second):
        strategy.train(experience, eval_streams=[])
        found.append(plugin.anchors)
    assert found[0] is None
    assert [a[1].tolist() for a in found[1:]] == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert not torch.equal(found[3][0][:2], found[2][0][:2])
    assert torch.equal(found[3][0][2:], found[2][0][2:])


def test_evaluating_a_growing_classifier_does_not_change_anchors():
    """An evaluation enlarges the classifier before anchors are learned."""

    def anchors(evaluates: bool) -> list[Tensor]:
        plugin, benchmark = HALPlugin(50, hindsight_steps=5, anchor_steps=5), digits(train_size=40)
        strategy = make_naive(TransferMatrix(), plugin, model=Growing())
        torch.manual_seed(0)
        for experience in benchmark.train_stream[:2]:
            strategy.train(experience, eval_streams=[])
            if evaluates:
                strategy.eval(benchmark.test_stream)
        return [*plugin.anchors]

    for one, other in zip(anchors(False), anchors(True), strict=True):
        torch.testing.assert_close(one, other)


def normalised() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(16, 10),
    )


def test_learning_anchors_changes_nothing_else():
    model, plugin = normalised(), HALPlugin(50)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    strategy = quiet(model=model, optimizer=optimizer, plugins=[plugin])
    first, second, *_ = digits(train_size=60).train_stream
    strategy.train(first, eval_streams=[])
    states = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    gradients = [p.grad.clone() for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    generator = torch.get_rng_state()
    strategy.experience = second
    plugin.before_train_dataset_adaptation(strategy)
    assert plugin.anchors[1].tolist() == [0, 1]
    torch.testing.assert_close(
        (model.state_dict(), optimizer.state_dict()["state"]), states, rtol=0, atol=0
    )
    assert all(map(torch.equal, gradients, (p.grad for p in model.parameters())))
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(torch.get_rng_state(), generator)


def test_models_with_batch_normalisation_learn():
    torch.manual_seed(0)
    benchmark, plugin = digits(), HALPlugin(100)
    strategy = make_naive(plugin, model=normalised())
    train(strategy, benchmark)
    strategy.model.eval()
    dataset = benchmark.test_stream[0].dataset
    assert (strategy.model(dataset.x).argmax(1) == dataset.y).float().mean() > 0.6
    assert len(plugin.anchors[1]) == 8


def test_losses_of_other_plugins_do_not_move_the_look_ahead():
    def final(is_first: bool) -> Tensor:
        plugins = [HALPlugin(50, lam=1.0), DRLPlugin(lam=0.05)]
        strategy = make_naive(*(plugins if is_first else plugins[::-1]))
        train(strategy, digits(train_size=50))
        return weights(strategy)

    torch.testing.assert_close(final(True), final(False), rtol=1e-3, atol=1e-4)


def test_a_given_rate_stands_for_the_optimizers():
    def final(lr: float | None) -> Tensor:
        strategy = make_naive(HALPlugin(50, lam=1.0, lr=lr))
        train(strategy, digits(train_size=50))
        return weights(strategy)

    assert torch.equal(final(0.05), final(None))
    assert not torch.equal(final(0.2), final(None))


def test_with_a_gradient_projection():
    plugin = HALPlugin(50, lam=0.5)
    strategy = make_naive(plugin, MGEMPlugin(20))
    train(strategy, digits(train_size=50))
    assert len(plugin.anchors[1]) == 8
    assert torch.isfinite(weights(strategy)).all()


class Runs(Spy):
    """Lists the sums of the rows of each run of the model on fewer than ten, in iterations."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.sums: list[list[float]] = []
        self._is_on = False
        model.register_forward_pre_hook(self._note)

    def _note(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self._is_on and len(inputs[0]) < 10:
            self.sums.append(sorted(inputs[0].flatten(1).sum(1).tolist()))

    def before_forward(self, strategy, **kwargs):
        self._is_on = True

    def after_update(self, strategy, **kwargs):
        self._is_on = False


def test_anchors_are_redrawn_in_each_iteration_without_replacement():
    def seen(seed: int) -> list[list[float]]:
        model = small_model()
        runs = Runs(model)
        plugin = HALPlugin(50, n_anchors=6, seed=seed, anchor_steps=1, buffer=ReservoirBuffer(50))
        train(make_naive(plugin, runs, model=model), digits(train_size=100))
        return runs.sums

    sums = seen(0)
    assert [len(each) for each in sums] == [2] * 20 + [4] * 20 + [6] * 40
    assert sums[::2] == sums[1::2]
    assert all(len({*each}) == len(each) for each in sums)
    of_eight = {tuple(each) for each in sums[60:]}
    assert len(of_eight) > 5
    assert sums == seen(0)
    assert sums[:60] == seen(1)[:60]
    assert sums[60:] != seen(1)[60:]


def test_two_memories_are_refused():
    with pytest.raises(ValueError, match=r"size_per_class=2 already defines the memory.*buffer"):
        HALPlugin(size_per_class=2, buffer="ring")


def test_earlier_tasks_are_unknown_in_avalanches_buffers():
    with pytest.raises(ValueError, match=r"replayed='earlier'.*ReservoirSamplingBuffer does not"):
        HALPlugin(buffer=ReservoirSamplingBuffer(20), replayed="earlier")


def test_a_linear_models_embedding_is_the_image():
    with torch.random.fork_rng():
        model = MLP([], input_shape=(1, 8, 8), n_classes=10)
    plugin = HALPlugin(50)
    train(make_naive(plugin, model=model), digits(train_size=50))
    assert len(plugin.anchors[1]) == 8


def test_a_model_without_a_linear_layer_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(ValueError, match=r"last linear or multi-head layer.*Sequential"):
        train(make_naive(HALPlugin(), model=model), digits())


def test_no_global_random_numbers_are_drawn():
    benchmark = digits(train_size=50)
    strategy = make_naive(HALPlugin(50))
    before = torch.get_rng_state()
    train(strategy, benchmark)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_replays_as_other_replay_plugins_and_goes_with_none():
    with pytest.raises(ValueError, match=r"cannot be combined with .HALPlugin"):
        train(make_naive(HALPlugin(), OnlineReplayPlugin()), digits())


@pytest.mark.parametrize(
    "arguments",
    [
        {"mem_size": 0},
        {"lam": -0.1},
        {"buffer": "heap"},
        {"loss": "mean"},
        {"lr": 0.0},
        {"hindsight_steps": -1},
        {"anchor_steps": 1.5},
        {"anchor_lr": 0.0},
        {"embedding_weight": -1.0},
        {"decay": 1.1},
        {"embedding_decay": -0.1},
        {"n_anchors": 0},
        {"size_per_class": 0},
        {"replayed": "later"},
        {"first_anchors": "first"},
        {"means": "of_samples"},
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        HALPlugin(**arguments)
