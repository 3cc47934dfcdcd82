"""The outputs of a model now and after one step."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.lookahead.lookahead import step_ahead
from avalanche_ext.functional.model.running import generators_kept
from tests.functional.lookahead.lookahead_cases import loss_of, stepped
from tests.functional.lookahead.lookahead_models import (
    MODELS,
    ByTask,
    case,
    with_dropout,
)
from tests.functional.model.gradient_cases import LINEAR_MODELS, made, samples

LR = 0.3
close = partial(torch.testing.assert_close, atol=1e-12, rtol=1e-9)


def check_outputs(model, memory, stream, lr=LR, criterion=cross_entropy):
    inputs, _ = memory
    outputs = step_ahead(model, criterion, *stream, lr)(*inputs)
    expected = [
        loss_of(m, memory, lambda o, _: o) for m in (model, stepped(model, stream, lr, criterion))
    ]
    for actual, wanted in zip(outputs, expected, strict=True):
        close(actual, wanted)
    assert not torch.allclose(*expected)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_a_copy_that_torch_has_stepped(name):
    model, memory, stream = case(name)
    check_outputs(model, memory, stream)


@pytest.mark.parametrize("name", [name for name in MODELS if "normalisation" not in name])
@pytest.mark.parametrize(("n", "n_stream"), [(1, 1), (1, 4), (4, 2), (2, 2), (3, 7)])
def test_batches_may_be_of_any_size(name, n, n_stream):
    check_outputs(*case(name, n, n_stream))


@pytest.mark.parametrize("name", [*LINEAR_MODELS, "a convolution"])
def test_each_parameter_may_have_a_rate_of_its_own(name):
    model, memory, stream = case(name)
    trained = [p for p in model.parameters() if p.requires_grad]
    lr = {p: 0.1 * (i + 1) for i, p in enumerate(trained)}
    check_outputs(model, memory, stream, lr)


@pytest.mark.parametrize("name", ["an mlp", "a layer that runs twice", "a convolution"])
def test_parameters_without_a_rate_stay_where_they_are(name):
    model, memory, stream = case(name)
    trained = [p for p in model.parameters() if p.requires_grad]
    for kept in (trained[::2], trained[1::2], trained[:1]):
        check_outputs(model, memory, stream, dict.fromkeys(kept, LR))


def test_a_head_for_each_task_is_looked_ahead_with_its_labels():
    model, (x, y), (stream_x, stream_y) = made(ByTask), samples(11, 1), samples(9, 2)
    memory, stream = ([x, torch.arange(11) % 3], y), ([stream_x, torch.arange(9) % 2], stream_y)
    check_outputs(model, memory, stream)
    lr = {p: 0.1 * (i + 1) for i, p in enumerate(model.parameters())}
    check_outputs(model, memory, stream, lr)


@pytest.mark.parametrize("name", ["an mlp", "a convolution", "batch normalisation"])
def test_the_mode_of_the_model_counts(name):
    model, memory, stream = case(name)
    model.eval()
    check_outputs(model, memory, stream)


def test_dropout_is_off_in_evaluation_mode_and_redrawn_in_training_mode():
    model, (x, y), stream = made(lambda: with_dropout(0.5)), samples(11, 1), samples(9, 2)
    check_outputs(model.eval(), ([x], y), ([stream[0]], stream[1]))
    outputs = step_ahead(model, cross_entropy, [stream[0]], stream[1], LR)
    model.train()
    with generators_kept(x.device):
        first, second = outputs(x), outputs(x)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(reduction="sum"), nn.MultiMarginLoss()])
@pytest.mark.parametrize("name", ["an mlp", "a convolution"])
def test_the_step_is_one_on_the_criterion(name, criterion):
    model, memory, stream = case(name)
    check_outputs(model, memory, stream, criterion=criterion)


def fit_zeros(model):
    """Cross-entropy with one sure and right answer for all samples: labels 0 are fitted."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([1e4, 0, 0, 0, 0]))


@pytest.mark.parametrize("name", ["an mlp", "a convolution", "a weight used past its layer"])
def test_a_batch_that_is_fitted_leads_nowhere(name):
    model, (inputs, _), (stream, y) = case(name)
    fit_zeros(model)
    now, ahead = step_ahead(model, cross_entropy, stream, torch.zeros_like(y), LR)(*inputs)
    assert torch.equal(now, ahead)


def test_models_without_weights_take_the_step_of_their_biases():
    model, memory, stream = case("an mlp")
    for p in model.parameters():
        nn.init.zeros_(p)
    check_outputs(model, memory, stream)
