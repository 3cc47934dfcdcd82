"""GEM and modular GEM inside real strategies, on a real benchmark."""

from functools import partial

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.training.plugins import EWCPlugin, GEMPlugin, MIRPlugin, ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from torch import nn

from avalanche_ext.benchmarks import permuted_digits, split_digits
from avalanche_ext.buffers import ReservoirBuffer, RingBuffer, TaskBuffer
from avalanche_ext.functional.factors import FactoredGradients
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    MGEMPlugin,
    OnlineReplayPlugin,
)
from tests.cases import Spy, digits, make_naive, small_model, train, weights
from tests.plugins.gem_cases import Expected, by_layer, by_tensor, one_block

SMALL = {"n_experiences": 3, "train_size": 60}


def check(plugin, expected, model=None, benchmark=None, before=(), after=()):
    """Train with the plugin, each gradient compared; both outcomes must have been seen."""
    strategy = make_naive(*before, plugin, *after, expected, batch_size=10, model=model)
    train(strategy, benchmark or digits("permuted", **SMALL))
    assert expected.n_projected >= 2
    assert expected.n_free >= 2
    return strategy


@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize(
    ("partition", "blocks"),
    [
        ("none", one_block),
        ("layer", by_layer),
        ("tensor", by_tensor),
        (["*.weight", "*.bias"], lambda names: [names[0::2], names[1::2]]),
        (["classifier.*"], lambda names: [names[:4], names[4:]]),
    ],
)
def test_every_step_is_the_projection_by_definition(strength, partition, blocks):
    plugin = MGEMPlugin(20, strength, partition=partition)
    check(plugin, Expected(plugin, strength, blocks))


@pytest.mark.parametrize("n_groups", [2, 3])
@pytest.mark.parametrize("partition", ["none", "layer"])
def test_d_mgem_has_a_constraint_for_each_group(n_groups, partition):
    plugin = MGEMPlugin(20, 0.1, n_groups=n_groups, partition=partition)
    blocks = by_layer if partition == "layer" else one_block
    expected = Expected(plugin, 0.1, blocks, n_groups=n_groups)
    check(plugin, expected)
    assert expected.most_constraints == 2 * n_groups


@pytest.mark.parametrize("partition", ["none", "tensor"])
def test_the_diagonal_approximation(partition):
    plugin = MGEMPlugin(20, 0.5, solver="diagonal", partition=partition)
    blocks = by_tensor if partition == "tensor" else one_block
    check(plugin, Expected(plugin, 0.5, blocks, diagonal=True))


def convolutional(*, normalised: bool) -> nn.Module:
    torch.manual_seed(0)
    between = nn.BatchNorm2d(4) if normalised else nn.Identity()
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), between, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 10)
    )


def test_layers_that_are_not_linear():
    plugin = MGEMPlugin(10, 0.5, partition="layer")
    check(plugin, Expected(plugin, 0.5, by_layer), convolutional(normalised=False))


def test_batch_normalisation():
    plugin, model = MGEMPlugin(10, 0.5), convolutional(normalised=True)
    check(plugin, Expected(plugin, 0.5), model)
    assert model[1].num_batches_tracked == 18 + 6 + 12, "it sees the memory's batches as well"


def test_normalisation_without_parameters_sees_one_constraint_at_a_time():
    plugin = MGEMPlugin(10, 0.5)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16, affine=False), nn.ReLU(),
        nn.Linear(16, 10),
    )  # fmt: skip
    check(plugin, Expected(plugin, 0.5), model)


def test_multi_head_models_have_references_on_the_right_head():
    benchmark = split_digits(n_experiences=5, train_size=60, scenario="task")
    plugin = MGEMPlugin(20, 0.5, n_groups=2)
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    strategy = check(plugin, Expected(plugin, 0.5, n_groups=2), model, benchmark)
    assert len([p for p in strategy.model.parameters() if p.shape[0] == 2]) == 2 * 5


