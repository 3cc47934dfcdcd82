"""Any metric-learning loss as an auxiliary loss on representations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from avalanche_ext.data import Strategy
from avalanche_ext.functional.model.running import generators_kept
from avalanche_ext.plugins.representation.base import (
    DefaultLayers,
    RepresentationLossPlugin,
    summed,
)
from avalanche_ext.traits import by
from avalanche_ext.validation import validated

Loss = Callable[[Tensor, Tensor], Tensor]


class MetricLossPlugin(RepresentationLossPlugin):
    """Add λ times a metric-learning loss, such as one of pytorch-metric-learning, to the criterion.

    The strategy's optimizer trains the parameters of the loss, such as proxies. The random numbers
    that the loss draws with torch come from the plugin's own seed, not from the global generators.

    On a multi-head model, labels differ between the classes of different tasks and are not 0, 1,
    ...; losses with a fixed number of classes, such as proxies, need a model with a single head.

    Args:
        loss: A function or object that returns a scalar for embeddings (B, H) and labels (B,); or
            the name of a class in `pytorch_metric_learning.losses`.
        lam: Weight λ of the loss, at least 0.
        args: Arguments of the named class; proxies need `num_classes` and `embedding_size`. None
            means no arguments.
        layers: Modules whose outputs are embeddings, and "logits"; the loss is summed over them.
            None takes the last hidden layer alone, on a ResNet the pooled features.
        lr: Learning rate of the loss's own parameters; None takes the optimizer's.
        seed: Seed of the loss's draws, and of its parameters if the class is named.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, or if there is no such
            class, or `args` do not fit it; when training starts, as for `RepresentationLossPlugin`;
            in the first iteration, if the loss does not return a scalar.
        ImportError: If a class is named, and pytorch-metric-learning is not installed.
    """

    default_layers: ClassVar[DefaultLayers] = "last hidden"
    trains_hidden = by("layers", {None: True}, otherwise=False)

    @validated
    def __init__(
        self,
        loss: str | Loss,
        lam: NonNegativeFloat = 1.0,
        *,
        args: dict[str, Any] | None = None,
        layers: list[str] | None = None,
        lr: NonNegativeFloat | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(lam, layers, lr)
        # On the CPU, so that the draws are the same on every device.
        self._generator = torch.Generator().manual_seed(seed)
        if isinstance(loss, str):
            with self._drawing(torch.device("cpu")):
                self.loss = _made(loss, args or {})
        elif args:
            raise ValueError(
                f"args={args}: can only be given with the name of a class, but loss is a "
                f"{type(loss).__name__}"
            )
        else:
            self.loss = loss

    def loss_parameters(self) -> Iterable[nn.Parameter]:
        """Return the loss's parameters, if it is a module."""
        return self.loss.parameters() if isinstance(self.loss, nn.Module) else ()

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Look up the layers of the model, and move the loss to the strategy's device."""
        if isinstance(self.loss, nn.Module):
            self.loss.to(strategy.device)
        super().before_training_exp(strategy, **kwargs)

    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the sum of the layers' losses, a scalar."""
        with self._drawing(labels.device):
            return summed(self._scalar(self.loss(rows, labels)) for rows in representations)

    def _scalar(self, value: object) -> Tensor:
        if isinstance(value, Tensor) and value.ndim == 0:
            return value
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else value
        name = self.loss.__name__ if isinstance(self.loss, type) else type(self.loss).__name__
        raise ValueError(
            f"loss={name}: returned {found}, but must return a scalar for embeddings and labels"
        )

    @contextmanager
    def _drawing(self, device: torch.device) -> Iterator[None]:
        """Make torch draw from the plugin's seed, and restore its generators afterwards."""
        seed = int(torch.randint(2**63 - 1, (), generator=self._generator))
        with generators_kept(device):
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            yield


def _made(name: str, args: dict[str, Any]) -> Loss:
    """Create a loss of pytorch-metric-learning from the name of its class."""
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        raise ImportError(
            f"loss={name!r} is a class of pytorch-metric-learning, which is not installed: "
            "pip install pytorch-metric-learning"
        ) from error
    base = losses.BaseMetricLossFunction
    found = {
        key: value
        for key, value in vars(losses).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    }
    if name not in found:
        near = get_close_matches(name, found, cutoff=0.5) or sorted(found)
        raise ValueError(
            f"loss={name!r}: pytorch_metric_learning.losses has no such class; "
            f"it has {', '.join(near)}"
        )
    try:
        loss: Loss = found[name](**args)
    except (TypeError, ValueError) as error:
        raise ValueError(f"args={args} do not fit {name}: {error}") from error
    return loss
