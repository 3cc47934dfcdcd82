"""Templates are their plugins, bundled."""

from inspect import signature
from typing import get_type_hints

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import ReplayPlugin

from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.metrics import NoEvaluation
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    BGDPlugin,
    DRLPlugin,
    FisherSpectrumEWCPlugin,
    GMEDPlugin,
    KroneckerEWCPlugin,
    MGEMPlugin,
    OnlineEWCPlugin,
    OnlineReplayPlugin,
)
from avalanche_ext.strategies import (
    BER,
    DRL,
    GMED,
    MGEM,
    FisherSpectrumEWC,
    KroneckerEWC,
    OnlineEWC,
)
from tests.cases import digits, make_naive, small_model, train, weights


def make(template, **arguments):
    model = small_model()
    return template(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
        train_mb_size=5,
        evaluator=NoEvaluation(),
        **{"plugins": [InMemoryLoaders()], **arguments},
    )


class Clipped(SupervisedPlugin):
    """Edits the gradient."""

    def after_backward(self, strategy, **kwargs):
        torch.nn.utils.clip_grad_value_(strategy.model.parameters(), 0.01)


MEMORY = {"mem_size": 60, "batch_size_mem": 12, "seed": 4}
BALANCED = {
    "balance": "task",
    "positive_pairs": False,
    "first_task": "balanced",
    "eviction": "nearest",
}
EDITS = {
    "stride": 2.0,
    "reg_strength": 0.1,
    "retrieval": "mir",
    "edit": "hindsight",
    "n_steps": 2,
    "decay": 0.1,
    "bounds": [0.0, 1.0],
    "n_candidates": 20,
    "lr": 0.1,
    "loss": "union",
}
CONSOLIDATION = {
    "lam": 5.0,
    "decay": 0.7,
    "n_samples": 20,
    "kind": "sampled",
    "update": "gradient",
    "every": 8,
    "normalisation": "max",
    "seed": 4,
}
SEVERAL = {"partition": "layer", "n_groups": 2, "solver": "diagonal", "group_by": "class"}


@pytest.mark.parametrize(
    ("template", "arguments", "plugins"),
    [
        (BER, MEMORY, lambda: [BalancedReplayPlugin(60, 12, seed=4)]),
        (
            BER,
            {"mem_size": 60, "batch_size_mem": 7, "seed": 4, **BALANCED},
            lambda: [BalancedReplayPlugin(60, 7, seed=4, **BALANCED)],
        ),
        (
            DRL,
            {"alpha": 0.5, "lam": 0.01, **MEMORY},
            lambda: [DRLPlugin(0.5, 0.01), BalancedReplayPlugin(60, 12, seed=4)],
        ),
        (GMED, {}, lambda: [GMEDPlugin()]),
        (
            GMED,
            {"mem_size": 60, "batch_size_mem": 12, "seed": 4, **EDITS},
            lambda: [GMEDPlugin(60, 12, seed=4, **EDITS)],
        ),
        (MGEM, {}, lambda: [MGEMPlugin()]),
        (
            MGEM,
            {"size_per_task": 20, "memory_strength": [0.3, 0.1], **SEVERAL},
            lambda: [MGEMPlugin(20, [0.3, 0.1], **SEVERAL)],
        ),
        (
            MGEM,
            {"plugins": [InMemoryLoaders(), Clipped()]},
            lambda: [Clipped(), MGEMPlugin()],
        ),
        (OnlineEWC, {}, lambda: [OnlineEWCPlugin()]),
        (OnlineEWC, CONSOLIDATION, lambda: [OnlineEWCPlugin(**CONSOLIDATION)]),
        (FisherSpectrumEWC, {}, lambda: [FisherSpectrumEWCPlugin()]),
        (
            FisherSpectrumEWC,
            {**CONSOLIDATION, "rank": 3, "residual": "none"},
            lambda: [FisherSpectrumEWCPlugin(**CONSOLIDATION, rank=3, residual="none")],
        ),
        (
            KroneckerEWC,
            {**CONSOLIDATION, "merge": "nearest", "damping": 0.1, "interval": 1},
            lambda: [KroneckerEWCPlugin(**CONSOLIDATION, merge="nearest", damping=0.1, interval=1)],
        ),
    ],
)
def test_template_trains_as_its_plugins_do(template, arguments, plugins):
    benchmark = digits(train_size=100)
    strategy = make(template, **arguments)
    by_hand = make_naive(*plugins(), batch_size=5)
    for each in (strategy, by_hand):
        train(each, benchmark)
    assert torch.equal(weights(strategy), weights(by_hand))


