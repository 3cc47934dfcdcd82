"""Losses of metric learning from elsewhere as auxiliary losses on representations."""

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
from avalanche_ext.validation import validated

Loss = Callable[[Tensor, Tensor], Tensor]


class MetricLossPlugin(RepresentationLossPlugin):
    """Add λ times a loss of metric learning to the criterion, as those of pytorch-metric-learning.

    What the loss has in parameters of its own, such as proxies, is trained by the strategy's
    optimizer. What it draws with torch does not touch the global generators.

    On a multi-head model labels tell classes of different tasks apart, and are no longer 0, 1, ...:
    losses with a fixed number of classes, such as proxies, need a single head.

    Args:
        loss: Called with embeddings (B, H) and labels (B,), returns a scalar; or the name of a
            class in `pytorch_metric_learning.losses`.
        lam: Weight λ of the loss.
        args: What the class is called with; for proxies the sizes of `num_classes` and
            `embedding_size`. None is nothing.
        layers: Modules whose outputs are embeddings, and "logits", over which the loss is summed;
            None is the last hidden layer alone, on a ResNet the pooled features.
        lr: Learning rate of the loss's own parameters; None is the optimizer's.
        seed: Seed of the parameters, if the class is named, and of what the loss draws.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: If there is no such class, or `args` do not fit it; when training starts, as
            for `RepresentationLossPlugin`; in the first iteration, if what the loss returns is no
            scalar.
        ImportError: If a class is named, and pytorch-metric-learning is not installed.
    """

    default_layers: ClassVar[DefaultLayers] = "last hidden"

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
                f"args={args}: are for a class that is named, but loss is a {type(loss).__name__}"
            )
        else:
            self.loss = loss

    def loss_parameters(self) -> Iterable[nn.Parameter]:
        """Return the loss's parameters, if it is a module."""
        return self.loss.parameters() if isinstance(self.loss, nn.Module) else ()

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Find the layers in the model, and move the loss to where it is."""
        if isinstance(self.loss, nn.Module):
            self.loss.to(strategy.device)
        super().before_training_exp(strategy, **kwargs)

    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the sum of the layers' losses, a scalar."""
        with self._drawing(labels.device):
            return summed(self._scalar(self.loss(rows, labels)) for rows in representations)

    def _scalar(self, value: Any) -> Tensor:
        if isinstance(value, Tensor) and value.ndim == 0:
            return value
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else value
        name = self.loss.__name__ if isinstance(self.loss, type) else type(self.loss).__name__
        raise ValueError(
            f"loss={name}: returns {found}, but must be a function or an object that returns a "
            "scalar of embeddings and labels"
        )

    @contextmanager
    def _drawing(self, device: torch.device) -> Iterator[None]:
        """Have torch draw what the plugin's seed says."""
        seed = int(torch.randint(2**63 - 1, (), generator=self._generator))
        with generators_kept(device):
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            yield


def _made(name: str, args: dict[str, Any]) -> Loss:
    """Return a loss of pytorch-metric-learning, by the name of its class."""
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        raise ImportError(
            f"loss={name!r} is looked up in pytorch-metric-learning, which is not installed: "
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
        raise ValueError(f"args={args}: do not fit {name}: {error}") from error
    return loss
