"""Iterations, repeats, clipping and schedules do in a strategy what a plain loop does."""

import json
import math

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import MultiHeadClassifier
from avalanche.training import ER_ACE, MER, Naive
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, StepLR

from avalanche_ext.buffers import ReservoirBuffer
from avalanche_ext.data import InMemoryLoaders, criterion_of
from avalanche_ext.plugins import (
    AGEMPlugin,
    BalancedReplayPlugin,
    GSSPlugin,
    MGEMPlugin,
    OnlineEWCPlugin,
    OnlineReplayPlugin,
)
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.components import build
from avalanche_ext.runner.foreign import ComponentError
from avalanche_ext.runner.recipe import (
    IterationLimit,
    RepeatedSteps,
    Schedule,
    clip,
)
from tests.cases import Spy, digits, quiet, small_model, train, weights
from tests.runner.cases import SMALL, cell

N_SAMPLES = 40  # Four mini-batches of ten.


@pytest.fixture(scope="module")
def benchmark():
    return digits(train_size=N_SAMPLES)


class Rates(SupervisedPlugin):
    """The learning rate of each iteration."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def before_update(self, strategy, **kwargs):
        self.seen.append(strategy.optimizer.param_groups[0]["lr"])


def trained(benchmark, *plugins, strategy=Naive, **given):
    model = small_model()
    made = quiet(
        strategy,
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        plugins=[InMemoryLoaders(), *plugins],
        **given,
    )
    train(made, benchmark)
    return made


@pytest.mark.parametrize("iterations", [1, 3, 4, 9])
def test_an_experience_takes_the_iterations_that_are_asked_for(benchmark, iterations):
    spy = Spy()
    trained(benchmark, IterationLimit(iterations), spy, train_epochs=iterations)
    assert len(spy.mbatches) == iterations * len(benchmark.train_stream)
    first = torch.cat([y for _, y, *_ in spy.mbatches[: min(iterations, 4)]])
    assert len(first) == 10 * min(iterations, 4)


def test_the_first_iterations_are_those_of_epochs(benchmark):
    by_epochs, by_iterations = Spy(), Spy()
    trained(benchmark, by_epochs, train_epochs=2)
    trained(benchmark, IterationLimit(7), by_iterations, train_epochs=7)
    for whole, cut in zip(by_epochs.mbatches[:7], by_iterations.mbatches[:7], strict=True):
        assert torch.equal(whole[0], cut[0])


def test_a_repeated_batch_is_stepped_on_as_in_a_plain_loop(benchmark):
    spy = Spy()
    made = trained(benchmark, RepeatedSteps(3), spy)
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y, _ in spy.mbatches[::3]:
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert len(spy.mbatches) == 3 * 4 * 5
    torch.testing.assert_close(weights(made), torch.cat([p.flatten() for p in model.parameters()]))


def shown(memory):
    """The samples that a memory was shown, in order."""
    seen = []
    add = memory.add

    def noting(x, *others):
        seen.append(x.clone())
        return add(x, *others)

    memory.add = noting
    return seen


WRITERS = {
    "joined": lambda: OnlineReplayPlugin(20, 5),
    "stored": lambda: OnlineReplayPlugin(20, 5, stream="stored"),
    "balanced": lambda: BalancedReplayPlugin(20, 5),
    "agem": lambda: AGEMPlugin(20, 5),
    "mgem": lambda: MGEMPlugin(10),
    "gss": lambda: GSSPlugin(300, 5),
}


@pytest.mark.parametrize("make", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_memory_is_shown_each_sample_once(benchmark, make, repeats):
    plugin = make()
    seen = shown(plugin.buffer)
    trained(benchmark, plugin, RepeatedSteps(repeats), train_epochs=2)
    stream = torch.cat([experience.dataset.x for experience in benchmark.train_stream])
    found = torch.cat(seen).flatten(1)
    assert len(found) == len(stream)
    assert sorted(found.tolist()) == sorted(stream.flatten(1).tolist())


def test_a_joined_memory_does_not_draw_the_batch_at_hand(benchmark):
    """In the first batch's repeats there is nothing to draw."""
    spy = Spy()
    trained(benchmark, OnlineReplayPlugin(100, 5), RepeatedSteps(3), spy)
    assert [len(y) for _, y, *_ in spy.mbatches[:4]] == [10, 10, 10, 15]


