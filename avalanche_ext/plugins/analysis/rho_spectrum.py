"""The ρ-spectrum of hidden representations after each experience."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from avalanche.models.utils import is_multi_task_module
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn

from avalanche_ext.data import Strategy, origin_experience, origin_index
from avalanche_ext.functional.model.running import generators_kept, outputs_at
from avalanche_ext.functional.representation.rho import Directions, rho_directions
from avalanche_ext.plugins.core.composition import ReportingPlugin
from avalanche_ext.plugins.core.gathering import (
    LOGITS,
    Gatherer,
    gathered_layers,
    linear_layers,
    named_layers,
)
from avalanche_ext.plugins.core.model import (
    hooked_model,
    mask_values,
    own_model,
    task_labels,
    unmasked,
)
from avalanche_ext.plugins.representation.base import concatenated
from avalanche_ext.results.exhibits import RhoSpectra, names_in, table
from avalanche_ext.validation import validated

Gathered = dict[str, Tensor]
"""Representations by the name of their layer, each (n, H_l)."""


@dataclass(frozen=True)
class Rho:
    """The ρ-spectrum after an experience.

    Attributes:
        experience: The experience, counted from 0.
        n_samples: The number of samples.
        whole: The spectrum of the representations of all layers side by side.
        layers: The spectra of each layer's representations alone, by its name.
    """

    experience: int
    n_samples: int
    whole: Directions
    layers: dict[str, Directions]


class RhoSpectrumPlugin(ReportingPlugin):
    """Measure the ρ-spectrum of hidden representations after each experience.

    Training is not changed. The plugin gathers the representations of the first `n_samples` samples
    of each task seen so far while a stream is evaluated, which must happen after each experience.
    If the evaluation takes several calls, the spectrum is available after the last one. If the
    evaluated stream and the training stream have different numbers of experiences, everything
    evaluated in one call counts. Representations of all layers are put side by side, as in the DRL
    paper (Chen, Diethe and Flach 2020, Table 4), and each layer also has its own ρ.
    `functional.rho_spectrum` defines ρ, and its docstring explains the effect of units that are
    always 0; a second number leaves them out.

    Tasks are experiences of the original stream. The time it takes counts as evaluation. Give each
    strategy its own plugin.

    Args:
        n_samples: Number of samples of each task, all if it has fewer.
        layers: Names of modules, as in `model.named_modules()`, whose outputs are used, and
            "logits" for the model's output. None is the paper's choice: the input of each linear or
            multi-head layer, if it depends on parameters. On an MLP these are all hidden layers
            after their activations, on a ResNet the pooled features. Each is named after the layer
            that takes it as input.
        stream: Name of the evaluated stream; evaluations of other streams are ignored.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, or if `layers` is empty;
            when the stream is evaluated, if the model lacks one of them.
    """

    supports_distributed = False

    @validated
    def __init__(
        self,
        n_samples: PositiveInt = 200,
        *,
        layers: list[str] | None = None,
        stream: str = "test",
    ) -> None:
        super().__init__()
        self.n_samples = n_samples
        self.layers = named_layers(layers)
        self.stream = stream
        self.spectra: dict[int, Rho] = {}
        """The last spectrum after each training experience."""
        self._seen: list[int] = []
        self._is_new = False
        self._gathered: dict[int, list[Gathered]] = {}
        self._gathered_at = 0
        self._task: int | None = None
        self._n_tasks: int | None = None
        self._is_divided = True
        self._n_missing = 0
        self._hooked: dict[str, nn.Module] = {}
        self._gatherer = Gatherer()

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        gathered_layers(hooked_model(strategy), self.layers)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the current task, and mark the last spectrum as old."""
        experience = origin_index(strategy.experience)
        self._seen = [*(each for each in self._seen if each != experience), experience]
        self._n_tasks = _length_of_stream(strategy.experience)
        self._is_new = False

    def before_eval(self, strategy: Strategy, **kwargs: Any) -> None:
        """Forget representations from before the last training."""
        if self._gathered_at != strategy.clock.train_iterations:
            self._gathered = {}
        self._gathered_at = strategy.clock.train_iterations

    def before_eval_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Check whether this experience's samples count."""
        experience = strategy.experience.logging()
        task = int(experience.current_experience)
        if experience.origin_stream.name == self.stream:
            self._is_divided = self._n_tasks == _length_of_stream(experience)
        is_asked = experience.origin_stream.name == self.stream and bool(self._seen)
        counts = is_asked and (task in self._seen or not self._is_divided)
        self._task = task if counts else None
        self._n_missing = self.n_samples if counts else 0
        self._hooked = {}
        if counts:
            self._gathered[task] = []

    def before_eval_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Attach the hooks if samples are still missing."""
        if not self._n_missing:
            return
        if not self._hooked:
            self._hooked = (
                gathered_layers(own_model(strategy), self.layers)
                if self.layers
                else _hidden(hooked_model(strategy), strategy.mb_x[:1], task_labels(strategy)[:1])
            )
        self._gatherer.start(strategy.model, self._hooked, "outputs" if self.layers else "inputs")

    def after_eval_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Keep the representations, and detach the hooks."""
        if not self._n_missing or self._task is None:
            return
        self._gatherer.stop()
        gathered = self._gatherer.taken(strategy.mb_output, task_labels(strategy))
        if self.layers and LOGITS in self.layers:
            gathered[LOGITS] = unmasked(strategy.mb_output, mask_values(own_model(strategy)))
        # Copied, so that a slice does not keep the whole array alive.
        kept = {name: rows[: self._n_missing].clone() for name, rows in gathered.items()}
        self._gathered[self._task].append(kept)
        self._n_missing -= min(self._n_missing, len(strategy.mb_x))

    def after_eval(self, strategy: Strategy, **kwargs: Any) -> None:
        """Compute the spectrum once all tasks seen so far have been evaluated."""
        self._task = None
        tasks = self._seen if self._is_divided else [*self._gathered]
        pieces = [piece for each in tasks for piece in self._gathered.get(each, [])]
        if not self._seen or not pieces or not all(self._gathered.get(each) for each in tasks):
            return
        # A layer that runs only for some tasks has no representations for the others.
        names = [name for name in pieces[0] if all(name in piece for piece in pieces)]
        if names:
            layers = {name: torch.cat([piece[name].cpu() for piece in pieces]) for name in names}
            experience = self._seen[-1]
            self.spectra.pop(experience, None)  # Moves it to the end.
            self.spectra[experience] = _measured(experience, layers)
            self._is_new = True
            self.publish(strategy)

    def after_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Publish nothing: the evaluation that computes the spectrum does."""

    def diagnostics(self) -> dict[str, float]:
        """Return ρ after the current experience, of all layers and of each, where it is defined."""
        if not self._is_new:
            return {}
        spectrum = self.spectra[self._seen[-1]]
        told = {
            "rho_spectrum": spectrum.whole.rho,
            "rho_spectrum_alive": spectrum.whole.alive_rho,
            "rho_spectrum_rank": float(spectrum.whole.n_alive),
            **{f"rho_spectrum/{name}": each.rho for name, each in spectrum.layers.items()},
        }
        return {name: value for name, value in told.items() if np.isfinite(value)}

    def exhibits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the spectra of all experiences."""
        if not self.spectra:
            return {}
        return {RhoSpectra.NAME: _as_exhibit([*self.spectra.values()]).to_arrays()}


