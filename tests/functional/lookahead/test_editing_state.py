"""What an edit leaves as it was: model, optimizer, samples and generators."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import cross_entropy

from avalanche_ext.functional import edit_examples
from tests.functional.lookahead.lookahead_cases import bits, state
from tests.functional.lookahead.lookahead_models import MODELS, case

GIVEN = {"lr": 0.3, "stride": 5.0, "reg_strength": 0.2, "n_steps": 2, "bounds": (-1, 1)}

OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
}


def edit(model, memory, stream):
    (x,), y = memory
    (stream_x,), stream_y = stream
    return edit_examples(model, x, y, stream_x, stream_y, **GIVEN)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_an_edit_leaves_model_samples_and_generator_as_they_were(name, training):
    model, memory, stream = case(name)
    model.train(training)
    for i, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, i) if i % 2 else None
    given = [memory[0][0], memory[1], stream[0][0], stream[1]]
    before, samples = state(model), [bits(t) for t in given]
    edit(model, memory, stream)
    assert state(model) == before
    assert [bits(t) for t in given] == samples
    assert not any(t.requires_grad for t in given)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("name", ["an mlp", "batch normalisation and convolution"])
def test_training_continues_as_if_there_had_been_no_edit(name, make):
    model, memory, stream = case(name)
    (x,), y = stream
    runs = []
    for edits in (False, True):
        own = deepcopy(model)
        optimizer = make(own.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(own(x), y).backward()
            if edits:
                held = deepcopy(optimizer.state_dict())
                edit(own, memory, stream)
                torch.testing.assert_close(optimizer.state_dict(), held, atol=0, rtol=0)
            optimizer.step()
        runs.append({name: bits(value) for name, value in own.state_dict().items()})
    assert runs[0] == runs[1]


class FailingError(Exception):
    pass


@pytest.mark.parametrize("name", ["an mlp", "a convolution", "batch normalisation"])
def test_an_error_inside_the_model_leaves_all_as_it_was(name):
    model, memory, stream = case(name)
    left = [0]

    def fail(*_):
        torch.rand(1)
        left[0] -= 1
        if left[0] == 0:
            raise FailingError

    model[-1].register_forward_pre_hook(fail)
    before = state(model)
    for n_runs in range(1, 40):
        left[0] = n_runs
        try:
            edit(model, memory, stream)
        except FailingError:
            assert state(model) == before
        else:
            break
    assert n_runs > 5
