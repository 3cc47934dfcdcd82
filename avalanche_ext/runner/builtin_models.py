"""Arguments that some of Avalanche's strategies take instead of a model and the cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.models import MlpVAE
from avalanche.models.generator import VAE_loss
from avalanche.models.scr_model import SCRModel
from avalanche.training.losses import MaskedCrossEntropy
from avalanche.training.plugins import GenerativeReplayPlugin
from avalanche.training.supervised import VAETraining
from torch import nn

from avalanche_ext.metrics.recorder import NoEvaluation
from avalanche_ext.models.features import Features, FeaturesAndClassifier, single_head
from avalanche_ext.models.packnet import packnet_model
from avalanche_ext.models.progressive import progressive_network

_N_PROJECTED = 128
_GENERATOR_RATE = 0.01
_GENERATOR_DECAY = 1e-4


@dataclass(frozen=True)
class Given:
    """What a run can pass to a strategy.

    Attributes:
        model: The YAML's model.
        criterion: The YAML's loss function.
        args: The YAML's arguments of the strategy.
        template: Arguments of Avalanche's template: `train_mb_size`, `train_epochs`,
            `eval_mb_size` and `device`.
        input_shape: Shape of one sample.
        n_classes: Number of classes, or of outputs of each head.
    """

    model: nn.Module
    criterion: nn.Module
    args: Mapping[str, Any]
    template: Mapping[str, Any]
    input_shape: Sequence[int]
    n_classes: int


def model_arguments(target: str, given: Given) -> dict[str, Any]:
    """Return a strategy's arguments for its model and its loss function.

    Args:
        target: The strategy, `package.module:Name`.
        given: The available objects.

    Raises:
        ValueError: If the YAML's model cannot be converted to the kind that the strategy needs.
    """
    module, _, name = target.partition(":")
    make = _MAKERS.get(name, _plain) if module.startswith("avalanche.") else _plain
    return make(given)


def trained(arguments: Mapping[str, Any]) -> list[nn.Parameter]:
    """Return the parameters of all modules among a strategy's arguments."""
    modules = [each for each in arguments.values() if isinstance(each, nn.Module)]
    return [parameter for module in modules for parameter in module.parameters()]


def _plain(given: Given) -> dict[str, Any]:
    return {"model": given.model, "criterion": given.criterion}


def _feature_replay(given: Given) -> dict[str, Any]:
    # Avalanche's default criterion is shared by all runs and masks no class seen so far, contrary
    # to the strategy's description; with it, the method forgets like Naive.
    criterion = MaskedCrossEntropy(mask="new")
    model = FeaturesAndClassifier(given.model, given.input_shape)
    return {"model": model, "criterion": criterion}


def _generative_replay(given: Given) -> dict[str, Any]:
    # Like Avalanche's default, which only takes 28×28 images and prints its progress.
    generator = MlpVAE(tuple(given.input_shape), nhid=2, device=given.template["device"])
    strategy = VAETraining(
        model=generator,
        optimizer=torch.optim.Adam(
            generator.parameters(), lr=_GENERATOR_RATE, weight_decay=_GENERATOR_DECAY
        ),
        criterion=VAE_loss,
        plugins=[GenerativeReplayPlugin(**given.args)],
        evaluator=NoEvaluation(),
        **given.template,
    )
    return {**_plain(given), "generator_strategy": strategy}


def _icarl(given: Given) -> dict[str, Any]:
    return {
        "feature_extractor": Features(given.model, given.input_shape),
        "classifier": single_head(given.model, given.input_shape),
        "buffer_transform": None,
    }


def _lfl(given: Given) -> dict[str, Any]:
    model = FeaturesAndClassifier(given.model, given.input_shape)
    return {"model": model, "criterion": given.criterion}


def _packnet(given: Given) -> dict[str, Any]:
    model = packnet_model(given.model, given.n_classes, given.input_shape)
    return {"model": model, "criterion": given.criterion}


def _pnn(given: Given) -> dict[str, Any]:
    model = progressive_network(given.model, given.input_shape)
    return {"model": model, "criterion": given.criterion}


def _scr(given: Given) -> dict[str, Any]:
    features = Features(given.model, given.input_shape)
    n = features.n_features
    projection = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, _N_PROJECTED))
    return {"model": SCRModel(features, projection)}


_MAKERS: dict[str, Callable[[Given], dict[str, Any]]] = {
    "FeatureReplay": _feature_replay,
    "GenerativeReplay": _generative_replay,
    "ICaRL": _icarl,
    "LFL": _lfl,
    "PNNStrategy": _pnn,
    "PackNet": _packnet,
    "SCR": _scr,
}