def test_the_most_recent_rows_are_counted_once(benchmark):
    """An estimate of 20 rows needs the last two batches, however often each is stepped on."""

    def curvature(repeats, every):
        plugin = OnlineEWCPlugin(lam=0.0, every=every, n_samples=20)
        made = trained(benchmark, plugin, RepeatedSteps(repeats), strategy=Frozen)
        assert made is not None
        return plugin.curvature.diagonal

    class Frozen(Naive):
        def optimizer_step(self):
            pass

    torch.testing.assert_close(curvature(1, 4), curvature(3, 12))


def test_repeats_reach_loaders_that_strategies_bring(benchmark):
    """ER_ACE sets a loop of its own; Replay sets its loader after all plugins."""
    spy = Spy()
    trained(benchmark, RepeatedSteps(2), spy, strategy=ER_ACE, mem_size=20, batch_size_mem=5)
    assert len(spy.mbatches) == 2 * 4 * 5


LEARNED = """
import torch

class Learned(torch.nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
"""


class Norms(SupervisedPlugin):
    """Lengths of the gradient before and after each step."""

    def __init__(self):
        super().__init__()
        self.seen_before, self.seen_after = [], []

    def after_backward(self, strategy, **kwargs):
        self.seen_before.append(norm(strategy))

    def after_update(self, strategy, **kwargs):
        self.seen_after.append(norm(strategy))


def norm(strategy):
    gradients = [p.grad.double().flatten() for p in strategy.model.parameters()]
    return float(torch.cat(gradients).norm())


def clipped(benchmark, max_norm, *plugins, strategy=Naive, **given):
    """A strategy that has been trained with an optimizer that clips."""
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clip(optimizer, max_norm)
    plugins = [InMemoryLoaders(), *plugins]
    made = quiet(strategy, model=model, optimizer=optimizer, plugins=plugins, **given)
    train(made, benchmark)
    return made


def test_the_gradient_is_no_longer_than_asked_for(benchmark):
    norms = Norms()
    clipped(benchmark, 0.5, norms)
    assert max(norms.seen_before) > 1
    for before, after in zip(norms.seen_before, norms.seen_after, strict=True):
        assert after == pytest.approx(min(before, 0.5), rel=1e-5)


@pytest.mark.parametrize("n_iterations", [1, 3])
def test_steps_that_a_plugin_takes_beside_the_strategys_are_clipped_too(benchmark, n_iterations):
    plugin = GSSPlugin(300, 5, n_iterations)
    made = clipped(benchmark, 1e-9, plugin)
    torch.testing.assert_close(
        weights(made), weights(quiet(model=small_model())), atol=1e-6, rtol=0
    )


def test_strategies_with_a_loop_of_their_own_are_clipped(benchmark):
    given = {"mem_size": 20, "batch_size_mem": 5, "n_inner_steps": 2}
    made = clipped(benchmark, 1e-9, strategy=MER, **given)
    torch.testing.assert_close(
        weights(made), weights(quiet(model=small_model())), atol=1e-6, rtol=0
    )


def test_a_schedule_by_iteration_starts_again_in_each_experience(benchmark):
    rates = Rates()
    trained(benchmark, Schedule(lambda o: StepLR(o, 2, 0.1), "iteration", True), rates)
    assert rates.seen == pytest.approx([0.1, 0.1, 0.01, 0.01] * 5)


def test_a_schedule_by_epoch_may_run_over_all_experiences(benchmark):
    rates = Rates()
    plugin = Schedule(lambda o: StepLR(o, 3, 0.1), "epoch", False)
    trained(benchmark, plugin, rates, train_epochs=2)
    by_epoch = [0.1] * 3 + [0.01] * 3 + [0.001] * 3 + [0.0001]
    assert rates.seen == pytest.approx([rate for rate in by_epoch for _ in range(4)])