def _length_of_stream(experience: Any) -> int | None:
    """Return the number of experiences of the original stream; None if it is unknown."""
    stream = origin_experience(experience).origin_stream
    # Streams made of generators have no length, but some keep a list.
    sized = stream if isinstance(stream, Sized) else getattr(stream, "exps_iter", None)
    return len(sized) if isinstance(sized, Sized) else None


def _hidden(model: nn.Module, x: Tensor, t: Tensor) -> dict[str, nn.Module]:
    """Return the linear and multi-head layers whose input depends on parameters, trained or not."""
    layers, gatherer = linear_layers(model), Gatherer()
    gatherer.start(model, layers, "inputs")
    parameters = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}
    try:
        with torch.enable_grad(), generators_kept(x.device):
            output = outputs_at(parameters, model, (x, t) if is_multi_task_module(model) else (x,))
    finally:
        gatherer.stop()
    entered = gatherer.taken(output, t)
    return {name: layers[name] for name, rows in entered.items() if rows.requires_grad}


def _measured(experience: int, layers: Gathered) -> Rho:
    whole = concatenated([*layers.values()])
    return Rho(
        experience,
        len(whole),
        rho_directions(whole),
        {name: rho_directions(rows) for name, rows in layers.items()},
    )


def _as_exhibit(spectra: Sequence[Rho]) -> RhoSpectra:
    """Return the spectra of one or more experiences in the form that reports read."""
    layers = [{name: each.rho for name, each in rho.layers.items()} for rho in spectra]
    names = names_in(layers)
    return RhoSpectra(
        experience=np.array([each.experience for each in spectra], dtype=np.int64),
        n_samples=np.array([each.n_samples for each in spectra], dtype=np.int64),
        rho=np.array([each.whole.rho for each in spectra]),
        alive_rho=np.array([each.whole.alive_rho for each in spectra]),
        n_alive=np.array([each.whole.n_alive for each in spectra], dtype=np.int64),
        n_directions=np.array([each.whole.n for each in spectra], dtype=np.int64),
        layer=np.array(names, dtype=np.str_),
        layer_rho=table(layers, names),
    )
