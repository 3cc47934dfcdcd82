"""Kronecker factors of the Fisher, against loops, nngeometry and the Fisher itself."""

import numpy as np
import pytest
import torch
from nngeometry.backend import TorchHooksJacobianBackend
from nngeometry.layercollection import LayerCollection
from nngeometry.object import PMatKFAC
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from avalanche_ext.functional import diagonal_fisher, kronecker_fisher
from avalanche_ext.functional.per_sample import chunks
from tests.functional.fisher.fisher_cases import (
    EVERY,
    KINDS,
    RULED,
    Case,
    double_by_default,
    weights_of,
)
from tests.functional.per_sample.fisher_models import N_CLASSES, multi_head
from tests.oracles import dense_by_loops, factors_by_loops, outputs_by_loops
from tests.oracles.spectrum import fisher_by_loops

SEED = 5


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 2, bias=False),
        nn.Tanh(), nn.Flatten(), nn.Linear(8, N_CLASSES),
    )  # fmt: skip


class Positional(nn.Module):
    """A linear layer at each position of a sequence, and one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(9, 4), nn.LayerNorm(4)
        self.each, self.twice = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last = nn.Linear(4, N_CLASSES)

    def forward(self, tokens):
        h = torch.tanh(self.each(self.norm(self.embedding(tokens)))).mean(1)
        return self.last(torch.tanh(self.twice(torch.tanh(self.twice(h)))))


CASES = {
    "an mlp": RULED["an mlp"],
    "frozen parts": RULED["frozen parts"],
    "convolutions": Case(convolutions, (2, 6, 5)),
    "positions": Case(Positional, (3,), has_tokens=True),
    "rows as samples": RULED["rows as samples"],
}
every_case = pytest.mark.parametrize("name", CASES)
every_kind = pytest.mark.parametrize("kind", KINDS)


def expected_of(case, kind, sharing):
    model, (x, y) = case.model(), case.samples()
    model.eval()
    weights = weights_of(kind, outputs_by_loops(model, x), y, SEED)
    return factors_by_loops(model, x, weights, sharing)


@every_case
@every_kind
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_factors_are_those_of_loops(name, kind, sharing):
    case = CASES[name]
    model, (x, y) = case.model(), case.samples()
    found = kronecker_fisher(model, x, y, kind, sharing=sharing, seed=SEED)
    expected = expected_of(case, kind, sharing)
    if name == "rows as samples":  # which the loop takes for positions, too
        assert len(expected["each"][0]) == 3
    assert found.layers.keys() == expected.keys()
    for layer, (a, g) in expected.items():
        np.testing.assert_allclose(found.layers[layer].inputs, a, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.layers[layer].outputs, g, rtol=1e-9, atol=1e-12)
        assert found.layers[layer].mass == 1


@every_case
def test_products_are_those_of_the_dense_matrix(name):
    case = CASES[name]
    model, (x, y) = case.model(), case.samples()
    found = kronecker_fisher(model, x, y, "empirical")
    diagonal = diagonal_fisher(model, x, y, "empirical")
    dense = torch.from_numpy(
        dense_by_loops(model, expected_of(case, "empirical", "expand"), diagonal)
    )
    delta = torch.randn(len(dense), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.product(delta), dense @ delta)
    torch.testing.assert_close(found.penalty(delta), 0.5 * delta @ dense @ delta)
    assert found.trace == pytest.approx(float(dense.trace()))
    assert found.largest == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]))
    assert torch.equal(found.held(), dense.diagonal() != 0)


@pytest.mark.parametrize("make", [convolutions, RULED["an mlp"].make], ids=["convolutions", "mlp"])
@every_kind
def test_it_is_the_k_fac_of_nngeometry(make, kind):
    case = Case(make, (2, 6, 5) if make is convolutions else (6,))
    model, (x, y) = case.model(), case.samples()
    found = kronecker_fisher(model, x, y, kind, seed=SEED)
    model.eval()
    weights = weights_of(kind, outputs_by_loops(model, x), y, SEED).double()

    def weighted(inputs, weights):
        return weights.sqrt() * model(inputs).log_softmax(1)

    loader = DataLoader(TensorDataset(x, weights), batch_size=len(x))
    with double_by_default():
        generator = TorchHooksJacobianBackend(
            layer_collection=LayerCollection.from_model(model), model=model, function=weighted
        )
        blocks = PMatKFAC(generator=generator, examples=loader).data
    assert len(blocks) == len(found.layers) == 3
    for factors, (a, g) in zip(found.layers.values(), blocks.values(), strict=True):
        ours = torch.kron(factors.outputs, factors.inputs)
        torch.testing.assert_close(ours, torch.kron(g, a), rtol=1e-6, atol=1e-15)


@every_kind
def test_of_one_sample_and_label_it_is_the_block_of_the_fisher(kind):
    case = RULED["an mlp"]
    model, (x, y) = case.model(), case.samples(1)
    found = kronecker_fisher(model, x, y, kind, seed=SEED)
    weights = weights_of(kind, outputs_by_loops(model.eval(), x), y, SEED)
    whole = torch.from_numpy(fisher_by_loops(model, x, weights))
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in model if [*layer.parameters()]]
    blocks = torch.block_diag(*(torch.ones(n, n) for n in sizes))
    columns = torch.eye(len(whole), dtype=torch.float64)
    dense = torch.stack([found.product(column) for column in columns])
    torch.testing.assert_close(dense, whole * blocks, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:No exact per-sample rule")
@pytest.mark.parametrize("name", EVERY)
def test_parameters_of_other_layers_have_their_diagonal(name):
    model, (x, y) = EVERY[name].model(), EVERY[name].samples()
    found = kronecker_fisher(model, x, y)
    diagonal = diagonal_fisher(model, x, y)
    of_layers = {n for factors in found.layers.values() for n in factors.names}
    assert found.diagonal.keys() == diagonal.keys() - of_layers
    for n, value in found.diagonal.items():
        torch.testing.assert_close(value, diagonal[n], rtol=1e-9, atol=1e-12)
    grouped = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(m.weight)] for m in grouped} <= found.diagonal.keys()
    assert [*found.shapes] == [*diagonal]


@pytest.mark.parametrize("chunk_size", [1, 3])
@pytest.mark.parametrize("name", ["an mlp", "convolutions", "positions"])
def test_the_size_of_chunks_does_not_matter(name, chunk_size):
    model, (x, y) = CASES[name].model(), CASES[name].samples()
    whole = kronecker_fisher(model, x, y)
    parts = kronecker_fisher(model, x, y, chunk_size=chunk_size)
    for layer, factors in whole.layers.items():
        torch.testing.assert_close(parts.layers[layer].inputs, factors.inputs)
        torch.testing.assert_close(parts.layers[layer].outputs, factors.outputs)
        assert parts.layers[layer].mass == factors.mass


@pytest.mark.parametrize("name", ["an mlp", "convolutions", "positions"])
def test_where_rows_go_back_one_by_one_samples_count_once(name, monkeypatch):
    model, (x, y) = CASES[name].model(), CASES[name].samples()
    whole = kronecker_fisher(model, x, y)
    monkeypatch.setattr(chunks, "MEMORY", 1)
    parts = kronecker_fisher(model, x, y)
    for layer, factors in whole.layers.items():
        torch.testing.assert_close(parts.layers[layer].inputs, factors.inputs)
        torch.testing.assert_close(parts.layers[layer].outputs, factors.outputs)
        assert parts.layers[layer].mass == factors.mass == 1


def test_heads_are_means_over_the_samples_of_their_tasks():
    case = Case(multi_head, (1, 8, 8), n_classes=6)
    x, y = case.samples(8)
    t = torch.tensor([2, 0, 0, 2, 0, 2, 2, 2])
    with double_by_default():
        model = case.model()
        found = kronecker_fisher(model, x, 2 * t + y % 2, t=t)
        weights = weights_of("true", outputs_by_loops(model.eval(), x, t), y, SEED)
        expected = factors_by_loops(model, x, weights, "expand", t)
    heads = {name: f for name, f in found.layers.items() if "classifiers" in name}
    assert [round(8 * head.mass) for head in heads.values()] == [3, 0, 5]
    for name, head in heads.items():
        if head.mass:
            a, g = expected[name]
            np.testing.assert_allclose(head.inputs, a, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(head.outputs, g, rtol=1e-9, atol=1e-12)
        else:
            assert not head.inputs.any()
            assert not head.outputs.any()


def test_in_single_precision_it_is_as_near_as_it_can_be():
    case = CASES["convolutions"]
    x, y = case.samples()
    exact = kronecker_fisher(case.model(), x, y)
    single = kronecker_fisher(case.model(torch.float32), x.float(), y)
    for name, factors in exact.layers.items():
        assert single.layers[name].outputs.dtype == torch.float32
        torch.testing.assert_close(
            single.layers[name].outputs.double(), factors.outputs, rtol=2e-3, atol=1e-7
        )


def test_wrong_arguments_are_refused():
    model, (x, y) = RULED["an mlp"].model(), RULED["an mlp"].samples()
    with pytest.raises(ValueError, match="sharing='mean': must be"):
        kronecker_fisher(model, x, y, sharing="mean")
    with pytest.raises(ValueError, match="y has the shape"):
        kronecker_fisher(model, x, y[:3])
    with pytest.raises(ValueError, match="x has no samples"):
        kronecker_fisher(model, x[:0], None)
    with pytest.raises(ValueError, match="needs labels"):
        kronecker_fisher(model, x, None, "empirical")
