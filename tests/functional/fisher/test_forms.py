"""Approximations of a Fisher against the dense matrix, in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avalanche_ext.functional.fisher.forms import (
    eigenvalue_errors,
    fisher_forms,
    fisher_quadratics,
    kept_of_trace,
)
from avalanche_ext.functional.fisher.spectrum import fisher_spectrum
from tests.oracles.kronecker import dense_by_loops, factors_by_loops
from tests.oracles.spectrum import fisher_by_loops

RANK = 4


@pytest.fixture(scope="module")
def case():
    """A model in double precision, its samples, and its true Fisher, (P, P)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        x = torch.randn(12, 4, dtype=torch.float64)
    fisher = torch.as_tensor(fisher_by_loops(model, x, model(x).detach().softmax(1)))
    return model, x, fisher


def deltas(fisher, n=6):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, len(fisher), generator=generator, dtype=torch.float64)


def test_quadratics_are_those_of_the_whole_fisher(case):
    model, x, fisher = case
    d = deltas(fisher)
    expected = torch.einsum("bp,pq,bq->b", d, fisher, d)
    torch.testing.assert_close(fisher_quadratics(model, x, None, d), expected)


def test_forms_are_parts_of_it(case):
    model, x, fisher = case
    spectrum = fisher_spectrum(model, x, None, RANK)
    forms = fisher_forms(model, x, None, spectrum)
    values, vectors = torch.linalg.eigh(fisher)
    top = (vectors[:, -RANK:] * values[-RANK:]) @ vectors[:, -RANK:].T
    rest = torch.diag((fisher - top).diagonal().clamp(min=0))
    factors = factors_by_loops(model, x, model(x).detach().softmax(1), "expand")
    dense = {
        "diagonal": torch.diag(fisher.diagonal()),
        "spectrum": top,
        "spectrum with diagonal": top + rest,
        "Kronecker": torch.as_tensor(dense_by_loops(model, factors, {})),
    }
    assert [*forms] == [*dense]
    kept, errors = kept_of_trace(forms, spectrum.trace), eigenvalue_errors(forms, spectrum)
    largest = values.flip(0)[:RANK]
    for name, form in forms.items():
        for d in deltas(fisher):
            torch.testing.assert_close(form.product(d), dense[name] @ d)
        assert kept[name] == pytest.approx(float(dense[name].trace() / fisher.trace()))
        found = torch.linalg.eigvalsh(dense[name]).flip(0)[:RANK]
        error = float((found - largest).abs().sum() / largest.sum())
        assert errors[name] == pytest.approx(error, abs=1e-9)
