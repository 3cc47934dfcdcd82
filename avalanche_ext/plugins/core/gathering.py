"""Hidden representations, gathered by forward hooks while a model runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from avalanche.models import MultiTaskModule
from avalanche.models.packnet import WeightAndBiasPackNetModule
from torch import Tensor, nn

from avalanche_ext.functional.model.wrapped import called_uncompiled, plain_name, unwrapped

LOGITS = "logits"
"""The name that stands for the model's output in a list of layers."""


@dataclass
class _Pass:
    """The layers' inputs or outputs in one run of the model, by name, and the model's output."""

    gathered: dict[str, list[Tensor]] = field(default_factory=dict)
    output: object = None


class Gatherer:
    """Gathers inputs or outputs of layers by forward hooks while a model runs, uncompiled."""

    def __init__(self) -> None:
        self._hooking = ExitStack()
        self._passes: list[_Pass] = []
        self._expected: tuple[Mapping[str, nn.Module], bool] | None = None

    def start(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        of: Literal["inputs", "outputs"],
    ) -> None:
        """Start to gather the inputs or outputs of layers.

        Args:
            model: The model, or a wrapper of it, that will be called.
            layers: Its layers by name; see `gathered_layers`.
            of: "outputs" of layers named by the user, which must all run, or "inputs" of the
                default layers, at least one of which must run.
        """
        self.stop()  # A failed forward pass leaves its hooks behind.
        self._passes, self._expected = [], None
        if not layers:
            return
        self._passes = [_Pass()]  # Layers may also run outside of the model's forward.
        self._expected = layers, of == "outputs"
        own = unwrapped(model)
        self._hooking.enter_context(called_uncompiled(model))
        self._hooking.enter_context(own.register_forward_pre_hook(self._begin_pass))
        for name, layer in layers.items():
            self._hooking.enter_context(
                layer.register_forward_pre_hook(partial(self._gather_input, name))
                if of == "inputs"
                else layer.register_forward_hook(partial(self._gather_output, name))
            )
        self._hooking.enter_context(own.register_forward_hook(self._end_pass))

    def stop(self) -> None:
        """Stop gathering, and remove the hooks."""
        self._hooking.close()

    def taken(self, output: Tensor, task_labels: Tensor) -> dict[str, Tensor]:
        """Return what was gathered in the pass that returned `output`, and discard the rest.

        Args:
            output: The model's output for the mini-batch. If the model ran only once, this may be a
                different tensor from the one it returned.
            task_labels: The mini-batch's task labels, (B,).

        Returns:
            The gathered tensors of each layer that ran, (B, H_l), by name, in the order of the
            runs; in float32 if they had lower precision.

        Raises:
            ValueError: If the model ran several times and `output` is not the result of exactly one
                run, if nothing was gathered from a required layer, or if a layer saw rows other
                than the mini-batch's.
        """
        passes, self._passes = self._passes, []
        expected, self._expected = self._expected, None
        if expected is None:
            return {}
        layers, are_named = expected
        gathered = _of_output(passes, output).gathered
        missing = [name for name in layers if name not in gathered]
        if missing and (are_named or not gathered):
            raise ValueError(
                f"nothing was gathered from {' or '.join(map(repr, missing))} when the model ran "
                "on the mini-batch: it does not call the layer, or skips its hooks; name layers "
                "that run"
            )
        return {name: _of_batch(name, pieces, task_labels) for name, pieces in gathered.items()}

    def _begin_pass(self, model: nn.Module, inputs: object) -> None:
        # A new list, so that what compiled code gathers stays inside it.
        self._passes = [*self._passes, _Pass()]

    def _end_pass(self, model: nn.Module, inputs: object, output: object) -> None:
        self._passes[-1].output = output

    def _gather_input(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._gather(name, inputs[0])

    def _gather_output(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._gather(name, output)

    def _gather(self, name: str, rows: Tensor) -> None:
        self._passes[-1].gathered.setdefault(name, []).append(in_float32(rows.flatten(1)))


def in_float32(rows: Tensor) -> Tensor:
    """Convert rows of lower precision, as from autocast, to float32; return others unchanged."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def named_layers(layers: Sequence[str] | None) -> Sequence[str] | None:
    """Return `layers`, names of layers or None for the default ones.

    Raises:
        ValueError: If `layers` is empty.
    """
    if layers is not None and not layers:
        raise ValueError("layers=[] names no layer: name one, or give None for the default")
    return layers


def gathered_layers(model: nn.Module, layers: Sequence[str] | None) -> dict[str, nn.Module]:
    """Return the named modules, or with `layers=None` the linear ones, by name.

    Args:
        model: The user's own module, which contains them; compiled parts have their plain names.
        layers: As for `RepresentationLossPlugin`; "logits" names no module and is skipped.

    Raises:
        ValueError: If the model lacks one of them.
    """
    if layers is None:
        return linear_layers(model)
    modules = {plain_name(name): unwrapped(module) for name, module in model.named_modules()}
    names = [name for name in layers if name != LOGITS]
    for name in names:
        if name not in modules:
            raise ValueError(
                f"layers={layers}: the model has no module {name!r}; "
                f"it has {', '.join(filter(None, modules))}"
            )
    return {name: modules[name] for name in names}


def linear_layers(model: nn.Module, prefix: str = "") -> dict[str, nn.Module]:
    """Return the linear layers of `model`, with a multi-head layer in place of its heads, by name.

    Args:
        model: The model, or a part of it.
        prefix: Prefix of the names of a part's layers.
    """
    layers: dict[str, nn.Module] = {}
    for name, wrapper in model.named_children():
        child = unwrapped(wrapper)
        if isinstance(child, nn.Linear | MultiTaskModule) or _is_packed_linear(child):
            layers[prefix + name] = child
        else:
            layers |= linear_layers(child, f"{prefix}{name}.")
    return layers


def _is_packed_linear(module: nn.Module) -> bool:
    """Return whether it is PackNet's wrapper of a linear layer, which uses the weight directly."""
    return isinstance(module, WeightAndBiasPackNetModule) and isinstance(module.wrappee, nn.Linear)


def _of_output(passes: Sequence[_Pass], output: object) -> _Pass:
    """Return the pass that returned `output`, or the only one."""
    ran = [each for each in passes if each.gathered or each.output is not None]
    found = [each for each in ran if each.output is output] or ran or [_Pass()]
    if len(found) > 1:
        raise ValueError(
            f"the model ran {len(ran)} times between before_forward and after_forward, and "
            "strategy.mb_output is not what one of these passes returned, so the mini-batch's "
            "representations cannot be told from the others: set strategy.mb_output to the "
            "model's own output"
        )
    return found[0]


def _of_batch(name: str, pieces: Sequence[Tensor], task_labels: Tensor) -> Tensor:
    """Join the tensors from several calls of a layer to one, (B, H).

    The heads of a multi-head model see the samples of one task after another; these are put back in
    the batch's order. A layer that runs more than once sees the whole batch each time; these pieces
    are concatenated.
    """
    sizes = [len(piece) for piece in pieces]
    if all(size == len(task_labels) for size in sizes):
        return torch.cat(list(pieces), dim=1) if len(pieces) > 1 else pieces[0]
    if sum(sizes) != len(task_labels):
        raise ValueError(
            f"layer {name!r} saw {' + '.join(map(str, sizes))} rows of a mini-batch of "
            f"{len(task_labels)}: name a layer that sees each sample of the mini-batch once"
        )
    by_task = torch.argsort(task_labels, stable=True)
    return torch.cat(list(pieces))[torch.argsort(by_task)]
