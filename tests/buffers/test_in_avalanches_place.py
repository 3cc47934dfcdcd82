"""Our buffers in place of Avalanche's, inside Avalanche's plugins and strategies."""

import pickle
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import SupervisedPlugin
from avalanche.models import SCRModel
from avalanche.training import DER, ER_AML, SCR, FeatureReplay
from avalanche.training.plugins import MIRPlugin, ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from avalanche_ext.buffers import (
    GreedyBuffer,
    PolicyBuffer,
    ReservoirBuffer,
    RingBuffer,
    TaskBuffer,
)
from tests.cases import SampleBySample, quiet, train

MEM_SIZE = 60

BALANCED = {
    "ring over classes": RingBuffer,
    "ring over tasks": lambda size, seed=0: RingBuffer(size, "task", seed),
    "reservoir": ReservoirBuffer,
}
each_buffer = pytest.mark.parametrize("make", BALANCED.values(), ids=BALANCED)


def by_class(n_experiences=5, task_labels=False, train_size=600):
    """Digits by Avalanche's `nc_benchmark`; pixel (0, 0) of each identifies the sample."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    x[:, 0, 0, 0] = torch.arange(len(x)) / 10_000
    y = torch.tensor(labels)
    parts = (slice(train_size), slice(train_size, None))
    datasets = [SampleBySample(x[part], y[part], torch.clone) for part in parts]
    return nc_benchmark(
        *datasets, n_experiences, task_labels, fixed_class_order=[*range(10)], shuffle=False
    )


def which(x):
    """Return which samples these are."""
    return {round(10_000 * float(sample.flatten()[0])) for sample in x}


def samples(dataset):
    return which(torch.stack([x for x, *_ in dataset]))


def n_held(buffer):
    """Number of samples held of each class."""
    return Counter(buffer.buffer.y.tolist())


class Watch(SupervisedPlugin):
    """Notes what the buffer holds before each experience, and the mini-batches."""

    def __init__(self, buffer):
        super().__init__()
        self.buffer, self.held, self.batches = buffer, [], []

    def before_training_exp(self, strategy, **kwargs):
        self.held.append(self.buffer.buffer.x)
        self.batches.append([])

    def before_forward(self, strategy, **kwargs):
        self.batches[-1].append([column.clone() for column in strategy.mbatch])


def test_the_datasets_of_nc_benchmark_are_sorted_by_class():
    for experience in by_class().train_stream:
        targets = [*map(int, experience.dataset.targets)]
        assert targets == sorted(targets)
        assert len({*targets}) == 2


class TestSortedDatasets:
    @pytest.mark.parametrize("make", [BALANCED["ring over tasks"], lambda s: TaskBuffer(s // 5)])
    def test_all_classes_of_each_experience_are_held(self, make):
        buffer = make(200)
        replay = ReplayPlugin(buffer.max_size, storage_policy=buffer)
        train(quiet(plugins=[replay]), by_class())
        held = n_held(buffer)
        assert sum(held.values()) == 200
        # 40 of each experience: a binomial count of mean 20 and standard deviation √10.
        assert min(held.values()) >= 20 - 4 * 3.2
        assert len(held) == 10

    @pytest.mark.parametrize(
        "make",
        [lambda seed: RingBuffer(30, "task", seed), lambda seed: TaskBuffer(30, seed)],
        ids=["ring", "task"],
    )
    def test_every_sample_of_an_experience_is_held_equally_likely(self, make):
        first, n_runs = by_class().train_stream[0], 300
        n_samples, counts = len(first.dataset), Counter()
        for seed in range(n_runs):
            buffer = make(seed)
            buffer.post_adapt(None, first)
            counts.update(which(buffer.buffer.x))
        share = 30 / n_samples
        assert sum(counts.values()) == 30 * n_runs
        # More than four standard deviations for each of about 120 samples.
        bound = 4.5 * np.sqrt(n_runs * share * (1 - share))
        assert all(abs(counts[i] - n_runs * share) < bound for i in samples(first.dataset))

    def test_each_class_of_a_ring_is_a_random_part(self):
        buffer, first = RingBuffer(10), by_class().train_stream[0]
        buffer.post_adapt(None, first)
        assert n_held(buffer) == {0: 5, 1: 5}
        of_zero = [i for i, y in enumerate(first.dataset.targets) if y == 0]
        last = samples(first.dataset.subset(of_zero[-5:]))
        assert not last <= which(buffer.buffer.x)

    def test_a_reservoir_draws_what_it_draws_of_a_stream(self):
        by_experience, by_batch = ReservoirBuffer(30), ReservoirBuffer(30)
        for experience in by_class().train_stream:
            by_experience.post_adapt(None, experience)
            x, y, t = experience.dataset.collate_fn([*experience.dataset])
            by_batch.add(x, y, t)
        assert torch.equal(by_experience.buffer.x, by_batch.buffer.x)


class TestSizes:
    @each_buffer
    def test_the_memory_is_as_full_as_it_can_be_after_each_experience(self, make):
        buffer, n_seen = make(150), 0
        replay = ReplayPlugin(150, storage_policy=buffer)
        strategy = quiet(plugins=[replay])
        for experience in by_class(train_size=200).train_stream:
            n_seen += len(experience.dataset)
            strategy.train(experience, eval_streams=[])
            assert len(buffer) == len(buffer.buffer) == min(150, n_seen)
            assert sum(map(len, buffer.buffer_datasets)) == len(buffer)
            assert sum(len(g.buffer) for g in buffer.buffer_groups.values()) == len(buffer)

    def test_a_task_buffer_grows_by_its_size_with_each_experience(self):
        buffer = TaskBuffer(15)
        strategy = quiet(plugins=[ReplayPlugin(15, storage_policy=buffer)])
        for n, experience in enumerate(by_class().train_stream, 1):
            strategy.train(experience, eval_streams=[])
            assert len(buffer) == buffer.max_size == 15 * n
            assert {len(slots) for slots in buffer.groups("task").values()} == {15}

    @pytest.mark.parametrize("by", ["class", "task"])
    def test_a_ring_stays_balanced_when_it_shrinks(self, by):
        buffer, stream = RingBuffer(60, by), by_class().train_stream
        for n, experience in enumerate(stream):
            buffer.post_adapt(None, experience)
            if n == 2:
                buffer.resize(None, 31)
            sizes = [*map(len, buffer.groups(by).values())]
            assert len(sizes) == (n + 1) * (2 if by == "class" else 1)
            assert max(sizes) - min(sizes) <= 1
            assert len(buffer) == (60 if n < 2 else 31)

    @pytest.mark.parametrize("by", ["class", "task"])
    def test_a_ring_that_has_grown_gives_its_new_slots_to_what_comes(self, by):
        buffer, stream = RingBuffer(20, by), by_class().train_stream
        for n, experience in enumerate(stream):
            buffer.post_adapt(None, experience)
            if n == 2:
                buffer.resize(None, 90)
        assert len(buffer) == 90
        last = buffer.groups(by)[9 if by == "class" else 4]
        assert len(last) >= max(map(len, buffer.groups(by).values())) - 1

    def test_a_resized_task_buffer_holds_as_much_of_each_task(self):
        buffer, stream = TaskBuffer(20), by_class().train_stream
        for size, experience in zip([20, 15, 15, 15, 15], stream, strict=True):
            buffer.post_adapt(None, experience)
            if buffer.max_size == 40:
                buffer.resize(None, 30)
            assert {len(slots) for slots in buffer.groups("task").values()} == {size}

    @each_buffer
    def test_a_smaller_memory_holds_some_of_what_it_held_and_a_larger_one_all(self, make):
        buffer, stream = make(60), by_class().train_stream
        for experience in stream[:3]:
            buffer.post_adapt(None, experience)
        before = which(buffer.buffer.x)
        buffer.resize(None, 25)
        after = which(buffer.buffer.x)
        assert len(buffer) == buffer.max_size == 25
        assert after < before
        buffer.resize(None, 80)
        assert which(buffer.buffer.x) == after
        for experience in stream[3:]:
            buffer.post_adapt(None, experience)
        assert len(buffer) >= 70


@each_buffer
def test_what_is_held_follows_from_the_buffers_seed_alone(make):
    def held(seed, global_seed):
        torch.manual_seed(global_seed)
        buffer = make(MEM_SIZE, seed=seed)
        train(quiet(plugins=[ReplayPlugin(MEM_SIZE, storage_policy=buffer)]), by_class())
        return buffer.buffer.x

    first = held(seed=3, global_seed=0)
    assert torch.equal(first, held(seed=3, global_seed=1))
    assert not torch.equal(first, held(seed=4, global_seed=0))


class TestReplay:
    @each_buffer
    @pytest.mark.parametrize("task_balanced_dataloader", [False, True])
    @pytest.mark.parametrize("batch_size_mem", [None, 12])
    @pytest.mark.parametrize("batch_size", [None, 6])
    def test_batches_are_as_large_as_asked_for(
        self, make, batch_size, batch_size_mem, task_balanced_dataloader
    ):
        buffer = make(MEM_SIZE)
        watch = Watch(buffer)
        replay = ReplayPlugin(
            MEM_SIZE, batch_size, batch_size_mem, task_balanced_dataloader, buffer
        )
        benchmark = by_class(task_labels=True, train_size=400)
        train(quiet(plugins=[watch, replay]), benchmark)
        expected = (batch_size or 10, batch_size_mem or 10)
        for n, batches in enumerate(watch.batches[1:], 1):
            stream = samples(benchmark.train_stream[n].dataset)
            held = which(watch.held[n])
            for x, _, t in batches[:-1]:
                own = t == n
                n_own, n_replayed = int(own.sum()), int((~own).sum())
                # Each task has its own loader, whose last batch may be smaller.
                assert (n_own, n_replayed) == expected or (
                    task_balanced_dataloader and n_own == expected[0] and n_replayed < expected[1]
                )
                assert which(x[own]) <= stream
                assert which(x[~own]) <= held
                if task_balanced_dataloader:
                    counts = torch.bincount(t[~own], minlength=n)
                    assert 0 < counts.min() <= counts.max() <= -(-expected[1] // n)


class TestGroups:
    @pytest.mark.parametrize(
        "make", [*BALANCED.values(), lambda size: TaskBuffer(size // 5)], ids=[*BALANCED, "task"]
    )
    def test_they_are_classes(self, make):
        buffer = make(MEM_SIZE)
        assert buffer.buffer_groups == {}
        assert buffer.buffer_datasets == []
        for experience in by_class().train_stream:
            buffer.post_adapt(None, experience)
        groups = buffer.buffer_groups
        assert [*groups] == sorted(n_held(buffer))
        for label, group in groups.items():
            assert {*group.buffer.y.tolist()} == {label}
            assert len(group.buffer) == n_held(buffer)[label]
        parts = torch.cat([dataset.x for dataset in buffer.buffer_datasets])
        assert which(parts) == which(buffer.buffer.x)

    def test_they_are_not_changed_later(self):
        buffer, stream = RingBuffer(20), by_class().train_stream
        buffer.post_adapt(None, stream[0])
        group = buffer.buffer_groups[0].buffer
        before = group.x.clone()
        buffer.post_adapt(None, stream[1])
        assert torch.equal(group.x, before)
        assert len(buffer.buffer_groups[0].buffer) == 5

    @pytest.mark.parametrize(
        "make", [*BALANCED.values(), lambda size: TaskBuffer(size // 3)], ids=[*BALANCED, "task"]
    )
    def test_mir_replays_classes_that_its_last_batch_has_not(self, make):
        plugin, buffer, seen = MIRPlugin(batch_size_mem=5, subsample=20), make(90), []
        plugin.storage_policy = buffer
        watch = Watch(buffer)
        strategy = quiet(plugins=[watch, plugin])
        strategy.model.register_forward_pre_hook(lambda module, x: seen.append(which(x[0])))
        for n, experience in enumerate(by_class().train_stream[:4]):
            seen.clear()
            last = {*watch.batches[-1][-1][1].tolist()} if n else set()
            allowed = {
                i
                for label, group in buffer.buffer_groups.items()
                if label not in last
                for i in which(group.buffer.x)
            }
            strategy.train(experience, eval_streams=[])
            replayed = [ids for ids in seen if not ids & samples(experience.dataset)]
            assert bool(replayed) == bool(allowed)
            assert all(ids <= allowed for ids in replayed)
        assert len(replayed) == 3 * len(watch.batches[-1])

    @pytest.mark.parametrize("make", [RingBuffer, lambda size: TaskBuffer(size // 3)])
    def test_er_aml_contrasts_with_samples_of_each_class(self, make):
        buffer = make(90)
        features = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())

        class Check(Watch):
            n_checked = 0

            def after_forward(self, strategy, **kwargs):
                if strategy.replay_loader is not None:
                    held = which(self.buffer.buffer.x)
                    assert which(strategy.mb_buffer_x) <= held
                    x, y, _ = (
                        torch.cat(c) for c in zip(*map(next, strategy.pos_neg_loaders), strict=True)
                    )
                    assert which(x) <= held
                    # A mini-batch of five of each class.
                    assert Counter(y.tolist()) == dict.fromkeys(n_held(self.buffer), 5)
                    self.n_checked += 1

        check = Check(buffer)
        strategy = quiet(
            ER_AML,
            nn.Sequential(features, nn.Linear(16, 10)),
            feature_extractor=features,
            train_mb_size=5,
            plugins=[check],
        )
        strategy.storage_policy = buffer
        for experience in by_class().train_stream[:3]:
            strategy.train(experience, eval_streams=[])
        assert check.n_checked > 40
        assert {*n_held(buffer)} == {*range(6)}

    def test_scr_takes_its_class_means_from_ours(self):
        buffer = RingBuffer(50)
        features = nn.Sequential(nn.Flatten(), nn.Linear(64, 16))
        strategy = quiet(
            SCR,
            SCRModel(features, nn.Linear(16, 8)),
            augmentations=nn.Identity(),
            mem_size=50,
            criterion=None,
        )
        strategy.replay_plugin.storage_policy = buffer
        first, *others = by_class().train_stream
        strategy.train(first, eval_streams=[])
        means = strategy.model.eval_classifier.class_means_dict
        assert [*means] == [*buffer.buffer_groups] == [0, 1]
        for label, group in buffer.buffer_groups.items():
            out = nn.functional.normalize(features(group.buffer.x).detach(), dim=1).mean(0)
            assert torch.allclose(means[label], out / out.norm(), atol=1e-5)
        for experience in others:
            strategy.train(experience, eval_streams=[])
        assert [*strategy.model.eval_classifier.class_means_dict] == [*range(10)]


def logits_of(buffer):
    """Return the logits that are stored with each sample, by which sample it is."""
    return {min(which([x])): logits for x, _, _, logits in buffer.buffer}


class Logits(SupervisedPlugin):
    """Checks the logits that DER replays, and those that a buffer stores."""

    def __init__(self, buffer):
        super().__init__()
        self.buffer, self.stored, self.n_checked = buffer, {}, 0

    def after_forward(self, strategy, **kwargs):
        if strategy.replay_loader is not None:
            replayed = strategy.mb_x[: strategy.batch_size_mem]
            for x, logits in zip(replayed, strategy.batch_logits, strict=True):
                assert torch.equal(self.stored[min(which([x]))], logits)
            self.n_checked += 1

    def after_training_exp(self, strategy, **kwargs):
        stored, new = logits_of(self.buffer), samples(strategy.experience.dataset)
        assert {*stored} <= {*self.stored} | new
        for x in self.buffer.fetch(np.arange(len(self.buffer)))[0]:
            i = min(which([x]))
            expected = strategy.model(x[None])[0].detach() if i in new else self.stored[i]
            assert torch.allclose(stored[i], expected, atol=1e-5)
        self.stored = stored


class TestDER:
    @pytest.mark.parametrize(
        "make", [*BALANCED.values(), lambda size: TaskBuffer(size // 3)], ids=[*BALANCED, "task"]
    )
    def test_samples_are_replayed_with_the_logits_that_they_were_stored_with(self, make):
        buffer = make(90)
        check = Logits(buffer)
        strategy = quiet(DER, mem_size=90, alpha=0.5, plugins=[check])
        strategy.storage_policy = buffer
        for experience in by_class().train_stream[:3]:
            strategy.train(experience, eval_streams=[])
        assert check.n_checked > 20
        assert [*buffer.buffer_groups] == [*range(6)]

    def filled(self, **given):
        buffer = RingBuffer(40)
        strategy = quiet(DER, mem_size=40, **given)
        strategy.storage_policy = buffer
        strategy.train(by_class().train_stream[0], eval_streams=[])
        return buffer, strategy

    def test_logits_are_of_the_model_in_evaluation(self):
        layers = [nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5)]
        buffer, strategy = self.filled(model=nn.Sequential(*layers))
        model = strategy.model.eval()
        for x, _, _, logits in buffer.buffer:
            assert torch.allclose(model(x[None])[0], logits, atol=1e-5)

    def test_logits_move_with_their_samples(self):
        buffer, _ = self.filled()
        stored, twin = logits_of(buffer), RingBuffer(1)
        twin.load_state_dict(buffer.state_dict())
        buffer.resize(None, 20)
        for each, n in ((buffer, 20), (twin, 40), (pickle.loads(pickle.dumps(twin)), 40)):
            left = logits_of(each)
            assert len(left) == n
            assert all(torch.equal(logits, stored[i]) for i, logits in left.items())

    def test_what_is_added_without_logits_has_none(self):
        buffer, _ = self.filled()
        x, y, t = buffer.fetch(np.arange(3))
        slots = buffer.add(x + 0.1, y, t)
        without = [i for i, (*_, logits) in enumerate(buffer.buffer) if logits.isnan().all()]
        assert without == sorted(slots.tolist())

    def test_a_head_that_grows_is_refused(self):
        buffer, strategy = self.filled()
        strategy.model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
        strategy.experience = by_class().train_stream[1]
        with pytest.raises(ValueError, match="has 12 outputs, but the buffer holds logits of 10"):
            buffer.update(strategy)

    def test_a_view_is_refused(self):
        with pytest.raises(TypeError, match="DER needs logits, which a PolicyBuffer does not"):
            PolicyBuffer(ClassBalancedBuffer(20)).update(quiet(DER))


class TestFromADataset:
    @pytest.mark.parametrize(
        "make", [*BALANCED.values(), lambda size: TaskBuffer(size // 3)], ids=[*BALANCED, "task"]
    )
    def test_feature_replay_replays_features_that_we_hold(self, make):
        buffer, seen = make(90), []
        watch = Watch(buffer)
        strategy = quiet(FeatureReplay, batch_size_mem=7, train_mb_size=20, plugins=[watch])
        strategy.storage_policy = buffer
        strategy.model.train_classifier.register_forward_pre_hook(
            lambda module, x: seen.append(x[0]) if len(x[0]) == 7 else None
        )
        for n, experience in enumerate(by_class().train_stream[:3]):
            seen.clear()
            strategy.train(experience, eval_streams=[])
            assert len(seen) == (n > 0) * len(watch.batches[n])
            for features in seen:
                known = {tuple(row) for row in watch.held[n].tolist()}
                assert {tuple(row) for row in features.tolist()} <= known
        assert {*n_held(buffer)} == {*range(6)}

    def test_each_call_counts_as_an_experience(self):
        buffer, x = TaskBuffer(5), torch.arange(60.0).view(-1, 1)
        for start in (0, 20, 40):
            labels = torch.zeros(20, dtype=torch.int64)
            buffer.update_from_dataset(TensorDataset(x[start : start + 20], labels))
        assert [*buffer.groups("task")] == [-1, -2, -3]
        tens = (buffer.buffer.x.flatten() // 20).tolist()
        assert Counter(tens) == {0: 5, 1: 5, 2: 5}

    def test_the_strategy_tells_the_experience(self):
        buffer, stream = RingBuffer(20, "task"), by_class().train_stream
        for n in (3, 3, 1):
            strategy = SimpleNamespace(experience=stream[n])
            buffer.update_from_dataset(stream[n].dataset, strategy)
        assert {task: len(slots) for task, slots in buffer.groups("task").items()} == {3: 10, 1: 10}

    def test_an_empty_dataset_changes_nothing(self):
        buffer = RingBuffer(5)
        before = buffer.rng.bit_generator.state
        buffer.update_from_dataset(TensorDataset(torch.zeros(0, 1), torch.zeros(0)))
        assert len(buffer) == 0
        assert buffer.rng.bit_generator.state == before

    def test_a_view_shows_it_to_the_policy(self):
        policy, first = ClassBalancedBuffer(20), by_class().train_stream[0]
        view = PolicyBuffer(policy)
        view.update_from_dataset(first.dataset)
        assert len(policy.buffer) == 20
        assert which(view.buffer.x) == samples(policy.buffer)
        assert n_held(view) == {0: 10, 1: 10}

    def test_a_greedy_buffer_needs_gradients(self):
        with pytest.raises(TypeError, match="use GSSPlugin"):
            GreedyBuffer(5).update_from_dataset(by_class().train_stream[0].dataset)