@pytest.mark.parametrize("template", [BER, DRL])
@pytest.mark.parametrize("eviction", ["random", "farthest"])
def test_the_ring_is_as_asked_for(template, eviction):
    strategy = make(template, mem_size=17, balance="task", eviction=eviction)
    (ring,) = (p.buffer for p in strategy.plugins if isinstance(p, BalancedReplayPlugin))
    assert (ring.max_size, ring.balance, ring.eviction) == (17, "task", eviction)


def mgem_of(strategy):
    return next(plugin for plugin in strategy.plugins if isinstance(plugin, MGEMPlugin))


def test_mgem_records_statistics_if_asked_to():
    for asked in (False, True):
        strategy = make(MGEM, size_per_task=10, statistics=asked)
        train(strategy, digits(train_size=40))
        assert [*mgem_of(strategy).statistics] == ([1, 2, 3, 4] if asked else [])


def test_mgem_behind_replay_stores_what_the_stream_brings():
    benchmark = digits("permuted", n_experiences=3, train_size=60)
    strategy = make(MGEM, size_per_task=20, plugins=[InMemoryLoaders(), OnlineReplayPlugin(40)])
    train(strategy, benchmark)
    buffer = mgem_of(strategy).buffer
    assert buffer.n_seen == 3 * 60
    for experience in benchmark.train_stream:
        x, _, _ = buffer.fetch(np.array(buffer.groups("task")[experience.current_experience]))
        brought = experience.dataset.x.flatten(1)
        assert len(x) == len(x.unique(dim=0)) == 20
        assert all((brought == sample).all(1).any() for sample in x.flatten(1))


@pytest.mark.parametrize(
    "template", [BER, DRL, GMED, MGEM, OnlineEWC, FisherSpectrumEWC, KroneckerEWC]
)
def test_signatures_show_all_arguments_with_the_defaults_of_the_plugins(template):
    shown = signature(template).parameters
    typed = get_type_hints(template.__init__)["arguments"].__args__[0]
    assert shown.keys() == get_type_hints(typed).keys()
    for plugin in template.bundled:
        for name, parameter in signature(plugin).parameters.items():
            name = "batch_size_mem" if name == "batch_size" else name
            assert shown[name].default == parameter.default


def test_misspelt_arguments_are_refused():
    with pytest.raises(TypeError, match="alhpa"):
        make(DRL, alhpa=1.0)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="mem_size"):
        make(BER, mem_size=0)


@pytest.mark.parametrize("template", [OnlineEWC, FisherSpectrumEWC])
def test_wrong_strengths_are_refused(template):
    with pytest.raises(ValueError, match="lam"):
        make(template, lam=-1.0)


def test_a_spectrum_of_nothing_is_refused():
    with pytest.raises(ValueError, match="rank=0 with residual='none'"):
        make(FisherSpectrumEWC, rank=0, residual="none")


def test_bgd_is_refused_with_a_penalty_when_the_strategy_is_built():
    with pytest.raises(ValueError, match="'OnlineEWCPlugin' cannot be combined with 'BGDPlugin'"):
        make(OnlineEWC, plugins=[InMemoryLoaders(), BGDPlugin()])


def test_a_second_memory_is_refused_when_the_strategy_is_built():
    with pytest.raises(
        ValueError, match="'BalancedReplayPlugin' cannot be combined with 'OnlineReplayPlugin'"
    ):
        make(BER, plugins=[OnlineReplayPlugin()])


def test_avalanches_replay_is_refused_with_mgem_when_the_strategy_is_built():
    with pytest.raises(ValueError, match="'MGEMPlugin' cannot be combined with 'ReplayPlugin'"):
        make(MGEM, plugins=[ReplayPlugin(10)])


class Louder(DRL):
    """A user's strategy with its own argument."""

    def __init__(self, *, factor=2.0, lam=0.01, **arguments):
        super().__init__(lam=factor * lam, **arguments)


def test_a_subclass_of_a_strategy_may_have_its_own_arguments():
    (drl,) = (p for p in make(Louder, factor=3.0, mem_size=40).plugins if isinstance(p, DRLPlugin))
    assert drl.lam == pytest.approx(0.03)
    with pytest.raises(TypeError, match="fcator"):
        make(Louder, fcator=3.0)
