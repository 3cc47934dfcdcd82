"""Sums of powers of gradients by sample, and the gradients of layers, of whole models."""

import warnings

import pytest
import torch
from torch import nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.per_sample import chunks, sums
from avalanche_ext.functional.per_sample.sums import layerwise_gradients, summed_powers
from tests.functional.fisher.fisher_cases import EVERY, RULED, UNRULED, Case, mlp

pytestmark = pytest.mark.filterwarnings("ignore:No exact per-sample rule")

N_ROWS = 3

every_case = pytest.mark.parametrize("case", EVERY.values(), ids=EVERY.keys())


def drawn_rows(outputs, place):
    """Numbers that depend on the sample's place and its outputs alone."""
    steps = torch.arange(1, N_ROWS + 1, dtype=outputs.dtype)[:, None, None]
    return torch.sin(steps * (place + 1)[:, None] * (1 + outputs))


def gradients_one_by_one(model, layout, x, rows=drawn_rows):
    """(M, P): the gradient of each row of each sample, by a pass for each."""
    model.eval()
    found = []
    for n in range(len(x)):
        # Zeros, so that what runs through frozen layers alone has gradients too.
        zero = sum(0 * p.sum() for p in layout.parameters)
        outputs = model(x[n : n + 1]) + zero
        for row in rows(outputs.detach(), torch.tensor([n])):
            gradients = torch.autograd.grad(outputs, layout.parameters, row, retain_graph=True)
            found.append(layout.flatten([g.to_dense() for g in gradients]))
    return torch.stack(found).unflatten(0, (len(x), -1)).transpose(0, 1).flatten(0, 1)


def setting(case, n=7):
    model, (x, _) = case.model(), case.samples(n)
    return model, FlatLayout(model.named_parameters()), x


@pytest.fixture(params=[False, True], ids=["enough memory", "little memory"])
def memory(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(chunks, "_CACHE", 1)
        for module in (chunks, sums):
            monkeypatch.setattr(module, "MEMORY", 1)


def assert_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11 * float(expected.abs().max()))


@every_case
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("power", [1, 2])
def test_sums_are_those_of_one_sample_after_another(case, power):
    model, layout, x = setting(case)
    expected = (gradients_one_by_one(model, layout, x).abs() ** power).sum(0)
    assert_equal(summed_powers(model, layout, x, drawn_rows, power=power), expected)


@every_case
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 100])
def test_the_size_of_chunks_does_not_matter(case, chunk_size):
    model, layout, x = setting(case)
    expected = summed_powers(model, layout, x, drawn_rows)
    assert_equal(summed_powers(model, layout, x, drawn_rows, chunk_size=chunk_size), expected)


@every_case
def test_one_sample(case):
    model, layout, x = setting(case, n=1)
    expected = gradients_one_by_one(model, layout, x).square().sum(0)
    assert_equal(summed_powers(model, layout, x, drawn_rows), expected)


@every_case
def test_nothing_propagated_back_gives_zeros(case):
    model, layout, x = setting(case)
    found = summed_powers(model, layout, x, lambda outputs, _: torch.zeros_like(outputs)[None])
    assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize("case", RULED.values(), ids=RULED.keys())
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_kernels_and_lifts_are_those_of_one_sample_after_another(case, chunk_size):
    model, layout, x = setting(case)
    rows = gradients_one_by_one(model, layout, x)
    layers = layerwise_gradients(model, layout, x, drawn_rows, chunk_size=chunk_size)
    assert_equal(sum(layer.kernel() for layer in layers), rows @ rows.T)
    weights = torch.sin(torch.arange(2.0 * len(rows), dtype=torch.float64)).view(2, -1)
    lifted = {
        p: value
        for layer in layers
        for p, value in zip(layer.parameters, layer.lift(weights), strict=True)
    }
    found = torch.cat([lifted[p].flatten(1) for p in layout.parameters], 1)
    assert_equal(found, weights @ rows)


@pytest.mark.parametrize("case", UNRULED.values(), ids=UNRULED.keys())
def test_layerwise_gradients_are_none_where_a_rule_is_missing(case):
    model, layout, x = setting(case)
    assert layerwise_gradients(model, layout, x, drawn_rows) is None


def test_layers_that_do_not_run_have_no_gradients():
    model = Case(mlp).model()
    model.register_module("unused", nn.Linear(3, 2).double())
    model.forward = lambda x: nn.Sequential(*[*model.children()][:-1])(x)
    layout, x = FlatLayout(model.named_parameters()), Case(mlp).samples()[0]
    layers = layerwise_gradients(model, layout, x, drawn_rows)
    held = [p for layer in layers for p in layer.parameters]
    assert not any(p is unused for p in held for unused in model.unused.parameters())
    pieces = layout.pieces(summed_powers(model, layout, x, drawn_rows))
    by_name = dict(zip(layout.names, pieces, strict=True))
    assert by_name["0.weight"].any()
    assert not by_name["unused.weight"].any()


