"""Avalanche's own strategies learn bit for bit the same from data in memory, given the order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche.benchmarks import (
    CLScenario,
    SplitMNIST,
    benchmark_from_datasets,
    split_online_stream,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.core import SupervisedPlugin
from avalanche.models import PNN
from avalanche.training import (
    AGEM,
    DER,
    EWC,
    GEM,
    MIR,
    ClassBalancedBuffer,
    GDumb,
    LwF,
    Naive,
    Replay,
    ReservoirSamplingBuffer,
)
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.supervised import ER_ACE, ICaRL, PNNStrategy
from torch import Tensor, nn

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.data import InMemoryDataset, InMemoryLoaders, in_memory
from avalanche_ext.models import MLP
from tests.cases import DATA_ROOT, needs_mnist, plain_benchmark, quiet, weights

MEMORIES: dict[str, Callable[..., Any]] = {
    "Replay": lambda **given: quiet(Replay, mem_size=30, **given),
    "GEM": lambda **given: quiet(GEM, patterns_per_exp=20, memory_strength=0.5, **given),
    "EWC": lambda **given: quiet(EWC, ewc_lambda=0.05, **given),
    "online EWC": lambda **given: quiet(
        EWC, ewc_lambda=0.05, mode="online", decay_factor=0.9, **given
    ),
}
STRATEGIES = {"Naive": lambda **given: quiet(Naive, **given), **MEMORIES}


class Reseed(SupervisedPlugin):  # type: ignore[misc]
    """Seeds the global generator where the default loaders differ in what they draw from it."""

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        torch.manual_seed(strategy.clock.train_exp_counter)

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        torch.manual_seed(strategy.clock.train_exp_counter)


@pytest.fixture(scope="module")
def plain() -> CLScenario:
    """Digits as Avalanche would hold them, each sample through a transform of its own."""
    return plain_benchmark(split_digits(train_size=45, test_size=20), lambda x: x * 2 - 1)


@pytest.fixture(scope="module")
def held(plain: CLScenario) -> CLScenario:
    return in_memory(plain)


def trained(make: Callable[..., Any], stream: Any, plugins: Any = (), **given: Any) -> Tensor:
    torch.manual_seed(0)
    random.seed(0)  # for A-GEM
    strategy = make(plugins=[*plugins])
    strategy.train(stream, **given)
    return weights(strategy)


def assert_same_but_not_initial(ours: Tensor, theirs: Tensor) -> None:
    assert ours.isfinite().all()
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, weights(quiet()))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("drop_last", [False, True])
def test_in_a_given_order(name: str, drop_last: bool, plain: CLScenario, held: CLScenario) -> None:
    def run(benchmark: CLScenario, *plugins: Any) -> Tensor:
        return trained(
            STRATEGIES[name],
            benchmark.train_stream,
            [*plugins, Reseed()],
            shuffle=False,
            drop_last=drop_last,
        )

    assert_same_but_not_initial(run(held, InMemoryLoaders()), run(plain))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("train_mb_size", [1, 64])
def test_small_batches_and_ones_larger_than_the_data(
    name: str, train_mb_size: int, plain: CLScenario, held: CLScenario
) -> None:
    def run(benchmark: CLScenario, *plugins: Any) -> Tensor:
        return trained(
            lambda **given: STRATEGIES[name](train_mb_size=train_mb_size, train_epochs=2, **given),
            benchmark.train_stream[:3],
            [*plugins, Reseed()],
            shuffle=False,
        )

    assert_same_but_not_initial(run(held, InMemoryLoaders()), run(plain))


@pytest.mark.parametrize(
    "policy", [ReservoirSamplingBuffer, ClassBalancedBuffer], ids=lambda policy: policy.__name__
)
def test_replay_in_its_own_shuffled_order(policy: Any, plain: CLScenario, held: CLScenario) -> None:
    """Avalanche's ReplayDataLoader draws the same rows from our datasets under the same seed."""

    def run(benchmark: CLScenario) -> Tensor:
        replay = ReplayPlugin(mem_size=30, storage_policy=policy(30))
        return trained(quiet, benchmark.train_stream, [replay])

    assert_same_but_not_initial(run(held), run(plain))