def test_a_head_that_no_loss_reaches_has_no_gradient():
    class Check(Spy):
        def before_update(self, strategy, **kwargs):
            for name, p in strategy.model.named_parameters():
                used = f".{strategy.experience.task_label}." in name or "hidden" in name
                if not used and p.grad is not None:
                    self.checked += 1
                    assert p.grad.any()

    benchmark = split_digits(n_experiences=5, train_size=60, scenario="task")
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    spy = Check()
    train(make_naive(MGEMPlugin(20, 0.5), spy, model=model), benchmark)
    assert spy.checked > 0, "an old head is moved by its task's reference gradient"


def test_class_incremental_streams():
    plugin = MGEMPlugin(20, 0.0)
    strategy = make_naive(plugin, expected := Expected(plugin, 0.0), batch_size=10)
    train(strategy, digits("split", train_size=60))
    assert expected.n_projected > 10
    assert expected.most_constraints == 4


def test_online_streams_have_a_constraint_for_each_origin_experience():
    plain = permuted_digits(**SMALL)
    plugins = MGEMPlugin(20, 0.5), MGEMPlugin(20, 0.5)
    batch, online = (make_naive(p, Expected(p, 0.5), batch_size=10) for p in plugins)
    for experience in plain.train_stream:
        batch.train(experience, shuffle=False, eval_streams=[])
    stream = split_online_stream(plain.train_stream, experience_size=10, shuffle=False)
    for experience in stream:
        online.train(experience, eval_streams=[])
    assert [*plugins[1].buffer.groups("task")] == [0, 1, 2]
    torch.testing.assert_close(weights(batch), weights(online), atol=1e-6, rtol=1e-5)


def test_the_memory_holds_the_last_samples_of_each_task_as_they_came():
    spy, plugin = Spy(), MGEMPlugin(20)
    strategy = make_naive(plugin, spy, batch_size=7)
    for experience in permuted_digits(**SMALL).train_stream:
        spy.mbatches.clear()
        strategy.train(experience, eval_streams=[])
        arrived = torch.cat([x for x, _, _ in spy.mbatches])
        slots = plugin.buffer.groups("task")[experience.current_experience]
        assert torch.equal(plugin.buffer._storage.columns[0][slots], arrived[-20:])


def test_the_memory_fills_while_its_task_is_first_seen():
    sizes = []

    class Check(Spy):
        def before_forward(self, strategy, **kwargs):
            sizes.append(len(plugin.buffer))

    plugin = MGEMPlugin(25)
    strategy = make_naive(plugin, Check(), batch_size=10, train_epochs=2)
    train(strategy, permuted_digits(n_experiences=1, train_size=60))
    assert sizes == [10, 20, 25, 25, 25, 25] + [25] * 6
    assert plugin.buffer.n_seen == 60, "once, not in each epoch"


def test_a_strength_for_each_experience():
    plugin = MGEMPlugin(20, [2.0, 0.0, 1.0])
    expected = Expected(plugin, 0.0)

    class Schedule(Spy):
        def before_training_exp(self, strategy, **kwargs):
            expected.strength = {0: 2.0, 1: 0.0, 2: 1.0, 3: 1.0}[plugin._origin]

    benchmark = digits("permuted", n_experiences=4, train_size=60)
    check(plugin, expected, benchmark=benchmark, after=[Schedule()])


class TestOtherMemories:
    def test_a_reservoir_grouped_by_task(self):
        plugin = MGEMPlugin(buffer=ReservoirBuffer(50, seed=1))
        expected = Expected(plugin, 0.5)
        check(plugin, expected)
        assert len(plugin.buffer) == 50
        assert expected.most_constraints == 2

    def test_constraints_of_classes_leave_out_the_current_tasks_samples(self):
        class ByClass(Expected):
            def constraints(self):
                buffer, current = self.plugin.buffer, self.plugin._origin
                x, y, t = buffer._storage.occupied()
                old = torch.tensor([o != current for o in buffer._origin[: len(buffer)]])
                order = [label for label in buffer.groups("class") if (old & (y == label)).any()]
                return [[c[old & (y == label)] for c in (x, y, t)] for label in order]

        plugin = MGEMPlugin(group_by="class", buffer=RingBuffer(60))
        expected = ByClass(plugin, 0.5)
        check(plugin, expected)
        assert expected.most_constraints == 10

    def test_one_of_avalanches(self):
        benchmark = split_digits(n_experiences=5, train_size=60, scenario="task")
        policy = ClassBalancedBuffer(30)
        plugin = MGEMPlugin(buffer=policy)
        model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
        strategy = make_naive(plugin, expected := Expected(plugin, 0.5), model=model)
        train(strategy, benchmark)
        assert expected.n_projected > 0
        assert len(plugin.buffer) == len(policy.buffer) == 30