@pytest.mark.parametrize(
    ("name", "layer", "way"),
    [
        ("a recurrent layer", r"layer gru \(nn.GRU\)", "vmap"),
        (
            "a bare parameter",
            r"the model itself \(Bare\)",
            "using torch.func.vmap instead",
        ),
        (
            "a parametrised weight",
            r"layer 1 \(nn.PReLU\)",
            "using torch.func.vmap instead",
        ),
        (
            "shared weights",
            r"layer first \(nn.Linear\).*, layer third \(nn.Linear\)",
            "using torch.func.vmap instead",
        ),
        (
            "routed samples",
            r"layer experts.0 \(nn.Linear\)",
            "vmap fails, so samples run one by one",
        ),
    ],
)
def test_layers_without_rules_are_named_once(name, layer, way, monkeypatch):
    monkeypatch.setattr(sums, "_said", set())
    model, layout, x = setting(UNRULED[name])
    with pytest.warns(UserWarning, match=layer) as said:
        summed_powers(model, layout, x, drawn_rows, chunk_size=2)
    assert all(str(w.message).count("last") == 0 for w in said)
    assert any(part in str(said[0].message) for part in way.split("|"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summed_powers(model, layout, x, drawn_rows)


@pytest.mark.parametrize("case", RULED.values(), ids=RULED.keys())
def test_nothing_is_said_of_layers_with_rules(case, monkeypatch):
    monkeypatch.setattr(sums, "_said", set())
    model, layout, x = setting(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summed_powers(model, layout, x, drawn_rows)


class Counting(nn.Module):
    """Counts its calls, draws even in eval mode, and fails on request."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.layers = EVERY["plain convolutions"].model()
        self.fails_after = None

    def forward(self, x):
        self.calls.add_(1)
        torch.rand(1)
        out = self.layers(x)
        if self.fails_after is not None and len(x) > self.fails_after:
            raise ZeroDivisionError
        return out


def state_of(model):
    """All that must not change."""
    return {
        "modes": [module.training for module in model.modules()],
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "grads": [p.grad if p.grad is None else p.grad.clone() for p in model.parameters()],
        "trained": [p.requires_grad for p in model.parameters()],
        "generator": torch.random.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def assert_unchanged(model, before):
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)


@pytest.mark.parametrize("fails_after", [None, 1, 2], ids=["runs", "fails at once", "fails later"])
@pytest.mark.parametrize("call", [summed_powers, layerwise_gradients])
def test_the_model_is_left_as_it_was(fails_after, call):
    model, (x, _) = Counting(), EVERY["plain convolutions"].samples()
    model.train()
    model.layers[1].eval()
    model.layers[0].bias.requires_grad_(False)
    for p in [*model.parameters()][2:]:
        p.grad = torch.ones_like(p)
    model.fails_after = fails_after
    layout, before = FlatLayout(model.named_parameters()), state_of(model)
    if fails_after is None:
        call(model, layout, x, drawn_rows)
    else:
        with pytest.raises(ZeroDivisionError):
            call(model, layout, x, drawn_rows)
    assert_unchanged(model, before)


@pytest.mark.parametrize("name", ["an mlp", "a bare parameter", "routed samples"])
def test_callers_without_gradients_get_the_same(name):
    model, layout, x = setting(EVERY[name])
    expected = summed_powers(model, layout, x, drawn_rows)
    with torch.no_grad():
        found = summed_powers(model, layout, x, drawn_rows)
    assert torch.equal(found, expected)
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(0, 6, dtype=torch.float64)}, "x has no samples"),
        ({"t": torch.zeros(3)}, r"t has the shape \(3,\): must be \(7,\)"),
        ({"chunk_size": 0}, "chunk_size=0: must be at least 1"),
    ],
)
def test_bad_input_is_named(arguments, message):
    model, layout, x = setting(EVERY["an mlp"])
    with pytest.raises(ValueError, match=message):
        summed_powers(model, layout, **{"x": x, "rows": drawn_rows} | arguments)


def test_a_model_that_returns_no_vectors_is_refused():
    model = nn.Linear(6, 3).double()
    layout = FlatLayout(model.named_parameters())
    x = torch.zeros(4, 2, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"outputs of shape \(2, C\) .* returned \(2, 2, 3\)"):
        summed_powers(model, layout, x, drawn_rows)
