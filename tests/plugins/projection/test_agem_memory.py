"""What A-GEM stores, what it draws, and with whom it shares a memory."""

import pytest
import torch
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ReservoirSamplingBuffer

from avalanche_ext.buffers import ReservoirBuffer, RingBuffer, TaskBuffer
from avalanche_ext.plugins import (
    AGEMPlugin,
    BalancedReplayPlugin,
    MGEMPlugin,
    OnlineReplayPlugin,
)
from tests.cases import Spy, digits, make_naive, train, weights
from tests.plugins.projection.agem_cases import Watch

SMALL = {"n_experiences": 3, "train_size": 60}


def watched(*plugins, kind="permuted", batch_size=10, **given):
    """Train on three small tasks; return what was seen."""
    benchmark = digits(kind, **{**SMALL, "n_experiences": 5 if kind == "split" else 3})
    watch = Watch(benchmark)
    train(make_naive(watch, *plugins, batch_size=batch_size, **given), benchmark)
    return watch


class TestReferences:
    def test_earlier(self):
        watch = watched(AGEMPlugin(90, 25, buffer=TaskBuffer(20)))
        sizes = {0: 0, 1: 20, 2: 25}
        seen = set()
        for task, references in zip(watch.tasks, watch.references, strict=True):
            assert len(references) == len({*references}) == sizes[task], "all if fewer, else 25"
            assert all(sample.task < task for sample in references)
            seen |= {(task, sample.task) for sample in references}
        assert seen == {(1, 0), (2, 0), (2, 1)}

    def test_all(self):
        watch = watched(AGEMPlugin(200, 25, references="all"))
        seen = set()
        for step, references in enumerate(watch.references):
            assert len(references) == len({*references}) == min(25, 10 * step)
            assert not {*references} & {*watch.arrived[step]}, "rows are stored after their step"
            seen |= {(watch.tasks[step], sample.task) for sample in references}
        assert seen == {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)}

    def test_other_classes(self):
        watch = watched(AGEMPlugin(200, 25, references="other_classes"), kind="split", batch_size=1)
        n_of_the_same_task = 0
        for step, references in enumerate(watch.references):
            if watch.tasks[step] == 0:
                assert references == [], "only once there is an earlier task"
                continue
            ((task, _, label),) = watch.arrived[step]
            assert len({*references}) == 25
            assert label not in {sample.label for sample in references}
            n_of_the_same_task += any(sample.task == task for sample in references)
        assert n_of_the_same_task > 50

    def test_no_other_classes(self):
        watch = watched(AGEMPlugin(200, references="other_classes"), batch_size=60)
        assert all(len({sample.label for sample in rows}) == 10 for rows in watch.arrived)
        assert watch.references == [[], [], []]

    def test_with_replacement_there_are_always_as_many(self):
        watch = watched(AGEMPlugin(30, 50, references="all", replacement=True))
        assert [len(references) for references in watch.references] == [0] + [50] * 17
        assert all(len({*references}) <= 30 for references in watch.references)

    @pytest.mark.parametrize("replacement", [False, True])
    def test_all_earlier_samples_are_drawn_equally_often(self, replacement):
        watch = watched(
            AGEMPlugin(60, 10, buffer=TaskBuffer(30), replacement=replacement),
            batch_size=1,
            train_epochs=5,
        )
        drawn = [s for t, rows in zip(watch.tasks, watch.references, strict=True) if t == 2
                 for s in rows]  # fmt: skip
        counts = [drawn.count(sample) for sample in {*drawn}]
        assert len(drawn) == 3000
        assert len(counts) == 60
        assert all(20 < count < 85 for count in counts), "50 each"


class TestReplay:
    def test_never(self):
        watch = watched(AGEMPlugin(60))
        assert watch.batches == watch.arrived

    @pytest.mark.parametrize("references", ["all", "earlier", "other_classes"])
    def test_in_the_first_task(self, references):
        plugin = AGEMPlugin(
            60, 30, references=references, buffer="ring", replay="first_task", batch_size=7
        )
        watch = watched(plugin, kind="split", batch_size=1)
        arrived, references_of = [rows[0] for rows in watch.arrived], watch.references
        batches = watch.batches
        assert batches[0] == arrived[:1] * 7, "stored first, drawn with replacement"
        for step, batch in enumerate(batches):
            if watch.tasks[step] == 0:
                assert len(batch) == 7
                assert {*batch} <= {*arrived[: step + 1]}
                assert references_of[step] == []
            else:
                assert batch == [arrived[step]]
                assert len(references_of[step]) == 30

    def test_always(self):
        plugin = AGEMPlugin(100, 30, buffer="ring", balance="task", replay="always", batch_size=20)
        watch = watched(plugin)
        assert {len(batch) for batch in watch.batches} == {20}
        tasks = [{sample.task for sample in batch} for batch in watch.batches]
        assert all(0 in seen for seen in tasks)
        assert tasks[-1] == {0, 1, 2}
        assert [len(references) for references in watch.references] == [0] * 6 + [30] * 12

    def test_in_the_first_task_alone_where_tasks_have_no_labels_and_the_memory_is_avalanches(self):
        """Its tasks are task labels, which are all 0 here; that is not the first experience."""
        plugin = AGEMPlugin(
            sample_size=30, buffer=ReservoirSamplingBuffer(40), replay="first_task", batch_size=7
        )
        watch = watched(plugin)
        assert [*plugin.buffer.groups("task")] == [0]
        assert watch.batches == watch.arrived
        assert [len(references) for references in watch.references] == [0] * 6 + [30] * 12

    @pytest.mark.parametrize("replay", ["never", "first_task", "always"])
    def test_in_several_epochs_each_sample_is_stored_once(self, replay):
        plugin = AGEMPlugin(500, replay=replay)
        watched(plugin, train_epochs=3)
        assert plugin.buffer.n_seen == len(plugin.buffer) == 180
        assert len(plugin.buffer.buffer.x.flatten(1).unique(dim=0)) == 180


