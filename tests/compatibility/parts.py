"""The plugins, strategies and models of which the matrix's cells are made."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from torch import Tensor, nn

from avalanche_ext.config.catalogue import OURS, Kind, entries
from avalanche_ext.config.components import component
from avalanche_ext.config.schema import Component
from avalanche_ext.config.signatures import read_signature
from avalanche_ext.models import SupSup
from tests.compatibility.streams import Head

FOLDER = Path(__file__).parents[2] / "experiments" / "compatibility"
SCRIPT = runpy.run_path(str(FOLDER / "combinations.py"))

Shape = Literal["mlp", "conv"]
"""A multi-layer perceptron, or a convolutional network with batch normalisation."""
MODELS: tuple[Shape, ...] = get_args(Shape)

ModelName = Shape | Literal["supsup"]
"""Or the convolutional network's layers in `SupSup`, which needs a task label an experience."""

ARGS: dict[str, dict[str, Any]] = {
    "metric_loss": {"loss": "ContrastiveLoss"},
    "avalanche:AGEM": {"patterns_per_exp": 5, "sample_size": 5},
    "avalanche:AGEMPlugin": {"patterns_per_experience": 5, "sample_size": 5},
    "avalanche:CWRStar": {"cwr_layer_name": "layers.0"},
    "avalanche:CoPE": {"p_size": 4, "n_classes": 10},
    "avalanche:CoPEPlugin": {"p_size": 4, "n_classes": 10},
    "avalanche:EWC": {"ewc_lambda": 1.0},
    "avalanche:EWCPlugin": {"ewc_lambda": 1.0},
    "avalanche:EarlyStoppingPlugin": {"patience": 1, "val_stream_name": "valid"},
    "avalanche:GEM": {"patterns_per_exp": 5},
    "avalanche:GEMPlugin": {"patterns_per_experience": 5, "memory_strength": 0.5},
    "avalanche:LFL": {"lambda_e": 1.0},
    "avalanche:LFLPlugin": {"lambda_e": 1.0},
    "avalanche:MIRPlugin": {"batch_size_mem": 5},
    "avalanche:RARPlugin": {"batch_size_mem": 5},
    "avalanche:LwF": {"alpha": 1.0, "temperature": 2.0},
    "avalanche:MIR": {"mem_size": 5, "subsample": 5},
    "avalanche:SynapticIntelligence": {"si_lambda": 1.0},
    "avalanche:SynapticIntelligencePlugin": {"si_lambda": 1.0},
}
"""What a part needs, beyond what it has by default."""

SMALL: dict[str, Any] = {
    "mem_size": 24,
    "batch_size": 6,
    "batch_size_mem": 6,
    "n_candidates": 12,
    "size_per_task": 8,
    "patterns_per_exp": 8,
    "hindsight_steps": 2,
    "anchor_steps": 2,
    "n_draws": 2,
    "rank": 4,
    "cwr_layer_name": "classifier",
    "p_size": 10,
    "input_size": [1, 8, 8],
}
"""Arguments that are small enough for the matrix, for every part that has them."""

# An experience has two iterations, so that pulls at the default interval would come after its end.
_EACH_ITERATION = {"interval": 1, "rank": None}

SMALL_ONES: dict[str, dict[str, Any]] = {
    "kronecker_ewc": _EACH_ITERATION,
    "KroneckerEWC": _EACH_ITERATION,
}
"""Such arguments for one part, which come before those of `SMALL`."""

MORE: dict[str, tuple[dict[str, Any], ...]] = {
    "online_ewc": ({"kind": "reversed"},),
    "kronecker_ewc": (
        {"merge": "nearest"},
        {"merge": "none"},
        {"merge": "none", "update": "gradient"},
    ),
    "ogd": ({"outputs": "all"},),
}
"""Choices that change no traits, but what is computed."""


def choices(target: str) -> list[dict[str, Any]]:
    """Arguments that change a part's traits, one for each set of traits but that by default."""
    named = [choice.split(": ") for choice in [*SCRIPT["variants"](target)][1:]]
    return [{argument: options.split(" | ")[0]} for argument, options in named]


@cache
def made(kind: Kind, *, ours_only: bool = False, small: bool = False) -> dict[str, Component]:
    """All plugins or strategies, with every choice of the argument on which traits depend.

    Args:
        kind: "plugin" or "strategy".
        ours_only: Whether to leave out Avalanche's.
        small: Whether arguments are those of `SMALL`, with the choices of `MORE`.
    """
    found: dict[str, Component] = {}
    for name, entry in (OURS[kind] if ours_only else entries(kind)).items():
        # AR1 downloads a model when it is built.
        if name == "avalanche:AR1":
            continue
        given = ARGS.get(name, {})
        if small:
            known = {parameter.name for parameter in read_signature(entry.target).parameters}
            of_all = {key: SMALL[key] for key in SMALL if key in known}
            given = {**given, **of_all, **SMALL_ONES.get(name, {})}
        for more in ({}, *choices(entry.target), *(MORE.get(name, ()) if small else ())):
            part, _ = component(kind, name, {**given, **more}, path="p", name_path="p")
            if part:
                words = ", ".join(f"{key}={value}" for key, value in more.items())
                found[f"{name}({words})" if words else name] = part
    return found


class Net(nn.Module):
    """A body that ends in one hidden layer, and a classifier."""

    def __init__(self, layers: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.layers(x))
        return logits


class MultiHeadNet(MultiTaskModule):
    """The same with a head for each task label."""

    def __init__(self, layers: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.classifier = classifier

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.layers(x), task_labels)
        return logits


def model(name: ModelName, head: Head) -> nn.Module:
    """A small model for digits, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = {
            "mlp": lambda: [nn.Flatten(), nn.Linear(64, 12), nn.ReLU()],
            "conv": lambda: [
                nn.Conv2d(1, 4, 3, stride=2),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Flatten(),
            ],
        }["mlp" if name == "mlp" else "conv"]()
        width = 12 if name == "mlp" else 36
        body = nn.Sequential(*layers)
        if name == "supsup":
            return SupSup(Net(body, nn.Linear(width, 10)))
        if head == "multi":
            return MultiHeadNet(body, MultiHeadClassifier(width, 2))
        if head == "growing":
            return Net(body, IncrementalClassifier(width, 2))
        return Net(body, nn.Linear(width, 10))
