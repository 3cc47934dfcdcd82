"""Errors for typing mistakes in a method or in published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.config import catalogue
from tests.config.cases import experiment_with, problems_of


def method(**section: Any) -> dict[str, Any]:
    return experiment_with(methods={"m": section})


def plugins(*items: Any) -> dict[str, Any]:
    return method(plugins=[*items])


def published(**section: Any) -> dict[str, Any]:
    return experiment_with(published={"reference": "a paper", **section})


@pytest.mark.parametrize(
    ("document", "line"),
    [
        # Methods.
        (method(plugin=[]), "methods.m.plugin: unknown key 'plugin' (did you mean 'plugins'?)"),
        (
            experiment_with(methods={"m": 3}),
            "methods.m: is 3, but must be a mapping of names to values",
        ),
        (
            method(plugins={"drl": {}}),
            'methods.m.plugins: is {"drl": {}}, but must be a list: '
            "write '- ' before each plugin",
        ),
        (
            method(strategy="Naive"),
            "methods.m.strategy: unknown strategy 'Naive' (did you mean 'avalanche:Naive'?)",
        ),
        (
            method(strategy="drl"),
            "methods.m.strategy: 'drl' is a plugin, not a strategy: "
            "plugins go into the method's list 'plugins'",
        ),
        (
            method(strategy="avalanche:Replay", args={"mem_size": 1.5}),
            "methods.m.args.mem_size: is 1.5, but must be an integer",
        ),
        (
            method(strategy="avalanche:EWC"),
            "methods.m.args.ewc_lambda: missing, but 'avalanche:EWC' needs it (number)",
        ),
        (
            method(args={"mem_size": 3}),
            "methods.m.args.mem_size: unknown key 'mem_size' (it takes none)",
        ),
        (
            method(args={"train_mb_size": 3}),
            "methods.m.args.train_mb_size: 'train_mb_size' cannot be set here: "
            "it comes from training.batch_size",
        ),
        (
            method(args={"criterion": "mse"}),
            "methods.m.args.criterion: 'criterion' cannot be set here",
        ),
        (
            method(strategy="avalanche:StreamingLDA", args={"input_size": "x", "shirnkage": 1}),
            "methods.m.strategy: 'avalanche:StreamingLDA' cannot be used: it needs a pre-trained "
            "model of its own, which it downloads; use a script",
        ),
        # Plugins.
        (
            plugins("balanced_repaly"),
            "methods.m.plugins[0]: unknown plugin 'balanced_repaly' "
            "(did you mean 'balanced_replay'?)",
        ),
        (
            plugins("ewc"),
            "methods.m.plugins[0]: unknown plugin 'ewc' "
            "(did you mean 'online_ewc', 'fisher_spectrum_ewc' or 'kronecker_ewc'?)",
        ),
        (
            plugins("SI"),
            "methods.m.plugins[0]: unknown plugin 'SI' (did you mean 'synaptic_intelligence'?)",
        ),
        (
            plugins("qqq"),
            "methods.m.plugins[0]: unknown plugin 'qqq' "
            f"(known: {', '.join(catalogue.OURS['plugin'])}, avalanche:<class name>)",
        ),
        (
            plugins("avalanche:Replay"),
            "methods.m.plugins[0]: 'avalanche:Replay' is a strategy, not a plugin: "
            "strategies go into the method's key 'strategy'",
        ),
        (
            plugins("balanced_replay", {"drl": {"alhpa": 2}}),
            "methods.m.plugins[1].drl.alhpa: unknown key 'alhpa' (did you mean 'alpha'?)",
        ),
        (
            plugins({"drl": {"alpha": -1}}),
            "methods.m.plugins[0].drl.alpha: is -1, but must be at least 0",
        ),
        (
            plugins({"drl": {"normalisation": "pair"}}),
            "methods.m.plugins[0].drl.normalisation: is 'pair', but must be 'batch' or 'pairs' "
            "(did you mean 'pairs'?)",
        ),
        (
            plugins({"balanced_replay": {"buffer": "ring"}}),
            "methods.m.plugins[0].balanced_replay.buffer: 'buffer' takes a Python object "
            "(ExemplarsBuffer | None): leave it out, or use a script",
        ),
        (
            plugins({"drl": 2}),
            "methods.m.plugins[0].drl: is 2, but must be a mapping of arguments",
        ),
        (
            plugins({"drl": None, "alpha": 2}),
            "methods.m.plugins[0]: has the keys 'drl', 'alpha': "
            "indent a plugin's arguments below its name",
        ),
        (
            plugins({"drl": None, "balanced_replay": None}),
            "methods.m.plugins[0]: has the keys 'drl', 'balanced_replay': "
            "begin each plugin with its own '-'",
        ),
        (
            plugins({"name": "drl", "alpha": 2}),
            "methods.m.plugins[0]: has the keys 'name', 'alpha': "
            "write a plugin as its name followed by its arguments",
        ),
        (
            plugins(3),
            "methods.m.plugins[0]: is 3, but must be a plugin's name, or its name and arguments",
        ),
        # A method's own optimizer and training.
        (
            method(optimizer={"lr": "fast"}),
            "methods.m.optimizer.lr: is 'fast', but must be a number",
        ),
        (
            method(optimizer={"name": "Adam", "momentum": 0.9}),
            "methods.m.optimizer.momentum: unknown key 'momentum' (known: lr, betas, eps, "
            "weight_decay, amsgrad, foreach, maximize, capturable, differentiable, fused, "
            "decoupled_weight_decay, reset)",
        ),
        (
            method(training={"epochs": 0}),
            "methods.m.training.epochs: is 0, but must be greater than 0",
        ),
        # A paper's numbers.
        (
            published(ACC={"drl": {"mean": 88.2, "std": 0.6}}),
            "published.ACC.drl.mean: is 88.2, but must be at most 1",
        ),
        (
            published(ACC={"drl": {"std": 0.1}}),
            "published.ACC.drl.mean: missing",
        ),
        (
            published(ACC={"drl": {"mean": 0.8, "std": 0.1, "n": 3}}),
            "published.ACC.drl.n: unknown key 'n' (known: mean, std)",
        ),
        (
            published(acc={}),
            "published.acc: unknown key 'acc' (did you mean 'ACC'?)",
        ),
        (
            published(BWT={"dlr": {"mean": -0.1, "std": 0.1}}),
            "published.BWT.dlr: unknown method 'dlr' (did you mean 'drl'?)",
        ),
        (
            published(rho_correlation={"ACC": -8.38}),
            "published.rho_correlation.ACC: is -8.38, but must be at least -1",
        ),
        (
            published(rho_correlation={"acc": -0.838}),
            "published.rho_correlation.acc: unknown key 'acc' (did you mean 'ACC'?)",
        ),
        (
            published(rho_correlation={"BWT": -0.838}),
            "published.rho_correlation.BWT: unknown key 'BWT' "
            "(known: ACC, forgetting, intransigence)",
        ),
    ],
)
def test_a_mistake_is_named_with_path_value_and_right_word(
    document: dict[str, Any], line: str, tmp_path: Path
) -> None:
    assert problems_of(document, tmp_path) == [line]