class TestCompositions:
    def test_penalties_are_projected_and_references_are_plain(self):
        class Decay(Spy):
            def before_backward(self, strategy, **kwargs):
                strategy.loss += decay(strategy.model)

        def decay(model):
            return 0.02 * sum((p**2).sum() for p in model.parameters())

        plugin = MGEMPlugin(20, 0.5)
        check(plugin, Expected(plugin, 0.5, penalty=decay), before=[Decay()])

    def test_the_streams_rows_are_stored_behind_a_replay_plugin(self):
        for replay in (OnlineReplayPlugin(40), BalancedReplayPlugin(40)):
            plugin, spy = MGEMPlugin(20), Spy()
            strategy = make_naive(spy, replay, plugin, batch_size=5)
            strategy.plugins.insert(0, early := StreamSpy())
            train(strategy, digits("permuted", **SMALL))
            arrived = torch.cat(early.seen)
            assert plugin.buffer.n_seen == len(arrived) == 180
            assert torch.equal(plugin.buffer._storage.columns[0][40:60].sort(0)[0],
                               arrived[-20:].sort(0)[0])  # fmt: skip

    def test_a_memory_shared_with_a_replay_plugin_is_written_once(self):
        buffer = TaskBuffer(20)
        strategy = make_naive(OnlineReplayPlugin(buffer=buffer), MGEMPlugin(buffer=buffer))
        train(strategy, digits("permuted", **SMALL))
        assert buffer.n_seen == 180

    def test_with_a_representation_loss(self):
        strategy = make_naive(DRLPlugin(lam=0.01), MGEMPlugin(20), BalancedReplayPlugin(40))
        train(strategy, digits("permuted", **SMALL))
        assert torch.isfinite(weights(strategy)).all()

    @pytest.mark.parametrize("other", [ReplayPlugin, partial(MIRPlugin, 5, 5)])
    def test_avalanches_replay_is_refused(self, other):
        strategy = make_naive(MGEMPlugin(20), other())
        with pytest.raises(ValueError, match=r"MGEMPlugin and (Replay|MIR)Plugin cannot be comb"):
            train(strategy, digits())

    def test_with_avalanches_penalty(self):
        plugin = MGEMPlugin(20)
        strategy = make_naive(EWCPlugin(0.001), plugin)
        train(strategy, digits("permuted", **SMALL))
        assert torch.isfinite(weights(strategy)).all()


