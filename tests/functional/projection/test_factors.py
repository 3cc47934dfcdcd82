"""Gradients as products of factors against whole gradients."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.projection.factors import FactoredGradients
from avalanche_ext.functional.projection.projection import project
from tests.functional.model.gradient_cases import (
    LINEAR_MODELS,
    Heads,
    PerPosition,
    made,
    mlp,
    samples,
)
from tests.functional.projection.factor_cases import Both, factored

PARTITIONS = ["none", "layer", "tensor", ["*.weight"]]
CHUNKS = {
    "one constraint": [[9]],
    "several in one chunk": [[1, 7, 3]],
    "one in each chunk": [[2], [5], [4]],
    "several in several chunks": [[1, 7], [4], [3, 3, 2]],
}

each_model = pytest.mark.parametrize("make", LINEAR_MODELS.values(), ids=LINEAR_MODELS)


@each_model
@pytest.mark.parametrize("partition", PARTITIONS, ids=str)
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_products_and_columns_are_those_of_whole_gradients(make, partition, chunks):
    both = factored(made(make), partition, chunks)
    both.check_products()
    both.check_references()
    assert both.batch_makes_up(both.gradient)
    assert both.factors.are_separable


@pytest.mark.parametrize("partition", ["none", "layer", ["heads.1.*"]])
@pytest.mark.parametrize("chunks", [[[4], [3], [5]], [[6], [2]]])
def test_heads_that_some_constraints_do_not_use(partition, chunks):
    both = factored(made(Heads), partition, chunks, signs=[1, -1, 1, -1])
    both.check_products()
    both.check_references()
    assert both.batch_makes_up(both.gradient)
    unused = [i for i, name in enumerate(both.layout.names) if name.startswith("heads.2")]
    pieces = both.references.split(both.layout.numels, dim=1)
    assert not any(pieces[i].any() for i in unused)
    assert any(not piece[0].any() and piece[1].any() for piece in pieces)


def test_a_layer_with_several_rows_for_each_sample():
    alone = factored(made(PerPosition), "layer", [[4], [5]])
    alone.check_products()
    alone.check_references()
    assert alone.batch_makes_up(alone.gradient)
    assert alone.factors.are_separable
    together = factored(made(PerPosition), "layer", [[4, 5]])
    assert together.batch_makes_up(together.gradient)
    assert not together.factors.are_separable, "which row is whose is not known"


@pytest.mark.parametrize("solver", ["exact", "diagonal"])
@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize("partition", PARTITIONS, ids=str)
def test_it_projects_as_whole_gradients_are_projected(partition, strength, solver):
    seen = set()
    for seed in range(16):
        both = factored(made(mlp), partition, [[3, 2], [4]], seed=seed)
        actual = both.factors.project(both.gradient, strength, solver)
        expected = project(
            both.gradient, both.references, strength, solver, blocks=both.layout.blocks
        )
        assert torch.equal(actual.violated, expected.violated)
        assert torch.equal(actual.active, expected.active)
        torch.testing.assert_close(actual.gradient, expected.gradient, atol=1e-11, rtol=1e-9)
        assert (actual.gradient is both.gradient) == (not expected.violated.any())
        seen.update(expected.violated.any(dim=1).tolist())
    assert seen == {True, False}


def test_only_what_is_violated_is_formed(monkeypatch):
    formed = []
    references = FactoredGradients.references
    monkeypatch.setattr(
        FactoredGradients,
        "references",
        lambda self, blocks: formed.append([*blocks]) or references(self, blocks),
    )
    n_untouched = 0
    for seed in range(12):
        formed.clear()
        both = factored(made(mlp), "tensor", [[3, 2]], seed=seed)
        projection = both.factors.project(both.gradient, 0.5, "exact")
        touched = projection.violated.any(dim=1).nonzero().flatten().tolist()
        assert formed == ([touched] if touched else [])
        n_untouched += 6 - len(touched)
    assert n_untouched > 0


def test_a_gradient_that_violates_nothing_costs_no_product(monkeypatch):
    both = factored(made(mlp), "layer", [[6, 2]])
    batch = both.factors.batch
    itself = FactoredGradients(both.layout, batch, [batch], [[6]])
    monkeypatch.setattr(FactoredGradients, "references", None)
    projection = itself.project(both.gradient, 0.5, "exact")
    assert projection.gradient is both.gradient
    assert not projection.violated.any()
    assert not projection.active.any()


def test_factors_that_are_not_numbers_are_named():
    both = factored(made(mlp), "none", [[3]])
    both.factors.batch[0].output_gradients[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="training has diverged"):
        both.factors.project(both.gradient * float("nan"), 0.0, "exact")


class TestWhetherFactorsMakeUpTheGradient:
    @pytest.mark.parametrize("name", ["0.weight", "2.bias"])
    def test_not_with_a_direct_penalty(self, name):
        both = factored(made(mlp), "none", [[4]])
        assert both.batch_makes_up(both.gradient)
        penalised = both.gradient.clone()
        layout = both.layout
        index = layout.names.index(name)
        pieces = [*penalised.split(layout.numels)]
        pieces[index] += 0.01 * layout.parameters[index].detach().flatten()
        assert not both.batch_makes_up(penalised)

    def test_not_where_a_weight_is_used_outside_its_layer(self):
        class Outside(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 5)

            def forward(self, x):
                return self.last(nn.functional.linear(self.first(x), self.first.weight))

        both = factored(made(Outside), "none", [[4]])
        assert not both.batch_makes_up(both.gradient)

    def test_where_the_loss_does_not_reach_a_layer(self):
        both = factored(made(Heads), "none", [[4]], signs=[1, 1])
        assert both.batch_makes_up(both.gradient)

    @pytest.mark.parametrize("scale", [1e-12, 1e-4, 1.0, 1e8])
    def test_in_single_precision_at_any_scale(self, scale):
        model = made(mlp, torch.float32)
        x, y = samples(50)
        both = Both(model, "none")
        both.batch(lambda: scale * cross_entropy(model(x.float()), y))
        both.chunk([4], x[:4].float(), y[:4])
        assert both.batch_makes_up(both.gradient)
        assert not both.batch_makes_up(1.001 * both.gradient)

    def test_a_gradient_of_zero(self):
        model = made(mlp)
        x, y = samples(5)
        both = Both(model, "none")
        both.batch(lambda: 0.0 * cross_entropy(model(x), y))
        both.chunk([5], x, y)
        assert both.batch_makes_up(both.gradient)
        assert both.factors.project(both.gradient, 0.5, "exact").gradient is both.gradient


def test_a_penalty_on_representations_is_part_of_the_factors():
    model = made(mlp)
    x, y = samples(6)
    both = Both(model, "layer")
    both.batch(lambda: cross_entropy(model(x), y) + 0.1 * (model[:2](x) ** 2).sum())
    both.chunk([2, 3], *samples(5, seed=1))
    assert both.batch_makes_up(both.gradient)
    both.check_products()


def test_factors_outlive_the_step_that_changes_the_weights():
    both = factored(made(mlp), "none", [[3, 2]])
    products = both.factors.products()
    references = both.factors.references([0])
    with torch.no_grad():
        for p in both.layout.parameters:
            p += 1.0
    assert torch.equal(both.factors.products(), products)
    assert torch.equal(both.factors.references([0]), references)