def test_a_schedule_with_counters_of_its_own_starts_again(benchmark):
    rates = Rates()
    make = lambda o: CosineAnnealingWarmRestarts(o, T_0=3)  # noqa: E731
    trained(benchmark, Schedule(make, "iteration", True), rates)
    cosine = [0.05 * (1 + math.cos(math.pi * (i % 3) / 3)) for i in range(4)]
    assert rates.seen == pytest.approx(cosine * 5)


def test_memories_of_one_sample_can_be_repeated(benchmark):
    memory = ReservoirBuffer(1)
    trained(benchmark, OnlineReplayPlugin(1, 1, buffer=memory), RepeatedSteps(2))
    assert len(memory) == 1


def as_run(folder, **changed):
    """What a YAML's cell is built to."""
    return build(cell(folder, **changed), data_root=None)


def trained_as_told(folder, **changed):
    one = cell(folder, **changed)
    assert run_cell(one, folder, None) == "completed", (
        one.directory(folder) / "failure.json"
    ).read_text()
    return json.loads((one.directory(folder) / "result.json").read_text())


def test_a_yaml_says_all_of_it(tmp_path):
    training = {
        "batch_size": 5,
        "iterations": 7,
        "repeats": 2,
        "clip_grad_norm": 0.5,
        "criterion": {"name": "CrossEntropyLoss", "label_smoothing": 0.1},
        "scheduler": {"name": "StepLR", "step_size": 2, "gamma": 0.1, "by": "iteration"},
    }
    made = as_run(tmp_path, training=training)
    rates, spy = Rates(), Spy()
    made.strategy.plugins += [rates, spy]
    for experience in made.benchmark.train_stream:
        made.strategy.train(experience, eval_streams=[])
    by_experience = [0.05, 0.05, 5e-3, 5e-3, 5e-4, 5e-4, 5e-5]
    assert rates.seen == pytest.approx(by_experience * 2)
    for first, second in zip(spy.mbatches[0:6:2], spy.mbatches[1:6:2], strict=True):
        assert torch.equal(first[0], second[0])
    assert criterion_of(made.strategy).label_smoothing == 0.1


@pytest.mark.parametrize("online", [None, 15])
@pytest.mark.parametrize("reset", [False, True])
def test_an_optimizer_keeps_or_loses_its_state_between_experiences(tmp_path, reset, online):
    """60 samples an experience; parts of an online stream are one experience."""
    n_steps = 12
    seen = []

    class Steps(SupervisedPlugin):
        def before_update(self, strategy, **kwargs):
            states = strategy.optimizer.state.values()
            seen.append(max((float(state["step"]) for state in states), default=0))

    optimizer = {"name": "Adam", "lr": 0.01, "reset": reset}
    benchmark = {**SMALL["benchmark"], "online": online}
    made = as_run(tmp_path, optimizer=optimizer, benchmark=benchmark)
    made.strategy.plugins.append(Steps())
    for experience in made.benchmark.train_stream:
        made.strategy.train(experience, eval_streams=[])
    assert seen == ([*range(n_steps)] * 2 if reset else [*range(2 * n_steps)])


def test_a_schedule_of_an_online_stream_starts_again_with_its_experiences(tmp_path):
    training = {
        "batch_size": 5,
        "scheduler": {"name": "StepLR", "step_size": 6, "gamma": 0.1, "by": "iteration"},
    }
    benchmark = {**SMALL["benchmark"], "online": 5}
    made = as_run(tmp_path, training=training, benchmark=benchmark)
    rates = Rates()
    made.strategy.plugins.append(rates)
    for experience in made.benchmark.train_stream:
        made.strategy.train(experience, eval_streams=[])
    assert rates.seen == pytest.approx(([0.05] * 6 + [0.005] * 6) * 2)


def test_a_limit_that_is_met_by_the_last_batch_stops_no_other_experience(benchmark):
    """Several experiences in one call, each of one batch and trained for as many epochs."""
    model, spy = small_model(), Spy()
    made = quiet(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        plugins=[InMemoryLoaders(), IterationLimit(2), spy],
        train_mb_size=N_SAMPLES,
        train_epochs=2,
    )
    made.train([*benchmark.train_stream], eval_streams=[])
    assert len(spy.mbatches) == 2 * len(benchmark.train_stream)