class StreamSpy(Spy):
    """Keeps what the stream brings, before any plugin has changed it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def before_training_iteration(self, strategy, **kwargs):
        self.seen.append(strategy.mb_x)


def test_one_task_is_learned_as_without_it():
    benchmark = permuted_digits(n_experiences=1, train_size=100)
    strategies = make_naive(), make_naive(MGEMPlugin(20, partition="tensor", statistics=True))
    for strategy in strategies:
        train(strategy, benchmark)
    assert torch.equal(*map(weights, strategies))


def test_factors_and_whole_gradients_give_the_same_weights(monkeypatch):
    def trained(**arguments):
        strategy = make_naive(MGEMPlugin(20, **arguments), batch_size=10)
        train(strategy, digits("permuted", **SMALL))
        return weights(strategy)

    several = [{}, {"partition": "layer"}, {"partition": "tensor", "n_groups": 2}]
    by_factors = [trained(**arguments) for arguments in several]
    monkeypatch.setattr(FactoredGradients, "matches", lambda *_: False)
    for arguments, expected in zip(several, by_factors, strict=True):
        torch.testing.assert_close(trained(**arguments), expected, atol=1e-5, rtol=1e-4)


def test_n_equal_blocks_of_one_are_gem():
    def trained(partition):
        strategy = make_naive(MGEMPlugin(20, partition=partition), batch_size=10)
        train(strategy, digits("permuted", **SMALL))
        return weights(strategy)

    torch.testing.assert_close(trained(1), trained("none"), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(trained(7), trained("none"), atol=1e-3)


def test_it_forgets_less_than_avalanches_gem_does_with_small_gradients():
    def worst_increase(plugin):
        """Of the first task's memory loss over a step, in the second task, relative."""
        model = small_model()
        strategy = make_naive(plugin, model=model, batch_size=10)
        strategy._criterion = lambda out, y: 1e-4 * nn.functional.cross_entropy(out, y)
        strategy.optimizer.param_groups[0]["lr"] = 10.0
        benchmark = permuted_digits(n_experiences=2, train_size=200)
        first, second = benchmark.train_stream
        strategy.train(first, shuffle=False, eval_streams=[])
        x, y, _ = first.dataset.fetch(slice(-20, None))
        steps = []

        class Watch(Spy):
            def loss(self):
                with torch.no_grad():
                    return float(nn.functional.cross_entropy(model(x), y))

            def before_update(self, strategy, **kwargs):
                self.before = self.loss()

            def after_update(self, strategy, **kwargs):
                steps.append(self.loss() - self.before)

        strategy.plugins.insert(0, Watch())
        strategy.train(second, shuffle=False, eval_streams=[])
        return max(steps)

    ours = worst_increase(MGEMPlugin(20, 0.0))
    theirs = worst_increase(GEMPlugin(20, 0.0))
    assert ours < 0.5 * theirs


class TestDegenerateCases:
    def test_a_memory_of_one_sample(self):
        plugin = MGEMPlugin(1)
        check(plugin, Expected(plugin, 0.5))

    def test_more_groups_than_samples(self):
        plugin = MGEMPlugin(2, n_groups=5)
        strategy = make_naive(plugin, batch_size=10)
        train(strategy, digits("permuted", **SMALL))
        assert [len(slots) for slots in plugin.buffer.groups("task").values()] == [2, 2, 2]

    def test_a_gradient_of_zero_stays_zero(self):
        strategy = make_naive(MGEMPlugin(5))
        strategy._criterion = lambda outputs, y: 0.0 * outputs.sum()
        before = weights(strategy).clone()
        train(strategy, digits("permuted", **SMALL))
        assert torch.equal(weights(strategy), before)

    def test_a_diverged_model_is_named(self):
        strategy = make_naive(MGEMPlugin(5, 0.5))
        strategy.optimizer.param_groups[0]["lr"] = 1e30
        with pytest.raises(FloatingPointError, match="training has diverged"):
            train(strategy, digits("permuted", **SMALL))

    def test_frozen_parameters_are_left_out(self):
        model = small_model()
        model.hidden[0].weight.requires_grad_(False)
        before = model.hidden[0].weight.clone()
        plugin = MGEMPlugin(20, partition="tensor")
        train(make_naive(plugin, model=model, batch_size=10), digits("permuted", **SMALL))
        assert torch.equal(model.hidden[0].weight, before)
        assert plugin._layout.names[0] == "hidden.0.bias"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"size_per_task": 0}, "size_per_task"),
        ({"memory_strength": -0.1}, "memory_strength"),
        ({"memory_strength": []}, "memory_strength"),
        ({"memory_strength": float("inf")}, "memory_strength"),
        ({"memory_strength": [0.5, -1.0]}, "memory_strength"),
        ({"partition": "layers"}, "partition"),
        ({"partition": 0}, "partition"),
        ({"n_groups": 0}, "n_groups"),
        ({"solver": "qp"}, "solver"),
        ({"group_by": "domain"}, "group_by"),
        ({"buffer": 256}, "buffer"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        MGEMPlugin(**arguments)


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (["hidden.*", "head.*"], r"'head\.\*' is the first to match none.*hidden\.0\.weight"),
        (10**6, r"partition=1000000: must be between 1 and 2778"),
    ],
)
def test_a_partition_that_does_not_fit_the_model_is_named_before_training(partition, message):
    strategy = make_naive(MGEMPlugin(partition=partition))
    before = weights(strategy).clone()
    with pytest.raises(ValueError, match=message):
        train(strategy, digits())
    assert torch.equal(weights(strategy), before)
