"""What a compiled step may add to the criterion, and why one cannot be compiled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_FIRST_HOOK = -1_000_000
"""The number of the first hook of a term; torch counts from 0."""


class NotCompilableError(Exception):
    """A model's loss cannot be compiled; the text completes "because …"."""


class Term(Protocol):
    """A further part of the loss, a pure function of the model's computations and of labels.

    Attributes:
        lam: Its weight λ.
        drawn: What `loss_tensors` returned for a mini-batch whose loss turned out not to be
            compilable. Whoever computes the loss instead takes these tensors; another call would
            draw again.
    """

    lam: float
    drawn: Sequence[Tensor] | None

    def watch(self, model: nn.Module) -> None:
        """Observe what layers compute whenever the model is called, until `look_away`."""

    def look_away(self) -> None:
        """Stop observing."""

    def loss_parameters(self) -> Iterable[nn.Parameter]:
        """Return the term's trained parameters."""

    def loss_tensors(self, labels: Tensor) -> Sequence[Tensor]:
        """Return its further inputs: those parameters, and what it draws for a mini-batch."""

    def loss_seen(self, outputs: Tensor, labels: Tensor, *tensors: Tensor) -> Tensor:
        """Return the loss, a scalar, of what it observed while the model computed `outputs`."""


@contextmanager
def watching(terms: Sequence[Term], model: nn.Module) -> Iterator[None]:
    """Let terms observe a model that has no other hooks.

    Their hooks have the same numbers each time, because torch compiles code for these numbers.
    """
    next_id, RemovableHandle.next_id = RemovableHandle.next_id, _FIRST_HOOK
    try:
        with ExitStack() as stack:
            for term in terms:
                stack.callback(term.look_away)
                term.watch(model)
            yield
    finally:
        RemovableHandle.next_id = next_id


def trained_of(tensors: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return the trained parameters among the tensors of terms."""
    return [each for own in tensors for each in own if each.requires_grad]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error itself if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
