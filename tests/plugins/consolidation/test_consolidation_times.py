"""When something is consolidated, of which samples, and what becomes of earlier estimates."""

import pickle

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin

from avalanche_ext.functional.fisher.diagonal import diagonal_fisher
from avalanche_ext.plugins import OnlineEWCPlugin, OnlineReplayPlugin
from tests.cases import digits, small_model, weights
from tests.plugins.consolidation.consolidation_cases import (
    EACH,
    STRENGTH,
    Counting,
    naive,
    run,
    three_tasks,
)


def still(parameters):
    """An optimizer that leaves the parameters where they are."""
    return torch.optim.SGD(parameters, lr=0.0)


def online(benchmark, size=10, **given):
    """The benchmark's training stream, a mini-batch at a time."""
    return split_online_stream(benchmark.train_stream, size, shuffle=False, **given)


def train_on(strategy, stream):
    for experience in stream:
        strategy.train(experience, eval_streams=[], shuffle=False)


@pytest.mark.parametrize("normalisation", ["none", "max", "trace"])
def test_estimates_are_normalised_discounted_and_added(normalisation):
    plugin = OnlineEWCPlugin(20.0, 0.7, normalisation=normalisation)
    strategy, estimates = naive(plugin), []
    for experience in three_tasks().train_stream:
        strategy.train(experience, eval_streams=[])
        fisher = diagonal_fisher(strategy.model, experience.dataset.x, experience.dataset.y)
        new = torch.cat([piece.flatten() for piece in fisher.values()])
        size = {"none": 1.0, "max": new.max(), "trace": new.mean()}[normalisation]
        estimates.append(new / size)
        assert torch.equal(plugin.anchor, weights(strategy))
    first, second, third = estimates
    expected = 0.49 * first + 0.7 * second + third
    torch.testing.assert_close(plugin.curvature.diagonal, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("normalisation", ["max", "trace"])
@pytest.mark.parametrize("name", EACH)
def test_every_kind_of_estimate_can_be_normalised(name, normalisation):
    plugin = EACH[name](0.1, normalisation=normalisation)
    run(plugin, benchmark=three_tasks(n_experiences=1))
    size = plugin.curvature.trace / plugin.anchor.numel()
    assert {"max": plugin.curvature.largest, "trace": size}[normalisation] == pytest.approx(1)


@pytest.mark.parametrize("size", [10, 7])
@pytest.mark.parametrize("boundaries", [True, False])
def test_an_online_stream_gives_the_curvature_of_the_batch_stream(size, boundaries):
    of_batches, of_parts = Counting(lam=1.0, n_samples=12), Counting(lam=1.0, n_samples=12)
    run(of_batches, optimizer=still)
    strategy = naive(of_parts, optimizer=still)
    train_on(strategy, online(three_tasks(), size, access_task_boundaries=boundaries))
    assert len(of_parts.samples) == len(of_batches.samples) == 3
    for one, other in zip(of_parts.samples, of_batches.samples, strict=True):
        assert torch.equal(one[0], other[0])
    assert torch.equal(of_parts.curvature.diagonal, of_batches.curvature.diagonal)


def test_an_experience_that_is_broken_off_is_consolidated_when_the_next_begins():
    plugin = Counting(lam=1.0)
    strategy, parts = naive(plugin), [*online(three_tasks())]
    train_on(strategy, parts[:2])
    assert plugin.curvature is None
    strategy.train(parts[3], eval_streams=[])
    assert len(plugin.samples) == 1
    assert len(plugin.samples[0][0]) == 30  # of all the experience
    train_on(strategy, parts[4:6])
    assert len(plugin.samples) == 2
    train_on(strategy, parts[6:])
    assert len(plugin.samples) == 3


@pytest.mark.parametrize("size", [10, 7])
def test_parts_that_are_learned_several_times_are_consolidated_once(size):
    plugin = Counting(lam=1.0)
    strategy, found = naive(plugin), []
    n_parts = -(-30 // size)
    for i, part in enumerate(online(three_tasks(), size)):
        train_on(strategy, [part, part])
        found.append(len(plugin.samples))
        assert found[-1] == (i + 1) // n_parts
    assert found[-1] == 3


def test_the_model_is_as_a_broken_off_experience_has_left_it():
    plugin = Counting(lam=1.0)
    strategy, parts = naive(plugin), [*online(three_tasks())]
    strategy.train(parts[0], eval_streams=[])
    left = weights(strategy)

    class Look(SupervisedPlugin):
        def before_training_iteration(self, strategy, **kwargs):
            self.anchor = plugin.anchor.clone()

    strategy.plugins.append(look := Look())
    strategy.train(parts[3], eval_streams=[])
    assert torch.equal(look.anchor, left)


@pytest.mark.parametrize("name", EACH)
def test_each_kind_consolidates_online_streams(name):
    plugin = EACH[name](STRENGTH[name])
    strategy, anchors = naive(plugin), []
    for part in online(three_tasks()):
        strategy.train(part, eval_streams=[])
        anchors.append(plugin.anchor)
    assert anchors[0] is anchors[1] is None
    for first in (2, 5):
        assert all(torch.equal(anchor, anchors[first]) for anchor in anchors[first : first + 3])
        assert not torch.equal(anchors[first], anchors[first + 3])
    assert torch.equal(anchors[8], weights(strategy))


@pytest.mark.parametrize("name", EACH)
def test_without_boundaries_it_consolidates_every_so_many_iterations(name):
    n_samples = {} if name == "si" else {"n_samples": 15}
    plugin = EACH[name](STRENGTH[name], every=4, **n_samples)

    anchors = []

    class Look(SupervisedPlugin):
        def after_training_iteration(self, strategy, **kwargs):
            anchors.append((plugin.anchor, weights(strategy)))

    strategy = naive(plugin, Look())
    train_on(strategy, online(three_tasks()))
    assert [anchor is None for anchor, _ in anchors] == [True] * 3 + [False] * 6
    for i in (3, 7):
        assert torch.equal(*anchors[i])
    for i in (4, 5, 6, 8):
        assert torch.equal(anchors[i][0], anchors[i - i % 4 - 1][0])


def test_without_boundaries_estimates_are_of_the_last_rows_of_the_stream():
    benchmark = three_tasks()
    x = torch.cat([e.dataset.x for e in benchmark.train_stream])
    plugin = Counting(lam=1.0, every=4, n_samples=25)
    strategy = naive(OnlineReplayPlugin(20, 5), plugin)
    train_on(strategy, online(benchmark))
    assert len(plugin.samples) == 2
    assert torch.equal(plugin.samples[0][0], x[15:40])
    assert torch.equal(plugin.samples[1][0], x[55:80])


def test_there_may_be_fewer_rows_than_asked_for():
    plugin = Counting(lam=1.0, every=2, n_samples=1000)
    run(plugin, benchmark=three_tasks(n_experiences=1))
    assert [len(y) for _, y in plugin.samples] == [20]


def test_samples_are_drawn_without_replacement_by_its_own_seed():
    drawn = {}
    for seed in (0, 1):
        plugin = Counting(lam=1.0, n_samples=12, seed=seed)
        benchmark = three_tasks()
        run(plugin, benchmark=benchmark)
        drawn[seed] = [x for x, _ in plugin.samples]
        for experience, x in zip(benchmark.train_stream, drawn[seed], strict=True):
            held = experience.dataset.x.flatten(1)
            assert len(x.flatten(1).unique(dim=0)) == 12
            assert all((held == sample).all(1).any() for sample in x.flatten(1))
    assert not torch.equal(drawn[0][0], drawn[1][0])


@pytest.mark.parametrize("name", [name for name in EACH if name != "si"])
def test_more_samples_than_there_are_mean_all_of_them(name):
    more, as_many = EACH[name](1.0, n_samples=1000), EACH[name](1.0, n_samples=30)
    assert torch.equal(weights(run(more)), weights(run(as_many)))


@pytest.mark.parametrize("name", EACH)
def test_an_experience_may_have_a_single_class(name):
    plugin = EACH[name](STRENGTH[name])
    strategy = run(plugin, benchmark=digits(n_experiences=10, train_size=20))
    assert plugin.curvature.trace > 0
    assert torch.isfinite(weights(strategy)).all()


# The number of eigenvectors of Kronecker factors varies: see test_kronecker_ewc.py.
@pytest.mark.parametrize("name", [name for name in EACH if name != "kronecker"])
def test_memory_does_not_grow_with_the_number_of_tasks(name):
    plugin = EACH[name](STRENGTH[name])
    strategy, sizes = naive(plugin, model=small_model()), []
    for experience in three_tasks(n_experiences=6).train_stream:
        strategy.train(experience, eval_streams=[])
        sizes.append(len(pickle.dumps(plugin)))
    assert max(sizes[1:]) - min(sizes[1:]) < 100
    n_vectors = {"spectrum": 7, "spectrum alone": 6, "si": 4}.get(name, 2)
    bytes_of_a_vector = 4 * plugin.anchor.numel()
    assert sizes[-1] < (n_vectors + 0.9) * bytes_of_a_vector


@pytest.mark.parametrize(("name", "n_vectors"), [("online ewc", 3), ("mas", 3), ("spectrum", 9)])
def test_what_a_running_plugin_holds_is_a_few_vectors(name, n_vectors):
    """F, the anchor, and what of the proximal step does not change between steps."""
    plugin = EACH[name](STRENGTH[name])
    strategy = run(plugin, model=small_model())
    strategy.train(three_tasks().train_stream[0], eval_streams=[])
    own = {p.untyped_storage().data_ptr() for p in strategy.model.parameters()}
    held = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors_of(plugin)
    }
    n_bytes = sum(size for place, size in held.items() if place not in own)
    assert n_bytes < (n_vectors + 0.9) * 4 * plugin.anchor.numel()
    assert plugin.diagnostics()[f"{plugin.prefix}/megabytes"] * 1e6 <= n_bytes


def test_what_has_diverged_is_not_consolidated():
    plugin = OnlineEWCPlugin(1.0)
    strategy = naive(plugin)
    torch.nn.init.constant_(strategy.model.classifier.weight, 1e30)
    strategy.optimizer.param_groups[0]["lr"] = 0.0
    with pytest.raises(FloatingPointError, match=r"OnlineEWCPlugin: .* training has diverged"):
        strategy.train(three_tasks().train_stream[0], eval_streams=[])
    assert plugin.curvature is None


def test_numbers_are_of_the_experience_that_has_just_been_consolidated():
    plugin = OnlineEWCPlugin(1.0)
    strategy, told = naive(plugin), []
    for part in split_online_stream(three_tasks().train_stream, 15, seed=0):
        strategy.train(part, eval_streams=[])
        told.append(bool(plugin.diagnostics()))
    assert told == [False, True] * 3


def tensors_of(thing, seen=None):
    """All tensors that can be reached from an object through attributes and containers."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, torch.nn.Module):
        return []
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        return [thing]
    if isinstance(thing, dict):
        inside = [*thing.values()]
    elif isinstance(thing, list | tuple):
        inside = [*thing]
    else:
        inside = [*vars(thing).values()] if hasattr(thing, "__dict__") else []
    return [tensor for each in inside for tensor in tensors_of(each, seen)]
