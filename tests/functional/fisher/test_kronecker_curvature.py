"""Curvatures with one Kronecker product for each layer, against dense matrices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from avalanche_ext.functional.fisher.factors import Factors
from avalanche_ext.functional.fisher.kronecker import KroneckerCurvature
from avalanche_ext.functional.fisher.summed import SummedCurvature
from avalanche_ext.functional.model.gradients import FlatLayout
from tests.oracles import dense_by_loops, nearest_by_svd


def network(dtype=torch.float64, n_outputs=3):
    """A layer of each kind: with a bias (4 → 3), without (3 → 2, as a convolution), and a norm."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "linear": nn.Linear(4, n_outputs),
            "norm": nn.LayerNorm(2),
            "conv": nn.Conv1d(1, 2, 3, bias=False),
        }
    ).to(dtype)


def semi_definite(n, generator, rank=None):
    root = torch.randn(n, rank or n, dtype=torch.float64, generator=generator)
    return root @ root.T


def kronecker(seed=0, model=None, dtype=torch.float64, rank_of_factors=None, **given):
    """Random factors for a network."""
    generator = torch.Generator().manual_seed(seed)
    layers, diagonal = {}, {}
    model = model or network()
    for name, layer in model.items():
        if name == "norm":
            for part, p in layer.named_parameters():
                diagonal[f"{name}.{part}"] = torch.rand(p.shape, generator=generator).to(dtype)
            continue
        bias = f"{name}.bias" if layer.bias is not None else None
        n_inputs = layer.weight[0].numel() + (bias is not None)
        a, g = (semi_definite(n, generator, rank_of_factors) for n in (n_inputs, len(layer.weight)))
        layers[name] = Factors(f"{name}.weight", bias, a.to(dtype), g.to(dtype))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    return KroneckerCurvature(shapes, layers, diagonal, **given)


def dense(part, model=None):
    """The matrix itself, (P, P), in double precision."""
    factors = {
        name: (f.inputs.double().numpy(), f.outputs.double().numpy())
        for name, f in part.layers.items()
    }
    diagonal = {name: d.double().numpy() for name, d in part.diagonal.items()}
    return torch.from_numpy(dense_by_loops(model or network(), factors, diagonal))


def resolved(part):
    """The matrix that a step solves with: each factor with the mean of its small eigenvalues."""
    layers = {}
    for name, factors in part.layers.items():
        basis, matrices = part.bases[name], []
        for e in (basis.inputs, basis.outputs):
            beyond = torch.eye(len(e.vectors)).to(e.vectors) - e.vectors @ e.vectors.T
            matrices.append(e.vectors @ torch.diag(e.values) @ e.vectors.T + e.rest[0] * beyond)
        layers[name] = replace(factors, inputs=matrices[0], outputs=matrices[1])
    return dense(replace(part, layers=layers))


def pulled(part, strength, rates, dtype=torch.float64, model=None):
    """Return δ before and after the step."""
    model = model or network(dtype)
    layout = FlatLayout(model.named_parameters())
    size = sum(layout.numels)
    anchor = torch.randn(size, dtype=dtype, generator=torch.Generator().manual_seed(3))
    before = layout.flatten(layout.parameters).detach() - anchor
    part.step(layout, anchor, strength, rates)()
    return before, layout.flatten(layout.parameters).detach() - anchor


P = 15 + 4 + 6


