"""Defaults behind published numbers and our tables: a change must be deliberate."""

from inspect import signature

import pytest

from avalanche_ext import plugins

REPLAY = {"mem_size": 500, "batch_size": 10}
CONSOLIDATION = {
    "decay": 0.95,
    "update": "proximal",
    "every": None,
    "normalisation": "none",
}

DEFAULTS = {
    # Chaudhry et al. 2019, "On tiny episodic memories".
    plugins.OnlineReplayPlugin: {
        **REPLAY, "buffer": "reservoir", "draw": "uniform", "stream": "joined", "loss": "union",
    },
    # Chen, Diethe and Flach 2020, on Split MNIST; the other settings of DRL are in docstrings.
    plugins.BalancedReplayPlugin: {
        "mem_size": 300, "batch_size": 20, "balance": "class", "positive_pairs": True,
        "first_task": "uniform", "eviction": "oldest",
    },
    plugins.DRLPlugin: {"alpha": 2.0, "lam": 5e-4, "normalisation": "batch"},
    plugins.MultiSimilarityPlugin: {
        "lam": 1.0, "alpha": 2.0, "beta": 40.0, "base": 0.5, "form": "rows",
    },
    plugins.RMarginPlugin: {
        "lam": 1e-3, "boundary": 0.6, "margin": 0.2, "p_switch": 0.2, "switch": "omit",
        "redraw": False, "hinge": False,
    },
    # Chaudhry et al. 2021.
    plugins.HALPlugin: {
        **REPLAY, "lam": 0.1, "loss": "union", "hindsight_steps": 50, "anchor_steps": 100,
        "anchor_lr": 0.001, "embedding_weight": 0.1, "decay": 0.9,
    },
    # Aljundi, Lin, Goujaud and Bengio 2019.
    plugins.GSSPlugin: {
        "mem_size": 300, "batch_size": 10, "n_iterations": 1, "n_references": 10, "threshold": 0.0,
    },
    # Aljundi et al. 2019, as Jin, Du and Ren 2021 compare with it; theirs on Rotated MNIST.
    plugins.MIRPlugin: {**REPLAY, "n_candidates": 50, "lr": None, "loss": "sum"},
    plugins.GMEDPlugin: {
        **REPLAY, "stride": 1.0, "reg_strength": 0.01, "retrieval": "random", "edit": "gmed",
        "n_steps": 1, "decay": 0.0, "bounds": None, "n_candidates": 50, "lr": None, "loss": "sum",
    },
    # Lopez-Paz and Ranzato 2017; Chaudhry et al. 2019, "Efficient lifelong learning".
    plugins.MGEMPlugin: {
        "size_per_task": 256, "memory_strength": 0.5, "partition": "none", "n_groups": 1,
        "solver": "exact", "group_by": "task",
    },
    plugins.AGEMPlugin: {
        "mem_size": 300, "sample_size": 256, "references": "earlier", "replacement": False,
        "replay": "never", "batch_size": 10,
    },
    # Farajtabar, Azizan, Mott and Li 2020.
    plugins.OGDPlugin: {"n_samples": 200, "outputs": "label"},
    # Zeno et al. 2018, as in Jin, Du and Ren 2021 on Split MNIST.
    plugins.BGDPlugin: {"n_draws": 10, "initial_std": 0.017, "lr": 1.0},
    plugins.OnlineEWCPlugin: {**CONSOLIDATION, "lam": 10.0, "n_samples": None, "kind": "true"},
    plugins.FisherSpectrumEWCPlugin: {
        **CONSOLIDATION, "lam": 30.0, "rank": 100, "residual": "diagonal", "n_samples": 200,
        "kind": "true",
    },
    plugins.KroneckerEWCPlugin: {
        **CONSOLIDATION, "lam": 10.0, "n_samples": None, "kind": "true", "sharing": "expand",
        "merge": "sum", "damping": 0.0, "rank": 100, "interval": None,
    },
    plugins.MASPlugin: {**CONSOLIDATION, "lam": 0.1, "n_samples": None},
    # Zenke, Poole and Ganguli 2017: the damping.
    plugins.SynapticIntelligencePlugin: {**CONSOLIDATION, "lam": 3.0, "damping": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("plugin", DEFAULTS, ids=lambda plugin: plugin.__name__)
def test_defaults_stay(plugin):
    parameters = signature(plugin).parameters
    wanted = DEFAULTS[plugin]
    assert {name: parameters[name].default for name in wanted} == wanted
