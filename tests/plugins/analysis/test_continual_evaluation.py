"""Accuracies inside experiences: what is evaluated when, and that training does not notice."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training import PackNet
from avalanche.training.plugins import EvaluationPlugin, LRSchedulerPlugin, ReplayPlugin
from torch import nn

from avalanche_ext.data import InMemoryLoaders, RepeatedBatches
from avalanche_ext.metrics import TransferMatrix, curve_summary
from avalanche_ext.plugins import (
    ContinualEvaluationPlugin,
    OnlineReplayPlugin,
    diagnostics,
    exhibits,
    series,
)
from avalanche_ext.results.exhibits import ContinualEvaluation
from avalanche_ext.tracking import WandbLogger
from tests.cases import digits, make_naive, quiet, small_model, train, weights
from tests.tracking.wandb_files import read_stored_run

BENCHMARK = digits(n_experiences=2, train_size=70)
"""Seven mini-batches of ten samples each, twice."""


def run(plugins, benchmark=BENCHMARK, make=make_naive, **given):
    """Train and evaluate after each experience."""
    strategy = make(*plugins, **given)
    strategy.eval(benchmark.test_stream)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    return strategy


def accuracy(model, dataset):
    right = model(dataset.x).argmax(1) == dataset.y
    return float(right.double().mean())


class Keeper(SupervisedPlugin):
    """Keeps a copy of the model after each iteration."""

    def __init__(self):
        super().__init__()
        self.models = []

    def after_training_iteration(self, strategy, **kwargs):
        self.models.append(copy.deepcopy(strategy.model).eval())


def test_models_are_evaluated_on_what_has_been_seen():
    keeper, plugin = Keeper(), ContinualEvaluationPlugin(BENCHMARK.test_stream, every=3)
    run([keeper, plugin])
    tests = [each.dataset for each in BENCHMARK.test_stream]
    curves = plugin.curves
    assert curves.experience.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert curves.batch.tolist() == [0, 3, 6, 7] * 2
    for k, b, row in zip(curves.experience, curves.batch, curves.accuracy, strict=True):
        model = keeper.models[7 * k + b - 1] if b or k else small_model()
        seen = range(k + 1) if b else [k]
        expected = [accuracy(model, tests[j]) if j in seen else math.nan for j in range(2)]
        np.testing.assert_allclose(row, expected)


def test_both_ends_of_an_experience_are_those_of_the_matrix():
    matrix, plugin = TransferMatrix(), ContinualEvaluationPlugin(BENCHMARK.test_stream, every=7)
    run([matrix, plugin])
    curves = plugin.curves
    ends = curves.accuracy[curves.ends()]
    np.testing.assert_array_equal(ends[1], matrix.R[1])
    assert ends[0, 0] == matrix.R[0, 0]
    assert curves.accuracy[curves.batch == 0][[0, 1], [0, 1]].tolist() == [
        matrix.untrained[0],
        matrix.R[0, 1],
    ]


def noisy_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout()]
        return nn.Sequential(*layers, nn.Linear(16, 10))


class Draws(SupervisedPlugin):
    """Draws from all global generators whenever something is evaluated."""

    def before_eval_iteration(self, strategy, **kwargs):
        torch.rand(3), np.random.rand(3)  # noqa: NPY002


def scheduled(*plugins):
    """Dropout, BatchNorm, Avalanche's replay and loaders, a schedule by validation."""
    model = noisy_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    first = [ReplayPlugin(mem_size=20), LRSchedulerPlugin(schedule, metric="val_loss"), Draws()]
    evaluator = EvaluationPlugin(accuracy_metrics(stream=True))
    return quiet(model=model, optimizer=optimizer, plugins=[*first, *plugins], evaluator=evaluator)


def test_training_does_not_notice():
    ends = []
    for every in (None, 1):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        inside = [ContinualEvaluationPlugin(BENCHMARK.test_stream, every)] if every else []
        strategy = run(inside, make=scheduled)
        state = [*strategy.model.state_dict().values(), torch.get_rng_state()]
        ends.append(torch.cat([each.double().flatten() for each in state]))
        ends[-1] = (ends[-1], vars(strategy.clock), strategy.optimizer.param_groups[0]["lr"])
    (state, *rest), (other, *others) = ends
    assert torch.equal(state, other)
    assert rest == others


