"""What a plugin must do in a strategy, and may not do, by its traits."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from avalanche.core import BaseSGDPlugin
from avalanche.models import avalanche_forward
from avalanche.models.utils import is_multi_task_module
from avalanche.training.templates.update_type import SGDUpdate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.fisher.curvature import Curvature
from avalanche_ext.functional.fisher.kronecker import KroneckerCurvature
from avalanche_ext.functional.fisher.summed import SummedCurvature
from avalanche_ext.plugins import (
    ConsolidationPlugin,
    MemoryPlugin,
    OGDPlugin,
    ReportingPlugin,
    RepresentationLossPlugin,
    StoringPlugin,
)
from avalanche_ext.traits import Phase, Traits, traits_of
from tests.compatibility.streams import Stream
from tests.compatibility.watching import HOOKS, Call, Criterion

MASKED = -999.0
"""Avalanche's heads give unused units less than this."""


class Wrong(AssertionError):
    """A plugin did what it may not do, or did it wrongly."""


class Uncheckable(AssertionError):
    """There is no check for a plugin of this kind yet."""


def require(holds: Any, message: str) -> None:
    """Raise `Wrong` with this message unless the condition holds."""
    if not holds:
        raise Wrong(message)


def allowed(traits: Traits) -> set[tuple[str, str]]:
    """Hooks and what a plugin may change in them."""
    before, loss = ("before_training_iteration", "rows"), ("before_backward", "loss")
    gradient = ("after_backward", "gradient")
    if traits.phase is None:
        return set()
    if traits.phase is Phase.DATA:
        more = {loss, gradient, ("after_training_iteration", "weights")}
        splitting = {loss} if traits.splits_loss else set()
        return {before, *splitting, *(more if traits.beyond_criterion else ())}
    if traits.phase is Phase.PENALTY:
        return {loss, ("before_backward", "gradient")}
    if traits.phase is Phase.PULL:
        return {("after_update", "weights")}
    if traits.criterion_alone:
        moved = {("before_update", "weights"), ("before_update", "gradient")}
        return {("before_forward", "weights"), *moved}
    return {gradient}


