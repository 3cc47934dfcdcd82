"""Recording layers while a model runs, and the gradients of linear ones."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import weight_norm

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.tape import LayerTape, LinearGradients, LinearTape
from tests.functional.model.gradient_cases import (
    LINEAR_MODELS,
    Heads,
    convolutional,
    gradient,
    in_place,
    made,
    mlp,
    samples,
)


def with_attention():
    return nn.Sequential(nn.Linear(6, 4), nn.TransformerEncoderLayer(4, 2, 8), nn.Linear(4, 5))


def tied():
    model = mlp()
    model.append(nn.Linear(5, 5)).append(nn.Linear(5, 5))
    model[6].weight = model[5].weight
    return model


def with_a_parameter_of_its_own():
    model = mlp()
    model.register_parameter("temperature", nn.Parameter(torch.ones(1)))
    return model


def normalised():
    return nn.Sequential(nn.Linear(6, 8), weight_norm(nn.Linear(8, 5)))


def covers(model):
    return LinearTape(model).covers(p for p in model.parameters() if p.requires_grad)


def test_models_of_linear_layers_are_covered():
    for make in (mlp, in_place, Heads, LINEAR_MODELS["a layer that runs twice"]):
        assert covers(made(make))
    assert covers(made(LINEAR_MODELS["no biases"]))
    assert covers(made(LINEAR_MODELS["frozen parts"]))


def test_frozen_layers_of_another_kind_do_not_matter():
    model = made(convolutional)
    model[0].requires_grad_(False)
    assert covers(model)


@pytest.mark.parametrize(
    "make",
    [
        convolutional,
        tied,
        with_attention,
        with_a_parameter_of_its_own,
        normalised,
    ],
)
def test_other_parameters_are_not_covered(make):
    assert not covers(made(make))


@pytest.mark.parametrize("make", [*LINEAR_MODELS.values(), Heads])
def test_recording_changes_neither_outputs_nor_gradients(make):
    model = made(make)
    layout = FlatLayout(model.named_parameters())
    x, y = samples(7)
    x[:, 0] = 1
    outputs, expected = model(x), gradient(model, layout, x, y)
    model.zero_grad(set_to_none=True)
    with LinearTape(model).recording():
        recorded = model(x)
    cross_entropy(recorded, y).backward()
    assert torch.equal(recorded, outputs)
    assert torch.equal(layout.gradient(), expected)


def test_asking_for_factors_writes_no_gradients():
    model, tape = (model := made(mlp)), LinearTape(model)
    x, y = samples(4)
    with tape.recording():
        outputs = model(x)
    assert len(tape.gradients_of(cross_entropy(outputs, y))) == 3
    assert all(p.grad is None for p in model.parameters())


def n_hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_no_hook_is_left_behind():
    model, tape = (model := made(mlp)), LinearTape(model)
    with tape.recording():
        assert n_hooks(model) == 3
    assert n_hooks(model) == 0
    with pytest.raises(ZeroDivisionError), tape.recording():
        raise ZeroDivisionError
    assert n_hooks(model) == 0


def test_hooks_of_others_are_left_alone():
    model, tape, seen = (model := made(mlp)), LinearTape(model), []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    with tape.recording():
        model(samples(2)[0])
    model(samples(2)[0])
    assert len(seen) == 2


def test_what_runs_outside_is_not_recorded_and_a_start_forgets_what_was():
    model, tape = (model := made(mlp)), LinearTape(model)
    x, y = samples(4)
    for n in (4, 3):
        with tape.recording():
            outputs = model(x[:n])
        model(x)
        factors = tape.gradients_of(cross_entropy(outputs, y[:n]))
        assert [len(f.inputs) for f in factors] == [n] * 3
        assert [f.layer for f in factors] == [model[0], model[2], model[4]]


def test_runs_that_the_loss_does_not_use_have_no_factors():
    model, tape = (model := made(mlp)), LinearTape(model)
    x, y = samples(4)
    with tape.recording():
        model(x)
        outputs = model(x)
        with torch.no_grad():
            model(x)
    assert len(tape.gradients_of(cross_entropy(outputs, y))) == 3


def test_each_run_of_a_layer_has_factors():
    model = made(LINEAR_MODELS["a layer that runs twice"])
    tape = LinearTape(model)
    x, y = samples(4)
    with tape.recording():
        outputs = model(x)
    ran = [f.layer for f in tape.gradients_of(cross_entropy(outputs, y))]
    assert ran == [model.first, model.again, model.again, model.last]


class Called(nn.Module):
    """A linear layer called in one way or another."""

    def __init__(self, call):
        super().__init__()
        self.layer, self.call = nn.Linear(6, 5), call

    def forward(self, x):
        return self.call(self.layer, x)


@pytest.mark.parametrize(
    "call",
    [
        lambda layer, x: layer(x),
        lambda layer, x: layer(x[:, None])[:, 0],
        lambda layer, x: layer(input=x),
        lambda layer, x: torch.stack([layer(row) for row in x]),
    ],
    ids=["a batch", "three dimensions", "by keyword", "a sample"],
)
def test_a_layer_may_be_called_as_torch_lets_it_be(call):
    model = Called(call).double()
    tape, layout = LinearTape(model), FlatLayout(model.named_parameters())
    x, y = samples(4)
    expected = gradient(model, layout, x, y)
    with tape.recording():
        outputs = model(x)
    factors = tape.gradients_of(cross_entropy(outputs, y))
    pieces = [f.lift(f.inputs.new_ones(1, len(f.inputs))) for f in factors]
    weight, bias = (sum(parts)[0] for parts in zip(*pieces, strict=True))
    torch.testing.assert_close(weight.flatten(), expected[:30], atol=1e-14, rtol=1e-12)
    torch.testing.assert_close(bias, expected[30:], atol=1e-14, rtol=1e-12)


def test_layers_of_any_kind_are_recorded_in_the_order_in_which_they_run():
    model = made(convolutional)
    tape = LayerTape([model[3], model[0]])
    x, y = samples(4, shape=(1, 6, 6))
    with tape.recording():
        outputs = model(x)
    runs = tape.taken()
    assert [run.layer for run in runs] == [model[0], model[3]]
    assert torch.equal(runs[0].inputs, x)
    (e,) = torch.autograd.grad(cross_entropy(outputs, y), [runs[1].probe])
    cross_entropy(model(x), y).backward()
    torch.testing.assert_close(e.T @ runs[1].inputs, model[3].weight.grad)
    assert not tape.taken()


def rows_of(factors):
    """The gradient of each row, by parameter, (M, numel)."""
    e, x = factors.output_gradients, factors.inputs
    weights = torch.einsum("rnh,nf->rnhf", e, x).flatten(0, 1)
    parts = {id(factors.layer.weight): weights, id(factors.layer.bias): e.flatten(0, 1)}
    return [parts[id(p)].flatten(1) for p in factors.parameters]


@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",)], ids=str)
@pytest.mark.parametrize(("n_rows", "n", "n_others"), [(1, 4, 3), (3, 2, 5), (2, 1, 1)])
def test_rows_are_summed_and_multiplied_as_if_they_were_formed(frozen, n_rows, n, n_others):
    layer, rng = nn.Linear(3, 2).double(), torch.Generator().manual_seed(0)
    for name in frozen:
        getattr(layer, name).requires_grad_(False)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    ours = LinearGradients(layer, draw(n, 3), draw(n_rows, n, 2))
    theirs = LinearGradients(layer, draw(n_others, 3), draw(2, n_others, 2))
    mine, other = (torch.cat(rows_of(g), 1) for g in (ours, theirs))
    torch.testing.assert_close(ours.products(theirs, torch.float64), mine @ other.T)
    torch.testing.assert_close(ours.kernel(), mine @ mine.T)
    weights = draw(5, len(mine))
    lifted = torch.cat([part.flatten(1) for part in ours.lift(weights)], 1)
    torch.testing.assert_close(lifted, weights @ mine)
    for power in (1, 2):
        sums = torch.cat([part.flatten() for part in ours.summed_powers(power)])
        torch.testing.assert_close(sums, mine.abs().pow(power).sum(0))