def test_a_run_resets_its_optimizer(tmp_path):
    """Seen in the numbers of whole runs, which differ."""
    optimizer = {"name": "SGD", "lr": 0.05, "momentum": 0.9}
    kept, reset = (
        trained_as_told(tmp_path, name=f"reset_{reset}", optimizer={**optimizer, "reset": reset})
        for reset in (False, True)
    )
    assert kept["R"][0] == reset["R"][0]
    assert kept["R"][1] != reset["R"][1]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("./losses.py:OfTargets", "does not take logits"),
        ("./losses.py:NoLoss", "does not take logits"),
        ("./losses.py:Learned", "has parameters to learn"),
    ],
)
def test_a_criterion_of_something_else_is_refused_before_training(tmp_path, name, wrong):
    others = (
        "\nclass OfTargets(torch.nn.BCEWithLogitsLoss): ...\nclass NoLoss(torch.nn.ReLU): ...\n"
    )
    (tmp_path / "losses.py").write_text(LEARNED + others, "utf-8")
    with pytest.raises(ComponentError, match=wrong):
        as_run(tmp_path, training={"batch_size": 5, "criterion": name})


def test_a_torchvision_model_may_have_a_head_a_task(tmp_path):
    benchmark = {**SMALL["benchmark"], "scenario": "task", "channels": 3, "image_size": 32}
    model = {"name": "torchvision:squeezenet1_1", "multi_head": True}
    with pytest.raises(ValueError, match="no Linear layer"):
        as_run(tmp_path, benchmark=benchmark, model=model)


VIT = "torchvision.models.vision_transformer:VisionTransformer"
SMALL_VIT = {"image_size": 32, "patch_size": 16, "num_layers": 1, "num_heads": 1, "hidden_dim": 8,
             "mlp_dim": 8}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "place"),
    [
        ("torchvision:mobilenet_v3_small", {}, "classifier"),
        ("torchvision:resnet18", {}, "fc"),
        (VIT, SMALL_VIT, "heads"),
    ],
)
def test_the_last_layer_of_a_model_becomes_heads_wherever_it_is(tmp_path, name, args, place):
    benchmark = {**SMALL["benchmark"], "scenario": "task", "channels": 3, "image_size": 32}
    model = {"name": name, **args, "multi_head": True}
    made = as_run(tmp_path, benchmark=benchmark, model=model)
    first, *_ = made.benchmark.train_stream
    made.strategy.train(first, eval_streams=[])
    made.strategy.eval(made.benchmark.test_stream)
    modules = made.strategy.model.named_modules()
    ((found, heads),) = ((n, m) for n, m in modules if isinstance(m, MultiHeadClassifier))
    assert found.partition(".")[0] == place
    assert [*heads.classifiers] == ["0", "1"]


@pytest.mark.parametrize("model", [{"name": "mlp", "multi_head": True}, {"name": "supsup"}])
def test_heads_and_masks_need_task_labels(tmp_path, model):
    (tmp_path / "mine.py").write_text(WITHOUT_LABELS, "utf-8")
    model = {**model, "hidden_sizes": [5]}
    with pytest.raises(ValueError, match="all experiences have the same"):
        as_run(tmp_path, benchmark="./mine.py:plain", model=model)


@pytest.mark.parametrize("strategy", ["PNNStrategy", "PackNet"])
def test_strategies_for_tasks_need_a_label_an_experience(tmp_path, strategy):
    (tmp_path / "mine.py").write_text(WITHOUT_LABELS, "utf-8")
    args = {"post_prune_epochs": 1, "prune_proportion": 0.5} if strategy == "PackNet" else {}
    methods = {"naive": {"strategy": f"avalanche:{strategy}", "args": args}}
    training = {"batch_size": 5, "epochs": 2}
    given = {"benchmark": "./mine.py:plain", "methods": methods, "training": training}
    with pytest.raises(ValueError, match="but the 2 experiences have 1: use a benchmark with task"):
        as_run(tmp_path, **given)


WITHOUT_LABELS = """
from avalanche_ext.benchmarks import split_digits

def plain():
    return split_digits(n_experiences=2, train_size=20)
"""