OTHERS: dict[str, Callable[..., Any]] = {
    **STRATEGIES,
    "A-GEM": lambda **given: quiet(AGEM, patterns_per_exp=20, sample_size=10, **given),
    "LwF": lambda **given: quiet(LwF, alpha=1.0, temperature=2.0, **given),
    "GDumb": lambda **given: quiet(GDumb, mem_size=30, **given),
    "MIR": lambda **given: quiet(MIR, mem_size=60, subsample=20, batch_size_mem=10, **given),
    "ER-ACE": lambda **given: quiet(ER_ACE, mem_size=30, batch_size_mem=10, **given),
    "DER": lambda **given: quiet(DER, mem_size=30, batch_size_mem=10, **given),
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_strategy_on_avalanches_own_loaders(
    name: str, plain: CLScenario, held: CLScenario
) -> None:
    """Our datasets alone change nothing: the same draws give the same weights."""
    ours, theirs = (trained(OTHERS[name], b.train_stream) for b in (held, plain))
    assert_same_but_not_initial(ours, theirs)


@pytest.mark.parametrize("name", ["Naive", "Replay", "EWC"])
def test_online_streams(name: str, plain: CLScenario, held: CLScenario) -> None:
    def run(benchmark: CLScenario, *plugins: Any) -> Tensor:
        stream = split_online_stream(benchmark.train_stream[:2], 5, seed=0)
        return trained(STRATEGIES[name], stream, [*plugins, Reseed()], shuffle=False)

    assert_same_but_not_initial(run(held, InMemoryLoaders()), run(plain))


def test_evaluation_gives_the_same_outputs(plain: CLScenario, held: CLScenario) -> None:
    class Outputs(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Tensor] = []

        def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
            self.seen += [strategy.mb_output, strategy.mb_y[:, None], strategy.mb_task_id[:, None]]

    ours, theirs = Outputs(), Outputs()
    quiet(plugins=[InMemoryLoaders(), ours], eval_mb_size=7).eval(held.test_stream)
    quiet(plugins=[theirs], eval_mb_size=7).eval(plain.test_stream)
    assert len(ours.seen) == 5 * 3 * 3
    assert all(map(torch.equal, ours.seen, theirs.seen))


def test_icarl_and_pnn_find_what_they_need() -> None:
    """Both read attributes that Avalanche's newer benchmarks no longer have."""
    benchmark = split_digits(order_seed=1, train_size=60)
    features = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU())
    head = nn.Linear(30, 10)
    icarl = ICaRL(
        feature_extractor=features,
        classifier=head,
        optimizer=torch.optim.SGD([*features.parameters(), *head.parameters()], lr=0.5),
        memory_size=50,
        buffer_transform=None,
        fixed_memory=True,
        train_mb_size=10,
        train_epochs=3,
        evaluator=quiet().evaluator,
        plugins=[InMemoryLoaders()],
    )
    icarl.train(benchmark.train_stream)
    assert accuracy(icarl, benchmark.test_stream) > 0.5

    benchmark = split_digits(scenario="task", train_size=100)
    pnn = quiet(PNNStrategy, PNN(in_features=64, hidden_features_per_column=30), train_epochs=2)
    pnn.train(benchmark.train_stream)
    assert accuracy(pnn, benchmark.test_stream) > 0.8


def accuracy(strategy: Any, stream: Any) -> float:
    right: list[bool] = []

    class Count(SupervisedPlugin):  # type: ignore[misc]
        def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
            right.extend((strategy.mb_output.argmax(1) == strategy.mb_y).tolist())

    strategy.plugins.append(Count())
    strategy.eval(stream)
    return sum(right) / len(right)


@needs_mnist
class TestRealMNIST:
    @pytest.fixture(scope="class")
    @staticmethod
    def mnist() -> CLScenario:
        """Avalanche's own Split MNIST, every 60th sample of three experiences."""
        whole = SplitMNIST(5, fixed_class_order=[*range(10)], dataset_root=DATA_ROOT)
        streams = {
            name: [e.dataset.subset(range(0, len(e.dataset), 60)) for e in stream[:3]]
            for name, stream in whole.streams.items()
        }
        return with_task_labels(with_classes_timeline(benchmark_from_datasets(**streams)))

    @pytest.fixture(scope="class")
    @staticmethod
    def mnist_held(mnist: CLScenario) -> CLScenario:
        return in_memory(mnist)

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_same_weights(self, name: str, mnist: CLScenario, mnist_held: CLScenario) -> None:
        def run(benchmark: CLScenario, *plugins: Any) -> Tensor:
            torch.manual_seed(0)
            model = MLP([20], input_shape=(1, 28, 28), n_classes=10)
            strategy = STRATEGIES[name](model=model, plugins=[*plugins, Reseed()])
            strategy.train(benchmark.train_stream, shuffle=False)
            return weights(strategy)

        assert isinstance(mnist_held.train_stream[0].dataset, InMemoryDataset)
        assert_same_but_not_initial(run(mnist_held, InMemoryLoaders()), run(mnist))