@pytest.mark.parametrize("balance", ["class", "task"])
def test_a_ring_is_balanced_over_classes_or_tasks(balance):
    plugin = AGEMPlugin(30, buffer="ring", balance=balance)
    watched(plugin)
    n_groups = 10 if balance == "class" else 3
    held = {group: len(slots) for group, slots in plugin.buffer.groups(balance).items()}
    assert held == dict.fromkeys(range(n_groups), 30 // n_groups)


def test_the_memory_draws_what_is_replayed_and_the_plugin_the_references():
    """Replayed samples must not depend on the number of references."""

    def drawn(ring_seed, seed, n_references=20):
        torch.manual_seed(0)
        ring = RingBuffer(60, seed=ring_seed)
        watch = watched(AGEMPlugin(60, n_references, buffer=ring, replay="always", seed=seed))
        return watch.batches, watch.references

    batches, references = drawn(0, 0)
    assert drawn(0, 0) == (batches, references)
    other_batches, same_references = drawn(1, 0)
    assert other_batches != batches
    assert same_references == references
    same_batches, other_references = drawn(0, 1)
    assert same_batches == batches
    assert other_references != references
    assert drawn(0, 0, n_references=5)[0] == batches


def test_its_random_numbers_are_its_own():
    def trained(seed):
        strategy = make_naive(AGEMPlugin(60, 20, seed=seed), batch_size=10)
        for experience in digits("permuted", **SMALL).train_stream:
            strategy.train(experience, eval_streams=[])
        return weights(strategy)

    before = torch.get_rng_state()
    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))
    assert torch.equal(torch.get_rng_state(), before)


class TestSharedMemories:
    def test_with_replay_the_streams_rows_are_stored_and_the_whole_batch_is_projected(self):
        agem = AGEMPlugin(500)
        for plugins in ([OnlineReplayPlugin(40), agem], [agem, OnlineReplayPlugin(40)]):
            agem.__init__(500)
            watch = watched(*plugins)
            assert agem.buffer.n_seen == 180
            stored = watch.samples.of(agem.buffer.buffer.x)
            assert sorted(stored) == sorted(s for rows in watch.arrived for s in rows)
            assert {len(batch) for batch in watch.batches[1:]} == {20}

    @pytest.mark.parametrize(
        "others",
        [
            lambda buffer: [OnlineReplayPlugin(buffer=buffer)],
            lambda buffer: [MGEMPlugin(buffer=buffer)],
            lambda buffer: [AGEMPlugin(buffer=buffer, references="all")],
            lambda buffer: [AGEMPlugin(buffer=buffer, replay="always")],
        ],
    )
    def test_a_shared_memory_is_written_once(self, others):
        for first in (True, False):
            buffer = ReservoirBuffer(100)
            agem = AGEMPlugin(buffer=buffer)
            watched(*([agem, *others(buffer)] if first else [*others(buffer), agem]))
            assert buffer.n_seen == 180

    @pytest.mark.parametrize("first", [True, False])
    def test_the_one_that_replays_writes_it_and_finds_the_streams_row_in_it(self, first):
        buffer = RingBuffer(200)
        agem, replay = AGEMPlugin(buffer=buffer), BalancedReplayPlugin(batch_size=4, buffer=buffer)

        class Check(Spy):
            def before_forward(self, strategy, **kwargs):
                self.checked += 1
                assert buffer.n_seen == len(buffer) == self.checked

        check = Check()
        order = [agem, replay] if first else [replay, agem]
        watch = watched(*order, check, batch_size=1)
        assert check.checked == 180
        assert watch.batches[0] == watch.arrived[0] * 4, "one that stores after it trains on a row"
        assert {len(batch) for batch in watch.batches} == {4}

    def test_what_is_replayed_does_not_depend_on_the_references(self):
        def replayed(*plugins):
            buffer = ReservoirBuffer(50)
            given = [plugin(buffer=buffer) for plugin in plugins]
            return watched(OnlineReplayPlugin(buffer=buffer), *given).batches

        assert replayed() == replayed(AGEMPlugin)

    def test_one_of_avalanches(self):
        policy = ReservoirSamplingBuffer(40)
        plugin = AGEMPlugin(sample_size=30, buffer=policy)
        watch = watched(plugin)
        assert [len(references) for references in watch.references] == [0] * 6 + [30] * 12
        assert len(plugin.buffer) == len(policy.buffer) == 40
        assert {sample.task for sample in watch.references[-1]} == {0, 1}

    def test_two_views_of_avalanches_memory_are_refused(self):
        policy = ReservoirSamplingBuffer(30)
        with pytest.raises(ValueError, match=r"AGEMPlugin and MGEMPlugin .*one .*PolicyBuffer"):
            watched(AGEMPlugin(buffer=policy), MGEMPlugin(buffer=policy))

    @pytest.mark.parametrize("replay", ["first_task", "always"])
    def test_two_that_replay_are_refused(self, replay):
        plugin = AGEMPlugin(replay=replay)
        with pytest.raises(ValueError, match=r"cannot be combined with .AGEMPlugin"):
            watched(plugin, OnlineReplayPlugin())

    def test_avalanches_replay_is_refused(self):
        with pytest.raises(ValueError, match=r"ReplayPlugin. cannot be combined with .AGEMPlugin"):
            watched(AGEMPlugin(), ReplayPlugin())
