"""Task-free methods give the same weights for any task labels."""

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline, with_task_labels
from avalanche.core import SupervisedPlugin
from torch import Tensor

from avalanche_ext.data import InMemoryDataset
from avalanche_ext.plugins import (
    BGDPlugin,
    GMEDPlugin,
    GSSPlugin,
    MGEMPlugin,
    MIRPlugin,
    OnlineReplayPlugin,
)
from tests.cases import digits, make_naive, weights

TASK_FREE = {
    "er": lambda: OnlineReplayPlugin(40, 7, loss="sum"),
    "mir": lambda: MIRPlugin(40, 7, n_candidates=20),
    "er+gmed": lambda: GMEDPlugin(40, 7, stride=2.0),
    "mir+gmed": lambda: GMEDPlugin(40, 7, stride=2.0, retrieval="mir", n_candidates=20),
    "random edit": lambda: GMEDPlugin(40, 7, stride=0.5, edit="random"),
    "hindsight edit": lambda: GMEDPlugin(40, 7, stride=2.0, edit="hindsight"),
    "decay and steps": lambda: GMEDPlugin(40, 7, stride=2.0, decay=0.1, n_steps=2),
    "gss": lambda: GSSPlugin(40, 7, 2),
    "bgd": lambda: BGDPlugin(n_draws=2),
}


class OtherTaskLabels(SupervisedPlugin):
    """Gives every sample of the stream a random task label."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)
        self.given: set[int] = set()

    def before_training_iteration(self, strategy, **kwargs) -> None:
        x, y, t = strategy.mbatch
        labels = torch.randint(0, 5, t.shape, generator=self.generator)
        self.given |= set(labels.tolist())
        strategy.mbatch = [x, y, labels]


def one_experience(benchmark):
    """All experiences of the training stream as a single one."""

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(e.dataset, name) for e in benchmark.train_stream])

    dataset = InMemoryDataset(joined("x"), joined("y"), joined("t"))
    return with_task_labels(
        with_classes_timeline(benchmark_from_datasets(train=[dataset], test=[dataset]))
    )


def final(*plugins, benchmark):
    strategy = make_naive(*plugins)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[], shuffle=False)
    return weights(strategy)


@pytest.mark.parametrize("name", TASK_FREE)
def test_shuffled_task_labels_change_nothing(name):
    benchmark = digits(train_size=60)
    shuffled = OtherTaskLabels()
    with_labels = final(TASK_FREE[name](), benchmark=benchmark)
    assert torch.equal(final(shuffled, TASK_FREE[name](), benchmark=benchmark), with_labels)
    assert shuffled.given == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("name", TASK_FREE)
def test_boundaries_between_tasks_change_nothing(name):
    benchmark = digits(train_size=60)
    in_tasks = final(TASK_FREE[name](), benchmark=benchmark)
    assert torch.equal(final(TASK_FREE[name](), benchmark=one_experience(benchmark)), in_tasks)


def test_gem_does_read_boundaries():
    benchmark = digits(train_size=60)
    in_tasks = final(MGEMPlugin(20), benchmark=benchmark)
    assert not torch.equal(final(MGEMPlugin(20), benchmark=one_experience(benchmark)), in_tasks)
