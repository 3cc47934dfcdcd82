"""By how much a step increases the loss of each sample."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.lookahead.lookahead import interference, step_ahead
from tests.functional.lookahead.lookahead_cases import loss_of, stepped
from tests.functional.lookahead.lookahead_models import case, network
from tests.oracles import interference_by_loops

LR = 0.3
close = partial(torch.testing.assert_close, atol=1e-12, rtol=1e-9)

CRITERIA = {
    "the function": cross_entropy,
    "a module": nn.CrossEntropyLoss(),
    "smoothed labels": nn.CrossEntropyLoss(label_smoothing=0.1),
    "a sum": nn.CrossEntropyLoss(reduction="sum"),
    "a margin": nn.MultiMarginLoss(),
    "no attribute `reduction`": lambda outputs, y: cross_entropy(outputs, y, label_smoothing=0.1),
    "a partial function": partial(cross_entropy, label_smoothing=0.2),
}


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
@pytest.mark.parametrize("name", ["an mlp", "a convolution"])
def test_interference_is_the_increase_of_each_samples_loss(name, criterion):
    model, memory, stream = case(name, 40)
    ahead = stepped(model, stream, LR, criterion)
    (x,), y = memory
    rows = [([x[i : i + 1]], y[i : i + 1]) for i in range(len(y))]
    expected = torch.stack(
        [loss_of(ahead, row, criterion) - loss_of(model, row, criterion) for row in rows]
    )
    outputs = step_ahead(model, criterion, *stream, LR)
    with torch.no_grad():
        actual = interference(outputs, [x], y, criterion)
    close(actual, expected)
    order = sorted(range(len(y)), key=lambda i: -expected[i].item())
    assert actual.topk(10).indices.tolist() == order[:10]
    assert expected.min() < 0 < expected.max()


def test_interference_in_a_batch_norm_model_is_of_the_whole_batch():
    model, memory, stream = case("batch normalisation")
    losses = [
        loss_of(m, memory, partial(cross_entropy, reduction="none"))
        for m in (model, stepped(model, stream, LR))
    ]
    outputs = step_ahead(model, cross_entropy, *stream, LR)
    close(interference(outputs, *memory, nn.CrossEntropyLoss()), losses[1] - losses[0])


def test_a_criterion_keeps_its_reduction():
    model, memory, stream = case("an mlp")
    criterion = nn.CrossEntropyLoss(reduction="sum")
    interference(step_ahead(model, criterion, *stream, LR), *memory, criterion)
    assert criterion.reduction == "sum"
    assert criterion(torch.zeros(3, 5), torch.zeros(3, dtype=torch.long)).dim() == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(2, 5), st.integers(0, 100))
def test_interference_equals_loops(n, n_stream, n_classes, seed):
    model, arrays = network(n_classes, seed)
    rng = np.random.default_rng(seed)
    x, stream_x = rng.normal(size=(n, 3)), rng.normal(size=(n_stream, 3))
    y, stream_y = rng.integers(n_classes, size=n), rng.integers(n_classes, size=n_stream)
    rates = [0.5, 0.2, 0.3, 0.7]
    stream = ([torch.tensor(stream_x)], torch.tensor(stream_y))
    expected = interference_by_loops(arrays, x, y, (stream_x, stream_y), rates)
    lr = dict(zip(model.parameters(), rates, strict=True))
    outputs = step_ahead(model, cross_entropy, *stream, lr)
    actual = interference(outputs, [torch.tensor(x)], torch.tensor(y), cross_entropy)
    close(actual, torch.tensor(expected, dtype=torch.float64))
