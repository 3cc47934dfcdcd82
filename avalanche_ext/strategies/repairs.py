"""Narrow repairs of Avalanche's plugins and strategies, written for avalanche-lib 0.6.0.

Each class here replaces Avalanche's class of the same name, and its docstring says what it fixes;
see `repair`.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from avalanche.benchmarks import OnlineCLExperience
from avalanche.training import losses
from avalanche.training.plugins import bic, generative_replay, lfl, mir, rwalk
from avalanche.training.supervised import joint_training
from avalanche.training.templates import SupervisedTemplate
from avalanche.training.utils import cycle
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader

from avalanche_ext.data import Strategy


class BiCPlugin(bic.BiCPlugin):  # type: ignore[misc]
    """BiC that runs.

    Avalanche's BiC sets the dataset of an experience, which is read-only; this one sets that of a
    copy. Avalanche's also passes a scheduler an argument that torch has removed; this one does not.
    """

    def before_train_dataset_adaptation(self, strategy: Strategy, **kwargs: Any) -> None:
        """Hold out validation samples from a copy of the experience."""
        strategy.experience = _WithOwnDataset(strategy.experience)
        super().before_train_dataset_adaptation(strategy, **kwargs)

    def bias_correction_step(self, strategy: Strategy, **kwargs: Any) -> None:
        """Train the bias layer."""
        with patch.object(bic, "MultiStepLR", _without_verbose):
            super().bias_correction_step(strategy, **kwargs)


class GenerativeReplayPlugin(generative_replay.GenerativeReplayPlugin):  # type: ignore[misc]
    """Generative replay whose task labels stay integers."""

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Append generated samples to the mini-batch."""
        super().before_training_iteration(strategy, **kwargs)
        strategy.mbatch[-1] = strategy.mbatch[-1].long()


class TrainGeneratorAfterExpPlugin(generative_replay.TrainGeneratorAfterExpPlugin):  # type: ignore[misc]
    """Trains the generators of all generative replay plugins, including repaired ones."""

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Train each generator on the experience that has just ended."""
        for plugin in strategy.plugins:
            if isinstance(plugin, generative_replay.GenerativeReplayPlugin):
                plugin.generator_strategy.train(strategy.experience)


class JointTraining(joint_training.JointTraining):  # type: ignore[misc]
    """Joint training that adapts a multi-head model to the evaluated experiences.

    Avalanche's adapts it only to the training experiences, so an untrained model lacks the heads.
    """

    def model_adaptation(self, model: nn.Module | None = None) -> nn.Module:
        """Return the model with the heads that training, or the evaluated experience, needs."""
        adapt = super().model_adaptation if self.is_training else self._to_experience
        adapted: nn.Module = adapt(model)
        return adapted

    def _to_experience(self, model: nn.Module | None) -> nn.Module:
        adapted: nn.Module = SupervisedTemplate.model_adaptation(self, model)
        return adapted


class LFLPlugin(lfl.LFLPlugin):  # type: ignore[misc]
    """LFL that leaves the model in training mode."""

    def compute_features(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the model and of its predecessor, (B, n_features) each."""
        was_training = model.training
        features: tuple[Tensor, Tensor] = super().compute_features(model, x)
        model.train(was_training)
        return features


class MaskedCrossEntropy(losses.MaskedCrossEntropy):  # type: ignore[misc]
    """Masked cross-entropy that can also evaluate an untrained model, over all classes."""

    def current_mask(self, logit_shape: int) -> list[int]:
        """Return the classes that the loss covers."""
        return super().current_mask(logit_shape) or [*range(logit_shape)]


class MIRPlugin(mir.MIRPlugin):  # type: ignore[misc]
    """MIR that replays all stored samples.

    Avalanche's leaves out the classes of an experience's last mini-batch until another experience
    has ended, which makes sense only if experiences are mini-batches.
    """

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Store samples, and create a loader over all of them."""
        super().after_training_exp(strategy, **kwargs)
        buffer = self.storage_policy.buffer
        is_online = isinstance(strategy.experience, OnlineCLExperience)
        if not is_online and len(buffer) > self.batch_size_mem:
            self.replay_loader = cycle(DataLoader(buffer, batch_size=self.subsample, shuffle=True))


class RWalkPlugin(rwalk.RWalkPlugin):  # type: ignore[misc]
    """RWalk that leaves the model in training mode, and has no NaN in its penalty.

    Avalanche's divides 0 by 0 if no score is above 0, as after an experience of fewer than
    `delta_t` iterations.
    """

    def before_training_iteration(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Compute the gradient of the criterion."""
        super().before_training_iteration(strategy, *args, **kwargs)
        strategy.model.train()

    def after_training_exp(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Set the penalty for the next experience."""
        super().after_training_exp(strategy, *args, **kwargs)
        if max(float(score.data.max()) for score in self.exp_scores.values()) > 0.0:
            return
        largest = max(float(each.data.max()) for each in self.exp_importance.values())
        for name, penalty in self.exp_penalties.items():
            penalty.data = self.exp_importance[name].data / largest


_REPAIRED: dict[type, type] = {
    repaired.__bases__[0]: repaired
    for repaired in (
        BiCPlugin,
        GenerativeReplayPlugin,
        JointTraining,
        LFLPlugin,
        MIRPlugin,
        MaskedCrossEntropy,
        RWalkPlugin,
        TrainGeneratorAfterExpPlugin,
    )
}


def repair(strategy: Strategy) -> None:
    """Fix errors of Avalanche's plugins in a strategy that has not been trained yet.

    The strategy and its plugins change class to those of this module. PackNet nests the user's
    plugins in a list, which Avalanche never calls; they are flattened here.
    """
    strategy.plugins = [*_flat(strategy.plugins)]
    for part in (strategy, *strategy.plugins):
        part.__class__ = _REPAIRED.get(type(part), type(part))


def _flat(plugins: list[Any]) -> Any:
    for plugin in plugins:
        if isinstance(plugin, list | tuple):
            yield from plugin
        elif plugin is not None:
            yield plugin


class _WithOwnDataset:
    """An experience whose dataset can be replaced without changing the experience."""

    def __init__(self, experience: Any) -> None:
        self._experience = experience
        self.dataset = experience.dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._experience, name)


def _without_verbose(
    optimizer: torch.optim.Optimizer, *, verbose: bool, **given: Any
) -> MultiStepLR:
    return MultiStepLR(optimizer, **given)
