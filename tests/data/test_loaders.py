"""The plugin that hands in-memory loaders to a strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    split_online_stream,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.benchmarks.utils.data_loader import (
    GroupBalancedDataLoader,
    ReplayDataLoader,
    SingleDatasetDataLoader,
    TaskBalancedDataLoader,
)
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import ReplayPlugin

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.data import InMemoryDataset, InMemoryLoaders, TensorLoader
from tests.cases import plain_benchmark, quiet, weights


class Loaders(SupervisedPlugin):  # type: ignore[misc]
    """Records the loader of each experience; list it after what sets loaders."""

    def __init__(self) -> None:
        super().__init__()
        self.train: list[Any] = []
        self.eval: list[Any] = []

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.train.append(strategy.dataloader)

    def before_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.eval.append(strategy.dataloader)


def small() -> Any:
    return split_digits(train_size=25, test_size=15)


def multi_task() -> Any:
    """One experience with samples of two task labels."""
    y = torch.arange(20) % 2
    dataset = InMemoryDataset(torch.rand(20, 1, 8, 8), y, y)
    streams = {"train": [dataset], "test": [dataset]}
    return with_task_labels(with_classes_timeline(benchmark_from_datasets(**streams)))


class Grouped(SupervisedPlugin):  # type: ignore[misc]
    """Sets a loader of its own, as plugins do."""

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        strategy.dataloader = GroupBalancedDataLoader([strategy.adapted_dataset], batch_size=5)


class TestInMemoryLoaders:
    def test_it_serves_training_and_evaluation(self) -> None:
        seen = Loaders()
        strategy = quiet(plugins=[InMemoryLoaders(), seen], train_mb_size=8, eval_mb_size=4)
        benchmark = small()
        strategy.train(benchmark.train_stream[0], drop_last=True)
        strategy.eval(benchmark.test_stream[0])
        (training,) = seen.train
        assert isinstance(training, TensorLoader)
        assert (training.batch_size, training.shuffle, training.drop_last) == (8, True, True)
        assert {type(loader) for loader in seen.eval} == {TensorLoader}
        assert len(seen.eval) == -(-15 // 4)

    @pytest.mark.parametrize(
        ("benchmark", "plugin", "training", "evaluation"),
        [
            (lambda: plain_benchmark(small()), None, TaskBalancedDataLoader, None),
            (small, Grouped, GroupBalancedDataLoader, TensorLoader),
            (multi_task, None, TaskBalancedDataLoader, TensorLoader),
        ],
        ids=["plain dataset", "another plugin's loader", "two tasks in one experience"],
    )
    @pytest.mark.parametrize("first", [True, False])
    def test_it_leaves_alone(
        self,
        benchmark: Callable[[], Any],
        plugin: Callable[[], Any] | None,
        training: type,
        evaluation: type | None,
        first: bool,
    ) -> None:
        seen = Loaders()
        others = [] if plugin is None else [plugin()]
        plugins = [InMemoryLoaders(), *others] if first else [*others, InMemoryLoaders()]
        strategy = quiet(plugins=[*plugins, seen])
        cut = benchmark()
        strategy.train(cut.train_stream[0])
        strategy.eval(cut.test_stream[0])
        assert type(seen.train[0]) is training
        assert type(seen.eval[0]) is (evaluation or SingleDatasetDataLoader)

    @pytest.mark.parametrize("first", [True, False])
    def test_it_leaves_avalanches_replay_alone(self, first: bool) -> None:
        seen, replay = Loaders(), ReplayPlugin(mem_size=10)
        ours = InMemoryLoaders()
        plugins = [ours, replay] if first else [replay, ours]
        quiet(plugins=[*plugins, seen]).train(small().train_stream[:2])
        assert [type(loader) for loader in seen.train] == [TensorLoader, ReplayDataLoader]

    def test_evaluation_draws_no_random_number(self) -> None:
        benchmark = small()
        strategy = quiet(plugins=[InMemoryLoaders()])
        before = torch.get_rng_state()
        strategy.eval(benchmark.test_stream)
        assert torch.equal(torch.get_rng_state(), before)

    def test_training_draws_from_its_own_generator_only(self) -> None:
        benchmark = small()
        strategy = quiet(plugins=[InMemoryLoaders()])
        before = torch.get_rng_state()
        strategy.train(benchmark.train_stream)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_seed_decides_the_order(self) -> None:
        def trained(seed: int) -> list[float]:
            strategy = quiet(plugins=[InMemoryLoaders(seed)])
            strategy.train(small().train_stream[:2])
            return weights(strategy).tolist()

        assert trained(0) == trained(0) != trained(1)

    def test_evaluating_does_not_change_what_is_trained(self) -> None:
        def trained(evaluate: bool) -> list[float]:
            benchmark = small()
            strategy = quiet(plugins=[InMemoryLoaders()])
            for experience in benchmark.train_stream:
                strategy.train(experience)
                if evaluate:
                    strategy.eval(benchmark.test_stream)
            return weights(strategy).tolist()

        assert trained(evaluate=True) == trained(evaluate=False)

    def test_augmentation_only_in_training(self) -> None:
        seen: dict[str, list[float]] = {"train": [], "eval": []}

        class Spy(SupervisedPlugin):  # type: ignore[misc]
            def before_forward(self, strategy: Any, **kwargs: Any) -> None:
                seen["train"] += strategy.mb_x.amax((1, 2, 3)).tolist()

            def before_eval_forward(self, strategy: Any, **kwargs: Any) -> None:
                seen["eval"] += strategy.mb_x.amax((1, 2, 3)).tolist()

        plain = small().train_stream[0].dataset
        dataset = InMemoryDataset(plain.x, plain.y, plain.t, lambda x: x + 2 + torch.rand(1))
        benchmark = with_task_labels(benchmark_from_datasets(train=[dataset]))
        strategy = quiet(plugins=[InMemoryLoaders(), Spy()])
        strategy.train(benchmark.train_stream)
        strategy.train(benchmark.train_stream)
        strategy.eval(benchmark.train_stream)
        assert min(seen["train"]) >= 2
        assert len(set(seen["train"])) == 50
        assert max(seen["eval"]) <= 1

    def test_online_streams(self) -> None:
        """Every mini-batch is an experience, and each of its samples is trained on once."""
        seen: list[torch.Tensor] = []

        class Spy(SupervisedPlugin):  # type: ignore[misc]
            def before_forward(self, strategy: Any, **kwargs: Any) -> None:
                assert type(strategy.dataloader) is TensorLoader
                seen.append(strategy.mb_x)

        benchmark = small()
        stream = split_online_stream(benchmark.train_stream, 4, seed=0)
        strategy = quiet(plugins=[InMemoryLoaders(), Spy()])
        for experience in stream:
            strategy.train(experience)
        assert [len(x) for x in seen] == 5 * (6 * [4] + [1])
        whole = torch.cat([e.dataset.x for e in benchmark.train_stream]).flatten(1)
        assert sorted(torch.cat(seen).flatten(1).tolist()) == sorted(whole.tolist())
