"""The gradients of single samples, for models with and without rules for their layers."""

import pytest
import torch

from avalanche_ext.functional.per_sample import chunks
from avalanche_ext.functional.per_sample.matrix import gradient_matrix
from tests.functional.per_sample.test_per_sample import (
    assert_equal,
    drawn_rows,
    every_case,
    gradients_one_by_one,
    setting,
)

pytestmark = pytest.mark.filterwarnings("ignore:No exact per-sample rule")


@every_case
def test_rows_are_the_gradients_of_one_sample_after_another(case):
    model, layout, x = setting(case)
    expected = gradients_one_by_one(model, layout, x)
    assert_equal(gradient_matrix(model, layout, x, drawn_rows), expected)


@every_case
def test_little_memory_makes_other_chunks_of_the_same_rows(case, monkeypatch):
    monkeypatch.setattr(chunks, "_CACHE", 1)
    monkeypatch.setattr(chunks, "MEMORY", 1)
    model, layout, x = setting(case)
    expected = gradients_one_by_one(model, layout, x).unflatten(0, (-1, len(x)))
    found = gradient_matrix(model, layout, x, drawn_rows)
    assert_equal(found, expected.transpose(0, 1).flatten(0, 1))


@every_case
def test_the_model_stays_as_it_was(case):
    model, layout, x = setting(case)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    gradient_matrix(model, layout, x, drawn_rows)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
