"""What a model computes step by step, and why some models cannot be compiled."""

import threading
from copy import deepcopy

import pytest
import torch
from torch import nn

from avalanche_ext.functional.compiled.example import step_by_step
from avalanche_ext.functional.compiled.terms import NotCompilableError
from avalanche_ext.plugins import RMarginPlugin
from tests.cases import small_model
from tests.functional.compiled.cases import Forgetful, Scaled, Squared

X = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6)


def network(*layers):
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 10))


class Counting(nn.Flatten):
    """Counts its calls."""

    n = 0

    def forward(self, x):
        self.n = self.n + 1
        return super().forward(x)


class Counted(nn.Sequential):
    """A network whose attributes tell how often it has run."""

    def __init__(self):
        super().__init__(Counting(), nn.Linear(64, 10))
        self[0].n = 0


class Locked(nn.Flatten):
    """Cannot be copied."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class Unused(Squared):
    """Has a trained parameter on which its loss does not depend."""

    def loss_at(self, representations, labels, scale):
        return representations[0].square().mean()


def frozen():
    return network().requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "criterion", "terms", "why"),
    [
        (lambda: network(nn.Dropout()), nn.CrossEntropyLoss(), [], "draws random numbers"),
        (
            lambda: network(nn.BatchNorm1d(64)),
            nn.CrossEntropyLoss(),
            [],
            "its forward pass changes its buffer '1.running_mean'",
        ),
        (Counted, nn.CrossEntropyLoss(), [], "its forward pass changes its attribute '0.n'"),
        (lambda: network(Locked()), nn.CrossEntropyLoss(), [], "it cannot be copied: .*lock"),
        (frozen, nn.CrossEntropyLoss(), [], "depends on no parameter that is trained"),
        (network, Scaled(), [], "the criterion has parameters that are trained"),
        (small_model, nn.CrossEntropyLoss(), [Forgetful()], "are not among its loss_tensors"),
        (small_model, nn.CrossEntropyLoss(), [Unused()], "not depend on all trained parameters"),
    ],
    ids=[
        "draws", "buffer", "attribute", "uncopied", "frozen", "criterion", "forgetful", "unused",
    ],
)  # fmt: skip
def test_what_cannot_be_compiled_says_why_and_does_not_change(make, criterion, terms, why):
    model = make()
    state, generator = deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(NotCompilableError, match=why):
        step_by_step(model, criterion, terms, X, Y)
    assert all(map(torch.equal, state.values(), model.state_dict().values()))
    assert torch.equal(generator, torch.get_rng_state())


def test_gradients_are_those_of_the_model_and_nothing_is_drawn_from_a_term():
    model, term = small_model(), RMarginPlugin(0.1, hinge=True, redraw=True)
    model.hidden[0].bias.requires_grad_(False)
    state = term._generator.get_state()
    expected = step_by_step(model, nn.CrossEntropyLoss(), [term], X, Y)
    assert torch.equal(term._generator.get_state(), state)
    assert all(p.grad is None for p in model.parameters())
    term.watch(model)
    outputs = model(X)
    loss = nn.functional.cross_entropy(outputs, Y)
    of_term = 0.1 * term.loss_seen(outputs, Y, *term.loss_tensors(Y))
    (loss + of_term).backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    torch.testing.assert_close(expected.of_model, trained)
    torch.testing.assert_close(expected.of_terms, [term.boundary.grad])
    torch.testing.assert_close(expected.others, [loss.detach(), outputs.detach(), of_term.detach()])
    results = [*trained.values(), term.boundary.grad, *expected.others]
    assert expected.is_close_to(results)
    results[1] = results[1] + 0.001 * results[1].abs().max()
    assert not expected.is_close_to(results)