class Averaged(SupervisedPlugin):
    """Evaluates the running average of the weights, as many do."""

    def after_training_iteration(self, strategy, **kwargs):
        now = [p.detach().clone() for p in strategy.model.parameters()]
        before = getattr(self, "average", now)
        self.average = [0.9 * b + 0.1 * n for b, n in zip(before, now, strict=True)]

    def before_eval(self, strategy, **kwargs):
        if hasattr(self, "average"):
            self._swap(strategy)

    def _swap(self, strategy):
        with torch.no_grad():
            for p, average in zip(strategy.model.parameters(), self.average, strict=True):
                p.copy_(average)


def test_plugins_that_change_predictions_take_part_and_weights_are_put_back():
    plain, averaged = ContinualEvaluationPlugin(BENCHMARK.test_stream, 2), None
    alone = make_naive(plain)
    train(alone, BENCHMARK)
    averaged = ContinualEvaluationPlugin(BENCHMARK.test_stream, 2)
    beside = make_naive(Averaged(), averaged)
    train(beside, BENCHMARK)
    assert torch.equal(weights(alone), weights(beside))
    assert not np.array_equal(plain.curves.accuracy, averaged.curves.accuracy, equal_nan=True)


def test_a_part_of_each_test_set_is_drawn_once():
    plugin = ContinualEvaluationPlugin(BENCHMARK.test_stream, 3, test_size=20, seed=5)
    again = ContinualEvaluationPlugin(BENCHMARK.test_stream, 3, test_size=20, seed=5)
    other = ContinualEvaluationPlugin(BENCHMARK.test_stream, 3, test_size=20, seed=6)
    run([plugin, again, other])
    measured = plugin.curves.accuracy[~np.isnan(plugin.curves.accuracy)]
    np.testing.assert_allclose(measured * 20, np.round(measured * 20))
    assert np.array_equal(plugin.curves.accuracy, again.curves.accuracy, equal_nan=True)
    assert not np.array_equal(plugin.curves.accuracy, other.curves.accuracy, equal_nan=True)


class Thrice(SupervisedPlugin):
    def before_training_epoch(self, strategy, **kwargs):
        strategy.dataloader = RepeatedBatches(strategy.dataloader, 3)


def test_several_steps_on_one_mini_batch_count_once():
    plugin = ContinualEvaluationPlugin(BENCHMARK.test_stream, 4)
    run([Thrice(), plugin])
    assert plugin.curves.batch.tolist() == [0, 4, 7] * 2
    positions = [i for i, x in enumerate(plugin.series()["anytime_accuracy/seen"]) if x == x]
    assert positions == [3 * 4 - 1, 3 * 7 - 1]


def test_the_parts_of_an_online_stream_are_one_experience():
    matrix, plugin = TransferMatrix(), ContinualEvaluationPlugin(BENCHMARK.test_stream, 3)
    strategy = make_naive(matrix, OnlineReplayPlugin(mem_size=20), plugin)
    stream = split_online_stream(BENCHMARK.train_stream, experience_size=10)
    for part in stream:
        strategy.train(part, eval_streams=[])
        strategy.eval(BENCHMARK.test_stream)
    assert plugin.curves.batch.tolist() == [0, 3, 6, 7] * 2
    assert plugin.curves.accuracy[-1].tolist() == matrix.R[-1].tolist()


def test_parts_that_are_learned_several_times_end_their_experience_at_the_last():
    matrix, plugin = TransferMatrix(), ContinualEvaluationPlugin(BENCHMARK.test_stream, 100)
    strategy = make_naive(matrix, plugin)
    for part in split_online_stream(BENCHMARK.train_stream, experience_size=35):
        for _ in range(2):
            strategy.train(part, eval_streams=[])
            strategy.eval(BENCHMARK.test_stream)
    assert plugin.curves.batch.tolist() == [0, 12, 16] * 2
    assert plugin.curves.accuracy[-1].tolist() == matrix.R[-1].tolist()


