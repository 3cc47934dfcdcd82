"""The edit of stored examples: x ← x + α ∇ₓ [ℓ(x; θ′) − ℓ(x; θ) − β ℓ(x; θ)]."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional import edit_examples
from avalanche_ext.functional.lookahead.editing import edited_examples
from avalanche_ext.functional.lookahead.lookahead import step_ahead
from avalanche_ext.functional.model.running import generators_kept
from tests.functional.lookahead.lookahead_cases import edited, loss_of, state, stepped
from tests.functional.lookahead.lookahead_models import MODELS, ByTask, case, network, with_dropout
from tests.functional.model.gradient_cases import LINEAR_MODELS, made, mlp, samples
from tests.oracles import edits_by_loops

GIVEN = {"stride": 5.0, "reg_strength": 0.2}
LR = 0.3
close = partial(torch.testing.assert_close, atol=1e-12, rtol=1e-9)


def edit(model, memory, stream, **changed):
    """`edit_examples` of samples in the form of the cases."""
    arguments = {"lr": LR, **GIVEN, **changed}
    (x,), y = memory
    (stream_x,), stream_y = stream
    return edit_examples(model, x, y, stream_x, stream_y, **arguments)


def expected(model, memory, stream, **changed):
    return edited(model, memory, stepped(model, stream, LR), **{**GIVEN, **changed})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("n", "n_stream"), [(11, 9), (4, 6), (2, 3)])
def test_edits_are_those_by_copies_that_torch_has_stepped(name, n, n_stream):
    model, memory, stream = case(name, n, n_stream)
    actual = edit(model, memory, stream)
    close(actual, expected(model, memory, stream))
    assert not actual.requires_grad
    assert (actual - memory[0][0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["an mlp", "layers by position", "a convolution"])
def test_the_direction_is_that_of_central_differences(name):
    model, memory, stream = case(name, 3, 4)
    ahead, (x,) = stepped(model, stream, LR), memory[0]

    def objective(at):
        group = ([at.view_as(x)], memory[1])
        with torch.no_grad():
            now = loss_of(model, group)
            return loss_of(ahead, group) - now - GIVEN["reg_strength"] * now

    h = 1e-5 * torch.eye(x.numel(), dtype=x.dtype)
    slopes = [(objective(x.flatten() + row) - objective(x.flatten() - row)) / 2e-5 for row in h]
    actual = (edit(model, memory, stream) - x) / GIVEN["stride"]
    torch.testing.assert_close(actual.flatten(), torch.stack(slopes), atol=1e-9, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_edits_equal_loops_without_autograd(data):
    n, n_stream, n_steps = (data.draw(st.integers(1, most)) for most in (5, 5, 3))
    n_classes, seed = data.draw(st.integers(2, 7)), data.draw(st.integers(0, 100))
    strides = data.draw(st.lists(st.integers(0, 16).map(lambda k: k / 8), min_size=n, max_size=n))
    beta, lr = data.draw(st.sampled_from([0.0, 0.01, 1.0])), data.draw(st.sampled_from([0, 0.1, 1]))
    rng = np.random.default_rng(seed)
    model, arrays = network(n_classes, seed)
    x, stream_x = rng.normal(size=(n, 3)), rng.normal(size=(n_stream, 3))
    y, stream_y = rng.integers(n_classes, size=n), rng.integers(n_classes, size=n_stream)
    actual = edit_examples(
        model,
        *(torch.tensor(a) for a in (x, y, stream_x, stream_y)),
        lr=lr,
        stride=torch.tensor(strides),
        reg_strength=beta,
        n_steps=n_steps,
    )
    by_loops = edits_by_loops(
        arrays, x, y, (stream_x, stream_y), [lr] * 4, strides, beta, n_steps
    )  # fmt: skip
    close(actual, torch.tensor(by_loops))


@pytest.mark.parametrize("name", [*LINEAR_MODELS, "a convolution", "batch normalisation"])
@pytest.mark.parametrize("n_steps", [2, 4])
@pytest.mark.parametrize("bounds", [None, (-0.5, 0.75)])
def test_several_steps_keep_the_look_ahead(name, n_steps, bounds):
    model, memory, stream = case(name)
    changed = {"n_steps": n_steps, "bounds": bounds}
    actual = edit(model, memory, stream, **changed)
    close(actual, expected(model, memory, stream, **changed))
    if bounds:
        assert (actual.min().item(), actual.max().item()) == bounds


def test_each_example_may_have_a_stride_of_its_own():
    for name in ("an mlp", "a convolution", "tokens"):
        model, memory, stream = case(name)
        strides = [0.0, 0.5, 3.0, *[1.0] * 8]
        actual = edit(model, memory, stream, stride=torch.tensor(strides))
        close(actual, expected(model, memory, stream, stride=strides))
        assert torch.equal(actual[0], memory[0][0][0])


def test_strides_change_no_type():
    model, (x, y), (stream_x, stream_y) = made(mlp, torch.float32), samples(4), samples(3, 1)
    for stride in (torch.ones(4, dtype=torch.float64), torch.ones(4, dtype=torch.long)):
        actual = edit(model, ([x.float()], y), ([stream_x.float()], stream_y), stride=stride)
        assert actual.dtype == torch.float32


def test_a_stride_of_zero_moves_nothing():
    model, memory, stream = case("an mlp")
    for stride in (0, 0.0, torch.zeros(11)):
        actual = edit(model, memory, stream, stride=stride, n_steps=2)
        assert torch.equal(actual, memory[0][0])
        assert actual is not memory[0][0]


def test_the_regularisation_alone_lowers_the_loss():
    model, memory, stream = case("an mlp")
    actual = edit(model, memory, stream, lr=0.0, stride=1e-3, reg_strength=1.0)
    assert loss_of(model, ([actual], memory[1])) < loss_of(model, memory)
    assert torch.equal(edit(model, memory, stream, lr=0.0, reg_strength=0.0), memory[0][0])


def test_the_edit_makes_the_step_interfere_more():
    model, memory, stream = case("an mlp")
    ahead = stepped(model, stream, LR)
    actual = edit(model, memory, stream, stride=1e-2, reg_strength=0.0)
    before, after = (
        loss_of(ahead, group) - loss_of(model, group) for group in (memory, ([actual], memory[1]))
    )
    assert after > before


@pytest.mark.parametrize(
    "criterion",
    [
        nn.MultiMarginLoss(),
        nn.CrossEntropyLoss(weight=torch.arange(1.0, 6.0, dtype=torch.float64)),
        lambda outputs, y: (outputs - nn.functional.one_hot(y, 5)).pow(2).mean(),
    ],
    ids=["a margin", "weighted classes", "squares"],
)
@pytest.mark.parametrize("name", ["an mlp", "a convolution"])
def test_other_criteria(name, criterion):
    model, memory, stream = case(name)
    ahead = stepped(model, stream, LR, criterion)
    actual = edit(model, memory, stream, criterion=criterion)
    close(actual, edited(model, memory, ahead, **GIVEN, criterion=criterion))


def test_more_classes_than_samples():
    model = made(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 40)))
    (x, y), (stream_x, stream_y) = samples(3, 1), samples(2, 2)
    memory, stream = ([x], y + 30), ([stream_x], stream_y)
    close(edit(model, memory, stream), expected(model, memory, stream))


def test_models_with_several_inputs_are_edited_at_the_first():
    model, (x, y), (stream_x, stream_y) = made(ByTask), samples(11, 1), samples(9, 2)
    memory, stream = ([x, torch.arange(11) % 3], y), ([stream_x, torch.arange(9) % 2], stream_y)
    outputs = step_ahead(model, cross_entropy, *stream, LR)
    actual = edited_examples(outputs, *memory, cross_entropy, **GIVEN, n_steps=3, bounds=(-1, 1))
    close(actual, expected(model, memory, stream, n_steps=3, bounds=(-1, 1)))


def test_where_no_gradient_is_only_bounds_move():
    model, memory, stream = case("an mlp")
    for p in model[2].parameters():
        nn.init.zeros_(p)
    nn.init.zeros_(model[4].weight)
    x = memory[0][0]
    assert torch.equal(edit(model, memory, stream), x)
    assert torch.equal(edit(model, memory, stream, bounds=(-0.1, 0.2)), x.clamp(-0.1, 0.2))


def test_dropout_draws_as_the_global_generator_says_and_leaves_it():
    model, memory, stream = case("an mlp")
    model = made(lambda: with_dropout(0.5))
    before = state(model)
    first, second = edit(model, memory, stream), edit(model, memory, stream)
    assert state(model) == before
    assert torch.equal(first, second)
    with generators_kept(first.device):
        torch.manual_seed(1)
        assert not torch.equal(edit(model, memory, stream), first)
    model.eval()
    close(edit(model, memory, stream), expected(model, memory, stream))


def test_dropout_is_the_same_now_and_ahead():
    _, memory, stream = case("an mlp")
    model = made(lambda: with_dropout(0.5))
    x = memory[0][0]
    assert torch.equal(edit(model, memory, stream, lr=0.0, reg_strength=0.0), x)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": -0.1}, r"lr=-0\.1: .*at least 0"),
        ({"stride": torch.ones(2)}, r"stride has shape \(2,\): give one number, or one for each"),
        ({"n_steps": 0}, r"n_steps=0: .*at least 1"),
        ({"n_steps": -2}, r"n_steps=-2: .*at least 1"),
        ({"reg_strength": -0.1}, r"reg_strength=-0\.1: .*at least 0"),
        ({"reg_strength": float("nan")}, r"reg_strength=nan: .*at least 0"),
        ({"bounds": (1.0, 0.0)}, r"bounds=\(1\.0, 0\.0\): .*first must be below the second"),
        ({"bounds": (0.5, 0.5)}, r"bounds=\(0\.5, 0\.5\)"),
        ({"bounds": (float("nan"), 1.0)}, r"bounds=\(nan, 1\.0\)"),
    ],
)
def test_what_cannot_be_is_named(changed, message):
    model, memory, stream = case("an mlp")
    with pytest.raises(ValueError, match=message):
        edit(model, memory, stream, **changed)