class Oracle:
    """Checks each call of our plugins, and at the end what they hold.

    Args:
        stream: What is trained on.
        strategy: The strategy, built.
        criterion: Its criterion.
    """

    def __init__(self, stream: Stream, strategy: Any, criterion: Criterion) -> None:
        self.strategy = strategy
        self.criterion = criterion
        self.n_effects: dict[int, int] = {}
        self.seen_tasks: list[int] = []
        self._samples: dict[bytes, list[tuple[int, int, int]]] = {}
        self._n_arrived = self._n_rows = 0
        self._from_stream: list[Tensor] = []
        for task, columns in stream.tasks().items():
            for x, y, t in zip(*columns, strict=True):
                found = self._samples.setdefault(_key(x), [])
                found.append((task, int(y), int(t)))
        self._is_usual = type(strategy).training_epoch is SGDUpdate.training_epoch

    def check(self, plugin: Any, call: Call, strategy: Any) -> None:
        """Check one call of a plugin's hook, which has just returned."""
        traits, changed = traits_of(plugin), call.changed()
        first = next(p for p in strategy.plugins if isinstance(p, ReportingPlugin))
        if call.hook == "after_training_iteration" and plugin is first:
            self._n_arrived += self._n_rows if strategy.clock.train_exp_epochs == 0 else 0
        if call.hook == "before_training_iteration" and plugin is first:
            self._from_stream = call.before.rows
            self._n_rows = len(call.before.rows[1])
        if call.hook not in HOOKS:
            require("weights" not in changed, f"{call.hook} changes the weights")
            return
        for what in changed:
            # Between iterations the mini-batch, the loss and the gradient are old ones.
            may = (call.hook, what) in allowed(traits)
            require(may, f"{call.hook} changes the {what}, against its traits")
        # A strategy that trains once has one experience.
        if changed and (call.experience > 0 or traits_of(strategy).trains_once):
            self._note(plugin)
        if traits.phase is None:
            return
        if call.hook == "before_backward" and self._is_usual and self.criterion.seen:
            labels = strategy.mb_y.tolist()
            require(self.criterion.seen[-1][0] == labels, "the criterion saw other rows")
        for family, hook, check in (
            (MemoryPlugin, "before_training_iteration", self._rows),
            (MemoryPlugin, "before_backward", self._split_loss),
            (RepresentationLossPlugin, "before_backward", self._representation_loss),
            (ConsolidationPlugin, "before_backward", self._penalty_gradient),
            (ConsolidationPlugin, "after_update", self._pull),
            (OGDPlugin, "after_backward", self._orthogonal_projection),
        ):
            if isinstance(plugin, family) and call.hook == hook:
                check(plugin, call, strategy)
        if isinstance(plugin, StoringPlugin):
            usual = BaseSGDPlugin.after_backward
            if call.hook == "after_backward" and type(plugin).after_backward is not usual:
                self._projection(plugin, call, strategy)
        if traits.criterion_alone and call.hook == "before_update":
            require("weights" in changed, "before_update leaves the weights")
            none = all(piece is None for piece in call.after.gradient)
            require(none, "the optimizer still finds a gradient")
        kinds = (
            MemoryPlugin, RepresentationLossPlugin, ConsolidationPlugin, StoringPlugin, OGDPlugin
        )  # fmt: skip
        if not isinstance(plugin, kinds) and not traits.criterion_alone:
            raise Uncheckable(f"no check for {type(plugin).__name__}, a new kind of plugin")

    def finish(self, plugin: Any) -> None:
        """Check what a plugin holds after all training."""
        if isinstance(plugin, StoringPlugin):
            self._memory(plugin)
        if traits_of(plugin).phase is None:
            exhibits = [*plugin.exhibits().values()]
            require(exhibits, "no exhibit")
            told = exhibits[0]["experience"].tolist()
            require(sorted(told) == sorted(self.seen_tasks), f"exhibits of experiences {told}")

    def _note(self, plugin: Any) -> None:
        self.n_effects[id(plugin)] = self.n_effects.get(id(plugin), 0) + 1

    def _is_from(self, x: Tensor, y: Tensor, t: Tensor | None, tasks: set[int]) -> bool:
        for i, row in enumerate(x):
            known = self._samples.get(_key(row), [])
            label = int(y[i])
            if not any(
                task in tasks and label == known_y and (t is None or int(t[i]) == known_t)
                for task, known_y, known_t in known
            ):
                return False
        return True

    def _rows(self, plugin: Any, call: Call, strategy: Any) -> None:
        before, after = self._from_stream, call.after.rows
        x, y, *t = before
        require(
            self._is_from(x, y, t[0] if t else None, {call.task}),
            "rows that arrive are not the experience's",
        )
        arrived = [column.detach() for column in plugin.arrived][: len(before)]
        require(all(map(torch.equal, arrived, before)), "what arrived is not what the stream gave")
        n_drawn = len(plugin.slots)
        if not n_drawn:
            require("rows" not in call.changed(), "rows change though nothing is drawn")
            return
        joined = plugin.stream == "joined"
        if joined:
            n_held = min(self._n_arrived, plugin.buffer.max_size)
            require(n_drawn == min(plugin.batch_size, n_held), f"{n_drawn} rows are drawn")
        require(n_drawn <= plugin.batch_size, f"{n_drawn} rows are drawn")
        if joined and plugin.loss == "separate":
            require("rows" not in call.changed(), "rows change though they are kept apart")
            drawn = plugin.buffer.fetch(plugin.slots)[: len(after)]
        else:
            n = len(y) if joined else 0
            require(len(after[1]) == n + n_drawn, "another number of rows than declared")
            same = all(torch.equal(a[:n], b) for a, b in zip(after, before, strict=True))
            require(same or not joined, "the stream's rows do not come first")
            drawn = [column[n:] for column in after]
        self._drawn_rows(plugin, drawn, {*self.seen_tasks})

    def _drawn_rows(self, plugin: Any, drawn: Any, tasks: set[int]) -> None:
        x, y, *t = drawn
        edited = torch.tensor(plugin.buffer.notes(plugin.slots).n_replaced) > 0
        clean = ~edited
        held = self._is_from(x[clean], y[clean], t[0][clean] if t else None, tasks)
        require(held, "replayed rows are not from the stream so far")
        labels = {label for found in self._samples.values() for _, label, _ in found}
        require({*y.tolist()} <= labels, "replayed labels are not the stream's")

    def _split_loss(self, plugin: Any, call: Call, strategy: Any) -> None:
        """The loss is the sum of criteria that `loss` says, and with beyond_criterion more."""
        delta = float((call.after.loss - call.before.loss).sum())
        n, expected = plugin.n_stream, 0.0
        output, labels = strategy.mb_output.detach(), strategy.mb_y
        if len(plugin.slots) and plugin.loss == "sum" and n:
            parts = (output[:n], labels[:n]), (output[n:], labels[n:])
            expected = float(sum(cross_entropy(*part) for part in parts))
            expected -= float(cross_entropy(output, labels))
        if len(plugin.slots) and plugin.loss == "separate":
            x, y, t = plugin.buffer.fetch(plugin.slots)
            expected = float(cross_entropy(avalanche_forward(copied(strategy.model), x, t), y))
        if not traits_of(plugin).beyond_criterion or plugin.phase is not Phase.DATA:
            require(abs(delta - expected) < 1e-4, f"the loss grows by {delta}, not {expected}")
        else:
            require(delta > expected - 1e-4, f"the loss grows by {delta}, less than {expected}")

    def _representation_loss(self, plugin: Any, call: Call, strategy: Any) -> None:
        require(call.hidden is not None, "the output is not that of a pass of the model")
        logits = call.output.masked_fill(call.output < MASKED, 0)
        hidden = [call.hidden] if call.hidden.requires_grad else []
        shared = [] if is_multi_task_module(strategy.model) else [logits]
        seen = {"hidden and logits": [*hidden, *shared], "last hidden": hidden}
        t = call.after.rows[2] if len(call.after.rows) > 2 else torch.zeros_like(strategy.mb_y)
        labels = strategy.mb_y + 100 * t
        loss = plugin.representation_loss(seen[plugin.default_layers], labels)
        delta, expected = float(call.after.loss - call.before.loss), plugin.lam * float(loss)
        require(
            abs(delta - expected) <= 1e-4 * (1 + abs(expected)),
            f"the loss grows by {delta}, not {expected}",
        )

    def _penalty_gradient(self, plugin: Any, call: Call, strategy: Any) -> None:
        require("loss" not in call.changed(), "the loss changes, not the gradient alone")
        if plugin.phase is not Phase.PENALTY or plugin.curvature is None:
            return
        difference = _flat(call.after.gradient, strategy) - _flat(call.before.gradient, strategy)
        weights = call.before.weights
        where, expected = _held(plugin, weights, strategy), torch.zeros_like(weights)
        drift = (weights[where] - plugin.anchor).double()
        for weight, term in _terms(plugin.curvature):
            expected[where] += plugin.lam * weight * _product(term, drift).float()
        expected = _trained(expected, strategy)
        require(
            torch.allclose(difference, expected, rtol=1e-3, atol=1e-6),
            "the gradient grows by something else than the penalty's",
        )

    def _pull(self, plugin: Any, call: Call, strategy: Any) -> None:
        if plugin.phase is not Phase.PULL or plugin.curvature is None:
            return
        before, after = call.before.weights, call.after.weights
        rate = strategy.optimizer.param_groups[0]["lr"]
        where, terms = _held(plugin, after, strategy), _terms(plugin.curvature)
        # What one step after another has shrunk, (I + ληF) of each restores, the last one first.
        restored = (after[where] - plugin.anchor).double()
        for weight, term in reversed(terms):
            restored += rate * plugin.lam * weight * _product(term, restored)
        moved, force = after - before, torch.zeros_like(after)
        force[where] = (restored - (after[where] - plugin.anchor)).float()
        residual = (moved + force).abs().max()
        scale = moved.abs().max() + force.abs().max()
        require(residual <= 1e-3 * scale + 1e-5, "the pull is not the proximal step")
        far, near = ((w[where] - plugin.anchor).double() for w in (before, after))
        # A step of one term may move against another's.
        if len(terms) == 1:
            energies = [float(d @ _product(terms[0][1], d)) for d in (far, near)]
            is_nearer = energies[1] <= energies[0] * (1 + 1e-4) + 1e-9
            require(is_nearer, "the pull moves away from the anchor")

    def _projection(self, plugin: Any, call: Call, strategy: Any) -> None:
        groups = plugin.buffer.groups("task")
        earlier = [slots for task, slots in groups.items() if task != call.task]
        if not earlier:
            require("gradient" not in call.changed(), "the gradient changes without constraints")
            return
        if isinstance(plugin, MemoryPlugin):
            earlier = [[slot for slots in earlier for slot in slots]]
        g, projected = (_flat(s.gradient, strategy) for s in (call.before, call.after))
        references = [self._reference(plugin, slots, strategy) for slots in earlier]
        for r in references:
            size = float(r.norm())
            require(
                float(projected @ r) >= -1e-4 * float(projected.norm()) * size - 1e-9,
                "the projected gradient violates a constraint",
            )
        violated = any(float(g @ r) < -1e-5 * float(g.norm() * r.norm()) for r in references)
        kept = all(float(g @ r) > 1e-5 * float(g.norm() * r.norm()) for r in references)
        require("gradient" in call.changed() or not violated, "a violated constraint is ignored")
        require("gradient" not in call.changed() or not kept, "the gradient changes without need")
        self._note(plugin)

    def _orthogonal_projection(self, plugin: OGDPlugin, call: Call, strategy: Any) -> None:
        """The part of the gradient along the basis, and no other, is taken away."""
        if plugin.basis is None:
            require("gradient" not in call.changed(), "the gradient changes without directions")
            return
        g, projected = (_flat(s.gradient, strategy) for s in (call.before, call.after))
        basis, allowed = plugin.basis, 1e-4 * float(g.norm()) + 1e-9
        require(float((basis @ projected).norm()) <= allowed, "the gradient is not at right angles")
        taken = g - projected
        left = float((taken - basis.T @ (basis @ taken)).norm())
        require(left <= allowed, "the gradient loses more than its part along the basis")
        self._note(plugin)

    def _reference(self, plugin: Any, slots: Any, strategy: Any) -> Tensor:
        x, y, t = plugin.buffer.fetch(torch.tensor([*slots]).numpy())
        model = copied(strategy.model)
        parameters = [p for p in model.parameters() if p.requires_grad]
        loss = cross_entropy(avalanche_forward(model, x, t), y)
        pieces = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.cat(
            [
                torch.zeros(p.numel()) if piece is None else piece.flatten()
                for p, piece in zip(parameters, pieces, strict=True)
            ]
        )

    def _memory(self, plugin: Any) -> None:
        """All that is stored comes from the stream, in the declared number."""
        buffer, n_seen, n_held = plugin.buffer, self._n_arrived, len(plugin.buffer)
        require(buffer.n_seen == n_seen, f"{buffer.n_seen} of {n_seen} samples were shown")
        require(n_held == min(buffer.max_size, n_seen), f"{n_held} samples are held")
        slots = torch.arange(n_held).numpy()
        x, y, t = buffer.fetch(slots)
        notes = buffer.notes(slots)
        for i in range(n_held):
            if notes.n_replaced[i] == 0:
                held = self._is_from(x[i : i + 1], y[i : i + 1], t[i : i + 1], {notes.origin[i]})
                require(held, "a stored row is not the stream's")
        require(len({*notes.origin}) > 1, "the memory has lost all earlier experiences")


