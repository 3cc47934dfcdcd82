"""What is held of layers whose per-sample gradients must be formed, and what is computed twice."""

import pickle

import pytest
import torch
from torch import nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.per_sample import formed
from avalanche_ext.functional.per_sample.layers import Convolution
from avalanche_ext.functional.per_sample.sums import layerwise_gradients


def of_outputs(outputs, place):
    return outputs.detach()[None]


@pytest.fixture
def images():
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def layers_of(*layers, x):
    torch.manual_seed(0)
    model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(2))
    model(x)
    return layerwise_gradients(model, FlatLayout(model.named_parameters()), x, of_outputs)


def test_gradients_are_held_where_they_are_smaller_than_what_a_layer_saw(images):
    convolution, norm, _ = layers_of(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), x=images)
    assert len(pickle.dumps(convolution)) < 0.5 * images.nbytes
    assert len(pickle.dumps(norm)) < 0.5 * images.nbytes


def test_columns_are_computed_once_for_all_blocks_of_units(images, monkeypatch):
    few = images[:, :, :4, :4]
    convolution, _ = layers_of(nn.Conv2d(3, 8, 3), x=few)
    calls = []
    columns = Convolution.columns
    monkeypatch.setattr(Convolution, "columns", lambda *given: calls.append(1) or columns(*given))
    whole = convolution.kernel()
    n_whole = len(calls)
    monkeypatch.setattr(formed, "_BLOCK", 6 * 28)  # One unit of all samples.
    torch.testing.assert_close(convolution.kernel(), whole)
    assert (n_whole, len(calls)) == (1, 2)
