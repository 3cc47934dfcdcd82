"""The rules of single layers against gradients of one sample after another."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

from avalanche_ext.functional.per_sample import formed
from avalanche_ext.functional.per_sample.rules import gradients_of_runs, has_rule, sample_gradients

N_ROWS, N_SAMPLES = 3, 4

LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "linear without bias": (lambda: nn.Linear(4, 3, bias=False), (4,)),
    "linear with positions": (lambda: nn.Linear(4, 3), (5, 4)),
    "linear with positions in rows": (lambda: nn.Linear(4, 3), (2, 3, 4)),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, stride=2, padding=1, padding_mode="reflect"), (2, 7)),
    "conv2d": (lambda: nn.Conv2d(2, 3, (2, 3), padding=(0, 1), dilation=(2, 1)), (2, 5, 4)),
    "conv2d without bias": (lambda: nn.Conv2d(2, 3, 2, bias=False), (2, 3, 4)),
    "grouped conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding="same"), (4, 3, 4)),
    "depthwise conv2d": (lambda: nn.Conv2d(3, 3, 3, groups=3, stride=(1, 2)), (3, 4, 7)),
    "conv3d": (lambda: nn.Conv3d(1, 2, (1, 2, 2), padding=(0, 1, 0)), (1, 2, 3, 3)),
    "circular conv2d": (
        lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
        (1, 4, 3),
    ),
    "embedding": (lambda: nn.Embedding(6, 3), (5,)),
    "embedding of one token": (lambda: nn.Embedding(6, 3), ()),
    "embedding of tables": (lambda: nn.Embedding(6, 3), (2, 3)),
    "padded embedding": (lambda: nn.Embedding(6, 3, padding_idx=2), (8,)),
    "layer norm": (lambda: nn.LayerNorm(4), (4,)),
    "layer norm of positions": (lambda: nn.LayerNorm((3, 4)), (2, 3, 4)),
    "layer norm without bias": (lambda: nn.LayerNorm(4, bias=False), (3, 4)),
    "rms norm": (lambda: nn.RMSNorm(4), (2, 4)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 3, 2)),
    "group norm of vectors": (lambda: nn.GroupNorm(2, 4), (4,)),
    "instance norm": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 2, 4)),
    "batch norm of vectors": (lambda: nn.BatchNorm1d(4), (4,)),
    "batch norm of sequences": (lambda: nn.BatchNorm1d(4), (4, 3)),
    "batch norm of images": (lambda: nn.BatchNorm2d(3), (3, 2, 2)),
    "batch norm of volumes": (lambda: nn.BatchNorm3d(2), (2, 2, 1, 3)),
}

every_layer = pytest.mark.parametrize("name", LAYERS)
each_block = pytest.mark.parametrize("block", [1, 40, 240, 2**20])


def drawn(name, seed=0):
    """A layer with numbers of no special value, inputs and output gradients."""
    make, shape = LAYERS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = make().double().eval()
        for p in layer.parameters():
            nn.init.normal_(p, 0.5)
        if getattr(layer, "running_mean", None) is not None:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
        x = torch.randn(N_SAMPLES, *shape, dtype=torch.float64)
        if isinstance(layer, nn.Embedding):
            x = torch.randint(6, (N_SAMPLES, *shape))
        return layer, x, torch.randn(N_ROWS, *layer(x).shape, dtype=torch.float64)


def one_by_one(layer, x, e):
    """The gradients of each trained parameter, (M, *shape), by a pass for each row."""
    trained = [p for p in layer.parameters() if p.requires_grad]
    rows = [
        torch.autograd.grad(layer(x[n : n + 1]), trained, row[n : n + 1])
        for row in e
        for n in range(len(x))
    ]
    return [torch.stack(of_parameter) for of_parameter in zip(*rows, strict=True)]


def assert_right(rule, expected):
    for power in (1, 2):
        sums = rule.summed_powers(power)
        for found, g in zip(sums, expected, strict=True):
            torch.testing.assert_close(found, (g.abs() ** power).sum(0), rtol=1e-10, atol=1e-12)
    rows = torch.cat([g.flatten(1) for g in expected], 1)
    torch.testing.assert_close(rule.kernel(), rows @ rows.T, rtol=1e-10, atol=1e-11)
    weights = torch.randn(
        2, len(rows), dtype=rows.dtype, generator=torch.Generator().manual_seed(2)
    )
    for found, g in zip(rule.lift(weights), expected, strict=True):
        lifted = torch.einsum("km,m...->k...", weights, g)
        torch.testing.assert_close(found, lifted, rtol=1e-10, atol=1e-11)


@every_layer
@each_block
def test_rules_give_the_gradients_of_samples(name, block, monkeypatch):
    monkeypatch.setattr(formed, "_BLOCK", block)
    layer, x, e = drawn(name)
    assert has_rule(layer)
    rule = sample_gradients(layer, x, e)
    assert rule.parameters == [*layer.parameters()]
    assert_right(rule, one_by_one(layer, x, e))


@pytest.mark.parametrize(
    "name",
    ["linear", "linear with positions", "grouped conv2d", "layer norm", "batch norm of images"],
)
@pytest.mark.parametrize("is_frozen", ["weight", "bias"])
def test_frozen_parameters_are_left_out(name, is_frozen):
    layer, x, e = drawn(name)
    getattr(layer, is_frozen).requires_grad_(False)
    rule = sample_gradients(layer, x, e)
    assert len(rule.parameters) == 1
    assert_right(rule, one_by_one(layer, x, e))


@pytest.mark.parametrize(
    "name",
    ["linear", "linear with positions", "grouped conv2d", "padded embedding", "layer norm",
     "batch norm of images"],
)  # fmt: skip
@each_block
def test_gradients_of_several_runs_are_added(name, block, monkeypatch):
    monkeypatch.setattr(formed, "_BLOCK", block)
    layer, x, e = drawn(name)
    _, other_x, other_e = drawn(name, seed=1)
    rule = gradients_of_runs(layer, [(x, e), (other_x, other_e)])
    pairs = zip(one_by_one(layer, x, e), one_by_one(layer, other_x, other_e), strict=True)
    assert_right(rule, [first + second for first, second in pairs])


@every_layer
def test_output_gradients_and_inputs_are_left_alone(name):
    layer, x, e = drawn(name)
    before = x.clone(), e.clone()
    rule = sample_gradients(layer, x, e)
    first = rule.summed_powers(2)
    rule.summed_powers(1), rule.kernel(), rule.lift(e.new_ones(1, N_ROWS * N_SAMPLES))
    assert torch.equal(x, before[0])
    assert torch.equal(e, before[1])
    assert all(map(torch.equal, first, rule.summed_powers(2)))


def test_rules_of_normalisation_hold_what_the_layer_was():
    layer, x, e = drawn("batch norm of images")
    expected = one_by_one(layer, x, e)
    layer.train()
    rule = sample_gradients(layer, x, e)
    assert layer.training
    assert layer.num_batches_tracked == 0
    functional_call(layer, {"running_mean": torch.ones(3, dtype=torch.float64)}, (x,))
    with torch.no_grad():
        layer.running_mean.add_(1)
        layer.weight.add_(1)
    assert_right(rule, expected)


class Subclass(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def with_a_parameter_of_its_own():
    layer = nn.Linear(3, 2)
    layer.register_parameter("scale", nn.Parameter(torch.ones(1)))
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        Subclass(3, 2),
        with_a_parameter_of_its_own(),
        weight_norm(nn.Linear(3, 2)),
        nn.LazyLinear(2),
        nn.Embedding(5, 2, max_norm=1.0),
        nn.Embedding(5, 2, scale_grad_by_freq=True),
        nn.EmbeddingBag(5, 2),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.ConvTranspose2d(2, 2, 2),
        nn.Bilinear(2, 2, 2),
        nn.PReLU(),
        nn.GRU(2, 2),
        nn.LayerNorm(3, elementwise_affine=False),
        nn.Tanh(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_other_layers_have_no_rule(layer):
    assert not has_rule(layer)
