"""A bfloat16 model always returns float32, and rounds nothing that must stay exact."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.fisher.diagonal import diagonal_fisher
from avalanche_ext.functional.lookahead.lookahead import interference, step_ahead
from avalanche_ext.functional.model.precision import (
    full_precision,
    use_bfloat16,
    use_channels_last,
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )


def lowered():
    model = network()
    use_bfloat16(model)
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 6, 6, generator=generator), torch.arange(6) % 5


def inner_type(model, x):
    """The type of what the first layer puts out."""
    seen = []
    with model[0].register_forward_hook(lambda *call: seen.append(call[2].dtype)):
        model(x)
    return seen[0]


def test_layers_run_in_bfloat16_and_outputs_and_gradients_are_float32(batch):
    x, y = batch
    model, same = lowered(), network()
    assert inner_type(model, x) == torch.bfloat16
    for each in (model, same):
        cross_entropy(each(x), y).backward()
    assert model(x).dtype == torch.float32
    found, expected = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in (model, same))
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() < 0.05 * expected.norm()


def test_copies_run_in_bfloat16_on_their_own_weights(batch):
    x, _ = batch
    model = lowered()
    copy = deepcopy(model)
    nn.init.zeros_(copy[4].weight)
    assert inner_type(copy, x) == torch.bfloat16
    torch.testing.assert_close(copy(x), copy[4].bias.expand(6, 5), rtol=0.01, atol=0.01)
    assert model(x).std() > 0.05


def test_inside_full_precision_it_is_the_model_of_before_even_after_an_error(batch):
    x, _ = batch
    model = lowered().eval()
    with full_precision(model), full_precision(model):
        assert torch.equal(model(x), network().eval()(x))
    with pytest.raises(RuntimeError), full_precision(model):
        model(x[:, :2])
    assert inner_type(model, x) == torch.bfloat16


def test_fishers_are_those_in_full_precision(batch):
    found, expected = (diagonal_fisher(model, *batch) for model in (lowered(), network()))
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def test_a_small_step_ahead_is_not_lost_in_rounding(batch):
    x, y = batch
    increases = []
    for model in (lowered().eval(), network().eval()):
        ahead = step_ahead(model, cross_entropy, [x], y, 1e-4)
        increases.append(interference(ahead, [x], y, cross_entropy))
    torch.testing.assert_close(*increases, rtol=0.05, atol=2e-7)


def test_weights_that_would_stay_in_double_precision_are_refused():
    with pytest.raises(ValueError, match=r"weights in float32, but '0\.weight' is in float64"):
        use_bfloat16(network().double())


def test_channels_last_changes_where_weights_lie_and_no_values(batch):
    x, _ = batch
    model = network()
    use_channels_last(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    pairs = zip(model.parameters(), network().parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)
    torch.testing.assert_close(model(x), network()(x))
    with pytest.raises(ValueError, match="Linear has no weights of four dimensions"):
        use_channels_last(nn.Linear(2, 2))