def test_the_numbers_curves_and_series_are_reported(tmp_path):
    plugin = ContinualEvaluationPlugin(BENCHMARK.test_stream, 3)
    logger = WandbLogger(directory=tmp_path)
    strategy = make_naive(plugin, logger)
    train(strategy, BENCHMARK)
    logger.finish()
    assert diagnostics(strategy.plugins) == curve_summary(plugin.curves)
    exhibit = ContinualEvaluation.from_arrays(exhibits(strategy.plugins)[ContinualEvaluation.NAME])
    assert np.array_equal(exhibit.curves.accuracy, plugin.curves.accuracy, equal_nan=True)
    assert exhibit.curves.every == 3
    told = series(strategy.plugins)
    rows = plugin.curves.accuracy[5:]
    for j in range(2):
        values = told[f"anytime_accuracy/experience_{j + 1}"]
        assert [values[i] for i in (2, 5, 6)] == rows[:, j].tolist()
        assert np.isnan([values[i] for i in (0, 1, 3, 4)]).all()
    stored = read_stored_run(logger.offline_directory)
    name = "series/anytime_accuracy/seen"
    sent = {row["iteration"]: row[name] for row in stored.history if name in row}
    means = plugin.curves.mean_over_seen()
    expected = {2: means[1], 5: means[2], 6: means[3], 9: means[5], 12: means[6], 13: means[7]}
    assert sent == pytest.approx(expected)


def test_a_plugin_resumes_from_its_state():
    plugin = ContinualEvaluationPlugin(BENCHMARK.test_stream, 3)
    strategy = make_naive(plugin)
    train(strategy, BENCHMARK)
    other = ContinualEvaluationPlugin(BENCHMARK.test_stream, 3)
    other.load_state_dict(plugin.state_dict())
    assert np.array_equal(other.curves.accuracy, plugin.curves.accuracy, equal_nan=True)
    assert other.stream is BENCHMARK.test_stream
    assert len(pickle.dumps(plugin)) < 5000
    lonely = copy.deepcopy(ContinualEvaluationPlugin(BENCHMARK.test_stream, 3))
    with pytest.raises(ValueError, match="has no stream: set its attribute `stream`"):
        train(make_naive(lonely), BENCHMARK)


class OwnLoop(type(make_naive())):
    def training_epoch(self, **kwargs):
        pass


def test_what_cannot_be_measured_is_refused():
    plugin = ContinualEvaluationPlugin(BENCHMARK.test_stream, 3)
    with pytest.raises(ValueError, match="train a strategy that has this plugin"):
        _ = plugin.curves
    with pytest.raises(ValueError, match="every is 0, but must be greater than 0"):
        ContinualEvaluationPlugin(BENCHMARK.test_stream, 0)
    first, second = BENCHMARK.train_stream
    strategy = make_naive(plugin)
    strategy.train(second, eval_streams=[])
    with pytest.raises(ValueError, match="experiences in their order, but 0 comes after 1"):
        strategy.train(first, eval_streams=[])
    short = ContinualEvaluationPlugin(BENCHMARK.test_stream[:1], 3)
    with pytest.raises(ValueError, match="there are 1, and experience 1 is trained on"):
        make_naive(short).train(second, eval_streams=[])
    looping = quiet(OwnLoop, plugins=[ContinualEvaluationPlugin(BENCHMARK.test_stream, 3)])
    with pytest.raises(ValueError, match="OwnLoop has a training loop of its own"):
        looping.train(first, eval_streams=[])


def test_packnet_cannot_go_back_to_earlier_tasks():
    from avalanche_ext.models.packnet import packnet_model

    plugin = ContinualEvaluationPlugin(BENCHMARK.test_stream, 3)
    packed = packnet_model(small_model(), 10)
    given = {"post_prune_epochs": 1, "prune_proportion": 0.5, "train_epochs": 2}
    strategy = quiet(PackNet, packed, **given)
    strategy.plugins = [InMemoryLoaders(), *strategy.plugins, plugin]
    with pytest.raises(ValueError, match="PackNet cannot be evaluated inside experiences"):
        strategy.train(BENCHMARK.train_stream[0], eval_streams=[])
