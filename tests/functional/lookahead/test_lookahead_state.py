"""What looking ahead leaves as it was."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.lookahead.lookahead import interference, step_ahead
from avalanche_ext.functional.model.running import generators_kept
from tests.functional.lookahead.lookahead_cases import state
from tests.functional.lookahead.lookahead_models import MODELS, case

LR = 0.3


@pytest.mark.parametrize("name", MODELS)
def test_a_look_leaves_the_model_as_it_was(name):
    model, memory, stream = case(name)
    for i, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, i) if i % 2 else None
    before = state(model)
    outputs = step_ahead(model, cross_entropy, *stream, LR)
    with torch.no_grad():
        interference(outputs, *memory, cross_entropy)
    assert state(model) == before


class FailingError(Exception):
    pass


@pytest.mark.parametrize("name", ["an mlp", "a convolution", "batch normalisation"])
def test_an_error_inside_the_model_leaves_it_as_it_was(name):
    model, (inputs, _), stream = case(name)
    left = [0]

    def fail(*_):
        left[0] -= 1
        if left[0] == 0:
            raise FailingError

    model[-1].register_forward_pre_hook(fail)
    before = state(model)
    for n_runs in range(1, 40):
        left[0] = n_runs
        try:
            step_ahead(model, cross_entropy, *stream, LR)(*inputs)
        except FailingError:
            assert state(model) == before
        else:
            break
    assert n_runs > 3


def test_generators_are_put_back_after_an_error_too():
    def draw_and_fail():
        with generators_kept(torch.device("cpu")):
            torch.rand(3)
            raise FailingError

    before = torch.get_rng_state()
    with pytest.raises(FailingError):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), before)
