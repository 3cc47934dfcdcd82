"""A method, a model and data of your own; your_own_method.md explains them."""

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.core import SupervisedPlugin
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.utils.data import TensorDataset


class StayClose(SupervisedPlugin):
    """Adds lam / 2 times the squared distance to the weights after the last experience."""

    def __init__(self, lam: float):
        super().__init__()
        self.lam, self.old = lam, None

    def before_backward(self, strategy, **kwargs):
        if self.old is not None:
            weights = parameters_to_vector(strategy.model.parameters())
            strategy.loss += self.lam / 2 * (weights - self.old).square().sum()

    def after_training_exp(self, strategy, **kwargs):
        self.old = parameters_to_vector(strategy.model.parameters()).detach()


class OneLayer(nn.Module):
    """A network with one hidden layer."""

    def __init__(self, input_shape: tuple[int, ...], n_classes: int, width: int = 64):
        super().__init__()
        size = torch.Size(input_shape).numel()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU())
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x):
        return self.classifier(self.layers(x))


def turned_digits(noise: float = 0.0, seed: int = 0):
    """Scikit-learn's digits upright, then turned by 90, 180 and 270 degrees."""
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    x += noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    y = torch.tensor(digits.target)

    def turned(rows, times):
        data = TensorDataset(torch.rot90(x[rows], times, dims=(2, 3)), y[rows])
        data.targets = y[rows]
        return as_classification_dataset(data)

    return benchmark_from_datasets(
        train=[turned(slice(0, 1400), times) for times in range(4)],
        test=[turned(slice(1400, None), times) for times in range(4)],
    )