@pytest.mark.parametrize("strength", [0.01, 1.0, 1e4])
@pytest.mark.parametrize("rank", [None, 2])
def test_with_all_eigenvectors_the_step_is_a_dense_solve(rank, strength):
    part = kronecker(rank_of_factors=rank)
    before, after = pulled(part, strength, 0.1)
    system = torch.eye(P, dtype=torch.float64) + strength * 0.1 * dense(part)
    torch.testing.assert_close(after, torch.linalg.solve(system, before), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_with_some_eigenvectors_it_solves_with_a_matrix_of_the_same_trace(rank):
    """Of 5 and 3 in one layer, and of 3 and 2 in the other."""
    part = kronecker(rank=rank)
    matrix = resolved(part)
    assert matrix.trace() == pytest.approx(part.trace)
    assert (matrix - dense(part)).abs().max() > 0.01
    before, after = pulled(part, 3.0, 0.1)
    system = torch.eye(P, dtype=torch.float64) + 0.3 * matrix
    torch.testing.assert_close(after, torch.linalg.solve(system, before), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("rank", [2, None])
@pytest.mark.parametrize("largest", [1.0, 1e5])
def test_different_rates_count_by_the_mean_that_keeps_the_cost_of_moving(rank, largest):
    part = kronecker(rank=rank)
    rates = torch.rand(P, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    rates[3] = largest
    before, after = pulled(part, 2.0, rates)
    weights = dense(part).diagonal()
    mean = rates.clone()
    for block in (slice(0, 15), slice(19, 25)):
        mean[block] = weights[block].sum() / (weights[block] / rates[block]).sum()
    assert mean[0] < 1
    system = torch.eye(P, dtype=torch.float64) + 2.0 * torch.diag(mean) @ resolved(part)
    torch.testing.assert_close(after, torch.linalg.solve(system, before), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("fixed", [slice(0, 12), slice(12, 15), slice(0, 15), slice(19, 25)])
def test_parameters_of_rate_zero_stay_and_the_others_move_as_if_these_were_fixed(fixed):
    part = kronecker()
    rates = torch.full((P,), 0.1, dtype=torch.float64)
    rates[fixed] = 0
    before, after = pulled(part, 5.0, rates)
    system = torch.eye(P, dtype=torch.float64) + 5.0 * torch.diag(rates) @ dense(part)
    moves = rates > 0
    rest = torch.linalg.solve(system[moves][:, moves], before[moves])
    assert torch.equal(after[fixed], before[fixed])
    torch.testing.assert_close(after[moves], rest, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("rates", [0.1, torch.linspace(0.1, 0.3, P)], ids=["one", "many"])
@pytest.mark.parametrize("strength", [1e8, 1e30, 1e300, float("inf")])
def test_at_any_strength_it_ends_as_a_hard_projection(strength, rates):
    part = kronecker(rank_of_factors=2, dtype=torch.float32).scaled(100.0)
    before, after = pulled(part, strength, rates, torch.float32)
    values, vectors = torch.linalg.eigh(dense(part))
    free = vectors[:, values < 1e-4 * values[-1]].float()
    assert free.shape[1] > 3
    torch.testing.assert_close(after, free @ (free.T @ before), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("rank", [None, 100])
def test_in_single_precision_a_long_tail_of_eigenvalues_still_counts(rank):
    """A's eigenvalues are 1/i² for i up to 785, as those of images nearly are."""
    n = 785
    values = torch.arange(1, n + 1, dtype=torch.float64) ** -2
    basis = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(0)).double())
    vectors = basis.Q
    a = (vectors * values) @ vectors.T
    factors = Factors("w", None, a.float(), torch.ones(1, 1))
    found = factors.basis(rank).inputs
    k = len(found.values)
    total = float(found.values.double().sum() + found.rest.double().sum() * (n - k))
    assert total == pytest.approx(float(values.sum()), rel=1e-3)
    assert k == 100 if rank else k > 400
    along = vectors[:, 299].float()[None]
    removed = factors.basis(rank).removal(torch.tensor(1000.0))(along)
    s = 1000 * float(values[299] if rank is None else values[100:].mean())
    torch.testing.assert_close(removed, s / (1 + s) * along, rtol=0.02, atol=2e-3)


def test_of_strength_zero_it_moves_nothing():
    before, after = pulled(kronecker(rank=1), 0.0, 0.1)
    torch.testing.assert_close(after, before)


def test_for_small_strengths_it_is_the_step_along_the_gradient():
    part = kronecker()
    before, after = pulled(part, 1e-6, 0.1)
    torch.testing.assert_close(after - before, -1e-7 * part.product(before), rtol=1e-4, atol=1e-13)


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.0])
def test_a_sum_takes_the_mean_of_inputs_and_the_sum_of_outputs(decay):
    parts = [kronecker(seed) for seed in range(3)]
    merged = parts[0].merged(parts[1], decay).merged(parts[2], decay)
    weights = [decay**2, decay, 1.0]
    for name in merged.layers:
        a = sum(w * part.layers[name].inputs for w, part in zip(weights, parts, strict=True))
        g = sum(w * part.layers[name].outputs for w, part in zip(weights, parts, strict=True))
        torch.testing.assert_close(merged.layers[name].inputs, a / sum(weights))
        torch.testing.assert_close(merged.layers[name].outputs, g)
    for name, d in merged.diagonal.items():
        expected = sum(w * part.diagonal[name] for w, part in zip(weights, parts, strict=True))
        torch.testing.assert_close(d, expected)


@pytest.mark.parametrize("merge", ["sum", "nearest"])
def test_the_same_matrix_twice_only_grows(merge):
    part = kronecker(merge=merge)
    torch.testing.assert_close(dense(part.merged(part, 0.5)), 1.5 * dense(part))


@pytest.mark.parametrize("decay", [1.0, 0.3])
def test_the_nearest_product_is_that_of_a_singular_value_decomposition(decay):
    old, new = kronecker(0, merge="nearest"), kronecker(1, merge="nearest")
    merged = old.merged(new, decay)
    for name, factors in merged.layers.items():
        total = sum(
            weight * np.kron(part.layers[name].outputs, part.layers[name].inputs)
            for weight, part in ((decay, old), (1.0, new))
        )
        expected = nearest_by_svd(total, len(factors.outputs))
        np.testing.assert_allclose(np.kron(factors.outputs, factors.inputs), expected, atol=1e-10)
        assert torch.linalg.eigvalsh(factors.inputs)[0] > -1e-10
        assert torch.linalg.eigvalsh(factors.outputs)[0] > -1e-10


@pytest.mark.parametrize("merge", ["sum", "nearest"])
def test_a_layer_that_a_task_does_not_run_through_only_fades(merge):
    old, new = kronecker(0, merge=merge), kronecker(1, merge=merge)
    idle = new.layers["conv"]
    idle = replace(idle, inputs=0 * idle.inputs, outputs=0 * idle.outputs, mass=0.0)
    new = replace(new, layers={**new.layers, "conv": idle})
    merged = old.merged(new, 0.8).merged(new, 0.8)
    expected = 0.64 * torch.kron(old.layers["conv"].outputs, old.layers["conv"].inputs)
    found = torch.kron(merged.layers["conv"].outputs, merged.layers["conv"].inputs)
    torch.testing.assert_close(found, expected)
    again = merged.merged(kronecker(2, merge=merge), 1.0).layers["conv"]
    assert again.mass == pytest.approx(1.64)


@pytest.mark.parametrize("merge", ["sum", "nearest"])
def test_a_layer_without_a_block_in_the_new_matrix_fades_too(merge):
    old, new = kronecker(0, merge=merge), kronecker(1, merge=merge)
    new = replace(new, layers={"linear": new.layers["linear"]})
    merged = old.merged(new, 0.8)
    block, before = merged.layers["conv"], old.layers["conv"]
    expected = 0.8 * torch.kron(before.outputs, before.inputs)
    torch.testing.assert_close(torch.kron(block.outputs, block.inputs), expected)
    assert block.mass == pytest.approx(0.8)


@pytest.mark.parametrize("merge", ["sum", "nearest"])
@pytest.mark.parametrize("thawed", ["linear.weight", "linear.bias"])
def test_a_parameter_that_is_trained_from_now_on_joins_the_block_of_its_layer(thawed, merge):
    old, new = kronecker(0, merge=merge), kronecker(1, merge=merge)
    block = old.layers["linear"]
    in_part = block.restricted([name for name in block.names if name != thawed])
    old = replace(old, layers={**old.layers, "linear": in_part})
    columns = slice(4) if thawed == "linear.bias" else slice(4, 5)
    wide = torch.zeros(5, 5, dtype=torch.float64)
    wide[columns, columns] = in_part.inputs
    wide_old = replace(old, layers={**old.layers, "linear": replace(block, inputs=wide)})
    expected = wide_old.merged(new, 0.5)
    torch.testing.assert_close(dense(old.merged(new, 0.5)), dense(expected))


def test_a_layer_with_a_block_on_one_side_alone_gets_a_diagonal_for_both():
    old, new = kronecker(0), kronecker(1)
    block = new.layers["conv"]
    diagonal = {**new.diagonal, "conv.weight": block.diagonal().view(2, 1, 3)}
    new = replace(new, layers={"linear": new.layers["linear"]}, diagonal=diagonal)
    for first, second in ((old, new), (new, old)):
        merged = first.merged(second, 0.5)
        assert [*merged.layers] == ["linear"]
        total = 0.5 * dense(first).diagonal() + dense(second).diagonal()
        torch.testing.assert_close(dense(merged).diagonal()[15:], total[15:])


def test_scaling_scales_the_matrix():
    part = kronecker()
    torch.testing.assert_close(dense(part.scaled(3.0)), 3 * dense(part))


def test_damping_adds_to_both_factors_in_proportion():
    part = kronecker()
    damped = part.damped(0.04)
    for name, factors in part.layers.items():
        a, g = factors.inputs, factors.outputs
        pi = float((a.trace() / len(a)) / (g.trace() / len(g))) ** 0.5
        expected = torch.kron(g + 0.2 / pi * torch.eye(len(g)), a + pi * 0.2 * torch.eye(len(a)))
        found = torch.kron(damped.layers[name].outputs, damped.layers[name].inputs)
        torch.testing.assert_close(found, expected)
    assert all(torch.equal(damped.diagonal[n], d + 0.04) for n, d in part.diagonal.items())
    idle = replace(part.layers["conv"], outputs=torch.zeros(2, 2, dtype=torch.float64))
    assert idle.damped(0.04) is idle
    assert torch.equal(dense(part.damped(0.0)), dense(part))


@pytest.mark.parametrize("rank", [2, None])
def test_where_a_model_grows_what_was_held_stays_and_the_new_is_free(rank):
    part, model = kronecker(rank=rank), network(n_outputs=5)
    # The weight of the linear layer has two more rows, and so has its bias.
    places = torch.cat([torch.arange(12), 20 + torch.arange(3), 25 + torch.arange(10)])
    shapes = {name: p.shape for name, p in model.named_parameters()}
    placed = part.placed(places, shapes)
    expected = torch.zeros(P + 10, P + 10, dtype=torch.float64)
    expected[places[:, None], places] = dense(part)
    torch.testing.assert_close(dense(placed, model), expected)
    before, after = pulled(placed, 10.0, 0.1, model=model)
    free = torch.ones(P + 10, dtype=torch.bool)
    free[places] = False
    torch.testing.assert_close(after[free], before[free], rtol=0, atol=1e-12)
    assert (after[places] != before[places]).any()
    assert placed.held().sum() == P


def test_inputs_may_grow_and_parts_may_go():
    part = kronecker()
    places = torch.cat(
        [
            torch.arange(12),
            torch.full((7,), -1),
            12 + torch.arange(6) // 3 * 4 + torch.arange(6) % 3,
        ]
    )
    shapes = {"linear.weight": torch.Size([3, 4]), "conv.weight": torch.Size([2, 1, 4])}
    placed = part.placed(places, shapes)
    expected = torch.zeros(20, 20, dtype=torch.float64)
    stay = places >= 0
    expected[places[stay][:, None], places[stay]] = dense(part)[stay][:, stay]
    columns = torch.eye(20, dtype=torch.float64)
    torch.testing.assert_close(torch.stack([placed.product(c) for c in columns]), expected)
    assert placed.layers["linear"].bias is None
    assert not placed.diagonal


def test_a_sum_that_is_kept_apart_is_the_sum():
    parts = [kronecker(seed) for seed in range(3)]
    whole = SummedCurvature((parts[0],), (1.0,))
    for part in parts[1:]:
        whole = whole.merged(SummedCurvature((part,), (1.0,)), 0.9)
    total = 0.81 * dense(parts[0]) + 0.9 * dense(parts[1]) + dense(parts[2])
    delta = torch.randn(P, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(whole.product(delta), total @ delta)
    assert whole.trace == pytest.approx(float(total.trace()))
    assert 0 < whole.largest <= float(torch.linalg.eigvalsh(total)[-1])
    assert whole.held().all()
    assert whole.size == P
    assert whole.n_bytes == sum(part.n_bytes for part in parts)
    torch.testing.assert_close(whole.scaled(2.0).product(delta), 2 * total @ delta)


def test_with_decay_zero_a_sum_keeps_no_earlier_term():
    first, second = (SummedCurvature((kronecker(seed),), (1.0,)) for seed in range(2))
    assert first.merged(second, 0.0) is second


def test_its_step_is_that_of_the_sum_to_first_order_and_stable():
    whole = SummedCurvature((kronecker(0), kronecker(1)), (0.5, 1.0))
    total = 0.5 * dense(kronecker(0)) + dense(kronecker(1))
    before, after = pulled(whole, 1e-6, 0.1)
    torch.testing.assert_close(after - before, -1e-7 * total @ before, rtol=1e-4, atol=1e-13)
    before, after = pulled(whole, 1e12, 0.1)
    assert after.abs().max() < 1e-6


def test_memory_is_that_of_factors_and_eigenvectors():
    part = kronecker(dtype=torch.float32)
    n_factors = 5**2 + 3**2 + 3**2 + 2**2
    n_values = 5 + 3 + 3 + 2
    n_means = 4
    assert part.n_bytes == 4 * (2 * n_factors + n_values + n_means + 4)
