"""TensorLoader and InMemoryLoaders."""

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
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.data import InMemoryDataset, InMemoryLoaders, TensorLoader
from tests.cases import plain_benchmark, quiet, weights


def numbered(n: int) -> InMemoryDataset:
    """Sample i is i, of class i % 3, with task label 7."""
    rows = torch.arange(n)
    return InMemoryDataset(rows.float()[:, None], rows % 3, torch.full((n,), 7))


def rows_of(loader: TensorLoader) -> list[list[int]]:
    """The sample numbers of each batch, after a check that its columns are aligned."""
    batches = []
    for x, y, t in loader:
        rows = x.squeeze(1).long()
        assert torch.equal(y, rows % 3)
        assert t.tolist() == [7] * len(rows)
        batches.append(rows.tolist())
    return batches


def batches_by_loop(order: list[int], batch_size: int, drop_last: bool) -> list[list[int]]:
    batches: list[list[int]] = []
    for row in order:
        if not batches or len(batches[-1]) == batch_size:
            batches.append([])
        batches[-1].append(row)
    if drop_last and batches and len(batches[-1]) < batch_size:
        batches.pop()
    return batches


class TestTensorLoader:
    @given(st.integers(0, 60), st.integers(1, 70), st.booleans())
    def test_against_a_plain_loop(self, n: int, batch_size: int, drop_last: bool) -> None:
        loader = TensorLoader(numbered(n), batch_size, drop_last=drop_last)
        assert rows_of(loader) == batches_by_loop([*range(n)], batch_size, drop_last)
        assert len(loader) == len(rows_of(loader))

    @pytest.mark.parametrize("batch_size", [1, 7, 1000, 4096, 4500, 10_000])
    @pytest.mark.parametrize("shuffle", [True, False])
    def test_more_rows_than_are_gathered_at_once(self, batch_size: int, shuffle: bool) -> None:
        loader = TensorLoader(numbered(9001), batch_size, shuffle=shuffle)
        batches = rows_of(loader)
        order = [row for batch in batches for row in batch]
        assert sorted(order) == [*range(9001)]
        assert (order == sorted(order)) is not shuffle
        assert batches == batches_by_loop(order, batch_size, drop_last=False)
        assert len(loader) == len(batches)

    @given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.integers(0, 10))
    def test_each_pass_is_a_new_order_of_all_samples(
        self, n: int, batch_size: int, drop_last: bool, seed: int
    ) -> None:
        loader = TensorLoader(
            numbered(n),
            batch_size,
            shuffle=True,
            drop_last=drop_last,
            generator=torch.Generator().manual_seed(seed),
        )
        reference = torch.Generator().manual_seed(seed)
        for _ in range(2):
            order = torch.randperm(n, generator=reference).tolist()
            assert rows_of(loader) == batches_by_loop(order, batch_size, drop_last)

    def test_a_private_generator_leaves_the_global_one_alone(self) -> None:
        before = torch.get_rng_state()
        rows_of(TensorLoader(numbered(50), 4))
        rows_of(TensorLoader(numbered(50), 4, shuffle=True, generator=torch.Generator()))
        assert torch.equal(torch.get_rng_state(), before)

    def test_without_one_the_global_seed_decides(self) -> None:
        orders = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            orders.append(rows_of(TensorLoader(numbered(50), 4, shuffle=True)))
        assert orders[0] == orders[1] != orders[2]

    @pytest.mark.parametrize("shuffle", [True, False])
    def test_batches_may_be_written_to(self, shuffle: bool) -> None:
        dataset = numbered(10)
        for batch in TensorLoader(dataset, 4, shuffle=shuffle):
            for column in batch:
                column.zero_()
        assert rows_of(TensorLoader(dataset, 10)) == [[*range(10)]]

    def test_augmentation_is_drawn_in_each_pass(self) -> None:
        clean = numbered(5)
        noisy = InMemoryDataset(clean.x, clean.y, clean.t, lambda x: x + torch.rand(1))
        loader = TensorLoader(noisy, 2)
        first, second = (torch.cat([x for x, _, _ in loader]) for _ in range(2))
        assert len(torch.unique(torch.cat([first, second]) - clean.x.repeat(2, 1))) == 10
        assert rows_of(TensorLoader(noisy.eval(), 2)) == rows_of(TensorLoader(clean, 2))


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
