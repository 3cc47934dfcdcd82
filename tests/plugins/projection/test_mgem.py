"""GEM and modular GEM inside real strategies, on a real benchmark."""

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.training.plugins import GEMPlugin
from torch import nn

from avalanche_ext.benchmarks import permuted_digits, split_digits
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import MGEMPlugin
from tests.cases import Spy, digits, make_naive, small_model, train, weights
from tests.plugins.projection.gem_cases import (
    SMALL,
    Expected,
    by_layer,
    by_tensor,
    check,
    one_block,
)


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


def test_a_strength_for_each_experience():
    plugin = MGEMPlugin(20, [2.0, 0.0, 1.0])
    expected = Expected(plugin, 0.0)

    class Schedule(Spy):
        def before_training_exp(self, strategy, **kwargs):
            expected.strength = {0: 2.0, 1: 0.0, 2: 1.0, 3: 1.0}[plugin._origin]

    benchmark = digits("permuted", n_experiences=4, train_size=60)
    check(plugin, expected, benchmark=benchmark, after=[Schedule()])


def test_one_task_is_learned_as_without_it():
    benchmark = permuted_digits(n_experiences=1, train_size=100)
    strategies = make_naive(), make_naive(MGEMPlugin(20, partition="tensor", statistics=True))
    for strategy in strategies:
        train(strategy, benchmark)
    assert torch.equal(*map(weights, strategies))


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
