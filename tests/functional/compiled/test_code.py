"""Compiled code is called without torch where its inputs and results are clear."""

import pytest
import torch

from avalanche_ext.functional.compiled.code import BatchInputs, Call, DirectCode

WEIGHT = torch.tensor([2.0, 3.0])


def code(weight, x, n_rows, y):
    return [(x * weight).sum(), weight * n_rows, y.sum()]


def inputs(n):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(n))
    return BatchInputs(x, torch.arange(n), torch.ones(1), [])


def call(batch):
    given = [WEIGHT, batch.x, len(batch.y), batch.y]
    return Call(code, given, code(*given))


def test_it_takes_other_mini_batches_and_returns_results_in_the_order_of_the_function():
    batch = inputs(5)
    seen = call(batch)
    direct = DirectCode.of(seen, batch, [seen.outputs[2], seen.outputs[0], seen.outputs[1]])
    other = inputs(3)
    assert direct.fits(other)
    expected = code(WEIGHT, other.x, 3, other.y)
    torch.testing.assert_close(direct(other), [expected[2], expected[0], expected[1]])


@pytest.mark.parametrize(
    "changed",
    [
        {"x": inputs(3).x.T.contiguous().T},
        {"x": inputs(3).x.double()},
        {"x": inputs(3).x[:, :1]},
        {"y": torch.arange(3, dtype=torch.int32)},
        {"y": torch.arange(6)[::2]},
    ],
    ids=["order", "type", "shape", "type of labels", "stride of labels"],
)
def test_it_does_not_fit_samples_and_labels_of_another_layout(changed):
    batch = inputs(5)
    seen = call(batch)
    direct = DirectCode.of(seen, batch, seen.outputs)
    assert direct.fits(inputs(3))
    assert not direct.fits(inputs(3)._replace(**changed))


def test_there_is_none_where_inputs_or_results_cannot_be_distinguished():
    batch = inputs(5)
    seen = call(batch)
    assert DirectCode.of(seen, batch, seen.outputs)
    assert not DirectCode.of(seen, batch, [seen.outputs[0].clone()])
    assert not DirectCode.of(seen, batch._replace(x=batch.x.clone()), seen.outputs)
    of_other_size = seen._replace(inputs=[WEIGHT, batch.x, 4, batch.y])
    assert not DirectCode.of(of_other_size, batch, seen.outputs)
    one = inputs(1)  # A size of one could be any constant.
    assert not DirectCode.of(call(one), one, call(one).outputs)