def copied(model: nn.Module) -> nn.Module:
    """A copy of a model, which may keep what it computed last."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach()
    return deepcopy(model, memo)


def _key(x: Tensor) -> bytes:
    return x.detach().numpy().tobytes()


def _trained(weights: Tensor, strategy: Any) -> Tensor:
    mask = [torch.full((p.numel(),), p.requires_grad) for p in strategy.model.parameters()]
    return weights[torch.cat(mask)]


def _flat(gradient: list[Tensor | None], strategy: Any) -> Tensor:
    pairs = zip(gradient, strategy.model.parameters(), strict=True)
    return torch.cat(
        [
            torch.zeros(p.numel()) if piece is None else piece.flatten()
            for piece, p in pairs
            if p.requires_grad
        ]
    )


def _held(plugin: Any, weights: Tensor, strategy: Any) -> Tensor:
    """Where the plugin holds weights, (P,): all that were trained when it looked them up."""
    if len(plugin.anchor) == len(weights):
        return torch.ones(len(weights), dtype=torch.bool)
    mask = [torch.full((p.numel(),), p.requires_grad) for p in strategy.model.parameters()]
    return torch.cat(mask)


def _terms(curvature: Curvature) -> list[tuple[float, Curvature]]:
    """The curvatures whose steps a pull takes one after another, each with its weight."""
    if isinstance(curvature, SummedCurvature):
        return [*zip(curvature.weights, curvature.terms, strict=True)]
    return [(1.0, curvature)]


def _product(curvature: Any, drift: Tensor) -> Tensor:
    """F δ, (P,), of δ in double precision."""
    if isinstance(curvature, KroneckerCurvature):
        return _kronecker_product(curvature, drift)
    vectors = curvature.eigenvectors.double()
    found = vectors.T @ (curvature.eigenvalues.double() * (vectors @ drift))
    return found if curvature.diagonal is None else found + curvature.diagonal * drift


def _kronecker_product(curvature: KroneckerCurvature, drift: Tensor) -> Tensor:
    """G Δ A for each layer's [W b], and the diagonal for all other parameters."""
    found, places = torch.zeros_like(drift), {}
    for name, shape in curvature.shapes.items():
        start = sum(map(len, places.values()))
        places[name] = torch.arange(start, start + shape.numel())
    for name, diagonal in curvature.diagonal.items():
        found[places[name]] += diagonal.flatten() * drift[places[name]]
    for layer in curvature.layers.values():
        a, g = layer.inputs.double(), layer.outputs.double()
        own = [name for name in (layer.weight, layer.bias) if name is not None]
        at = torch.cat([places[name].reshape(len(g), -1) for name in own], 1)
        found[at] += torch.einsum("ij,jk,kl->il", g, drift[at], a)
    return found
