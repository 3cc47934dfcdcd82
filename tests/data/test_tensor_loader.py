"""TensorLoader against plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.data import InMemoryDataset, TensorLoader


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


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_holds_at_least_one_sample(batch_size: int) -> None:
    labels = torch.zeros(3, dtype=torch.int64)
    dataset = InMemoryDataset(torch.rand(3, 2), labels, labels)
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, but is {batch_size}"):
        TensorLoader(dataset, batch_size)
