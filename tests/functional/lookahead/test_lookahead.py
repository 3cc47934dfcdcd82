"""The outputs of a model now and after one step."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.lookahead.lookahead import LookAhead
from avalanche_ext.functional.model.running import generators_kept
from tests.functional.lookahead.lookahead_cases import bits, loss_of, stepped, weights_made
from tests.functional.lookahead.lookahead_models import (
    MODELS,
    OF_LOW_RANK,
    OTHERS,
    ByTask,
    case,
    with_dropout,
)
from tests.functional.model.gradient_cases import LINEAR_MODELS, made, mlp, samples

LR = 0.3
close = partial(torch.testing.assert_close, atol=1e-12, rtol=1e-9)


def check_outputs(look, model, memory, stream, lr=LR, criterion=cross_entropy):
    """Compare the outputs of the first look, which may try things out, and of later ones."""
    inputs, _ = memory
    ahead = stepped(model, stream, lr, criterion)
    for _ in range(3):
        outputs = look.after(*stream, lr)(*inputs)
        expected = [loss_of(m, memory, lambda o, _: o) for m in (model, ahead)]
        for actual, wanted in zip(outputs, expected, strict=True):
            close(actual, wanted)
    assert not torch.allclose(*expected)


def verdicts(look):
    """Whether the model was proved to have steps of low rank, if it was asked and could be told."""
    return [] if look._proved is None else [look._proved[1]]


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_a_copy_that_torch_has_stepped(name):
    model, memory, stream = case(name)
    check_outputs(LookAhead(model), model, memory, stream)


@pytest.mark.parametrize("name", [name for name in MODELS if "normalisation" not in name])
@pytest.mark.parametrize(("n", "n_stream"), [(1, 4), (4, 2), (2, 2), (3, 7)])
def test_batches_may_be_of_any_size(name, n, n_stream):
    model, memory, stream = case(name, n, n_stream)
    look = LookAhead(model)
    look.after(*case(name)[2], LR)
    check_outputs(look, model, memory, stream)


@pytest.mark.parametrize("name", OF_LOW_RANK)
def test_one_sample_is_enough(name):
    model, memory, stream = case(name, 1, 1)
    check_outputs(LookAhead(model), model, memory, stream)


@pytest.mark.parametrize("name", [*LINEAR_MODELS, "a convolution"])
def test_each_parameter_may_have_a_rate_of_its_own(name):
    model, memory, stream = case(name)
    trained = [p for p in model.parameters() if p.requires_grad]
    lr = {p: 0.1 * (i + 1) for i, p in enumerate(trained)}
    check_outputs(LookAhead(model), model, memory, stream, lr)


@pytest.mark.parametrize("name", ["an mlp", "a layer that runs twice", "a convolution"])
def test_parameters_without_a_rate_stay_where_they_are(name):
    model, memory, stream = case(name)
    trained = [p for p in model.parameters() if p.requires_grad]
    for kept in (trained[::2], trained[1::2], trained[:1]):
        check_outputs(LookAhead(model), model, memory, stream, dict.fromkeys(kept, LR))


def test_a_head_for_each_task_is_looked_ahead_with_its_labels():
    model, (x, y), (stream_x, stream_y) = made(ByTask), samples(11, 1), samples(9, 2)
    memory, stream = ([x, torch.arange(11) % 3], y), ([stream_x, torch.arange(9) % 2], stream_y)
    check_outputs(LookAhead(model), model, memory, stream)
    lr = {p: 0.1 * (i + 1) for i, p in enumerate(model.parameters())}
    check_outputs(LookAhead(model), model, memory, stream, lr)


@pytest.mark.parametrize("name", [*LINEAR_MODELS, "a convolution"])
def test_a_model_that_has_changed_is_looked_at_as_it_is(name):
    model, memory, stream = case(name)
    look = LookAhead(model)
    look.after(*stream, LR)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    check_outputs(look, model, memory, stream)
    [*model.parameters()][-1].requires_grad_(False)
    check_outputs(look, model, memory, stream)


@pytest.mark.parametrize("name", ["an mlp", "a convolution", "batch normalisation"])
def test_the_mode_of_the_model_counts(name):
    model, memory, stream = case(name)
    model.eval()
    check_outputs(LookAhead(model), model, memory, stream)


def test_what_one_mode_proves_is_not_held_of_the_other():
    model, memory, stream = case("normalisation without parameters")
    look = LookAhead(model)
    for mode in (False, True):
        check_outputs(look, model.train(mode), memory, stream)


def test_what_some_samples_prove_is_not_held_of_others():
    model, memory, stream = case("a parameter of its own")
    look, x = LookAhead(model), stream[0][0]
    for sign in (1, -1):
        x[:, 0] = sign * x[:, 0].abs()
        check_outputs(look, model, memory, stream)


def test_a_layer_that_is_trained_again_takes_its_step():
    model, memory, stream = case("a frozen convolution")
    look = LookAhead(model)
    check_outputs(look, model, memory, stream)
    model.requires_grad_(True)
    check_outputs(look, model, memory, stream)


def test_dropout_is_off_in_evaluation_mode_and_drawn_anew_in_training_mode():
    model, (x, y), stream = made(lambda: with_dropout(0.5)), samples(11, 1), samples(9, 2)
    look = LookAhead(model.eval())
    check_outputs(look, model, ([x], y), ([stream[0]], stream[1]))
    outputs = look.after([stream[0]], stream[1], LR)
    model.train()
    with generators_kept(x.device):
        first, second = outputs(x), outputs(x)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(reduction="sum"), nn.MultiMarginLoss()])
@pytest.mark.parametrize("name", ["an mlp", "a convolution"])
def test_the_step_is_one_on_the_criterion(name, criterion):
    model, memory, stream = case(name)
    check_outputs(LookAhead(model, criterion), model, memory, stream, criterion=criterion)


# ---- the low-rank path ----


@pytest.mark.parametrize("name", OF_LOW_RANK)
def test_models_of_linear_layers_need_no_tensor_as_large_as_a_weight(name):
    model, memory, stream = case(name)
    memory[0][0].requires_grad_()
    look = LookAhead(model)
    look.after(*stream, LR)
    with weights_made(model) as shapes:
        now, ahead = look.after(*stream, LR)(*memory[0])
        torch.autograd.grad((ahead - now).pow(2).sum(), memory[0])
    assert verdicts(look) == [True]
    assert not shapes


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_take_the_general_path(name):
    model, memory, stream = case(name)
    look = LookAhead(model)
    look.after(*stream, LR)
    with weights_made(model) as shapes:
        look.after(*stream, LR)(*memory[0])
    assert True not in verdicts(look)
    assert shapes


@pytest.mark.parametrize("name", [*MODELS, "dropout"])
def test_the_first_look_gives_the_bits_that_later_ones_give(name):
    """A run that goes on from a checkpoint has a first look where the whole run had a later one."""
    model, memory, stream = case("an mlp" if name == "dropout" else name, 64, 33)
    look = LookAhead(made(lambda: with_dropout(0.5)) if name == "dropout" else model)
    found = []
    for _ in range(2):
        with generators_kept(torch.device("cpu")):
            torch.manual_seed(0)
            found.append([bits(o) for o in look.after(*stream, LR)(*memory[0])])
    assert found[0] == found[1]


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
    look = LookAhead(model)
    for _ in range(2):
        now, ahead = look.after(stream, torch.zeros_like(y), LR)(*inputs)
        assert torch.equal(now, ahead)


def test_models_without_weights_take_the_step_of_their_biases():
    model, memory, stream = case("an mlp")
    for p in model.parameters():
        nn.init.zeros_(p)
    check_outputs(LookAhead(model), model, memory, stream)


@pytest.mark.parametrize(
    ("name", "low_rank"), [("an mlp", True), ("a weight used past its layer", False)]
)
def test_a_batch_that_is_fitted_proves_nothing_about_the_model(name, low_rank):
    model, memory, stream = case(name)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit_zeros(model)
    look = LookAhead(model)
    look.after(stream[0], torch.zeros_like(stream[1]), LR)
    model.load_state_dict(before)
    check_outputs(look, model, memory, stream)
    assert verdicts(look) == [low_rank]


@pytest.mark.parametrize("lr", [1e-3, 1e-5, 1e-7])
def test_whether_a_step_is_of_low_rank_does_not_depend_on_how_far_it_leads(lr):
    model, (x, y) = made(mlp, torch.float32), samples(9)
    look = LookAhead(model)
    look.after([x.float()], y, lr)
    assert verdicts(look) == [True]
