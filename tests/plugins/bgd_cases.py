"""Models for BGD, and a loop that its iterations are compared with."""

from copy import deepcopy

import torch
from avalanche.models import IncrementalClassifier, avalanche_forward
from torch import nn

from avalanche_ext.plugins import BGDPlugin
from tests.cases import Spy, make_naive, train, weights
from tests.oracles import bayesian_step_by_loops

SMALL = {"n_experiences": 2, "train_size": 30}


class Growing(nn.Module):
    """A classifier with outputs for the classes seen so far."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
            self.classifier = IncrementalClassifier(16, initial_out_features=1)

    def forward(self, x):
        return self.classifier(self.hidden(x))


def normalising() -> nn.Module:
    """A model with batch normalisation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10)
        )


class Expected(Spy):
    """Recomputes each iteration on copies of the model; list it before the checked plugin."""

    def __init__(self, n_draws, initial_std, lr, seed) -> None:
        super().__init__()
        self.n_draws, self.initial_std, self.lr = n_draws, initial_std, lr
        self.generator = torch.Generator().manual_seed(seed)
        self.std: dict[str, torch.Tensor] = {}
        self.model = None

    def before_training_exp(self, strategy, **kwargs):
        for name, p in strategy.model.named_parameters():
            std = torch.full_like(p, self.initial_std, requires_grad=False)
            if name in self.std:  # the rows of earlier classes are the first ones
                std[: len(self.std[name])] = self.std[name]
            self.std[name] = std

    def before_forward(self, strategy, **kwargs):
        super().before_forward(strategy)
        self.model = deepcopy(strategy.model)

    def after_update(self, strategy, **kwargs):
        x, y, t = strategy.mbatch
        mean = torch.cat([p.detach().flatten() for p in self.model.parameters()])
        std = torch.cat([self.std[name].flatten() for name, _ in self.model.named_parameters()])
        draws = []
        for _ in range(self.n_draws):
            model = deepcopy(self.model)
            noise = torch.randn(len(mean), generator=self.generator)
            nn.utils.vector_to_parameters(mean + std * noise, model.parameters())
            total = 0.0
            for output, label in zip(avalanche_forward(model, x, t), y, strict=True):
                total = total + nn.functional.cross_entropy(output, label)
            total.backward()
            gradient = [
                torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()
            ]
            draws.append((torch.cat([g.flatten() for g in gradient]).tolist(), noise.tolist()))
        new_mean, new_std = bayesian_step_by_loops(mean.tolist(), std.tolist(), draws, self.lr)
        assert_near(weights(strategy), new_mean, mean)
        plugin = next(p for p in strategy.plugins if isinstance(p, BGDPlugin))
        actual = torch.cat([s.flatten() for s in plugin.std.values()])
        assert_near(actual, new_std, std)
        pieces = torch.split(actual, [p.numel() for p in self.model.parameters()])
        for (name, p), piece in zip(self.model.named_parameters(), pieces, strict=True):
            self.std[name] = piece.view_as(p).clone()
        self.checked += 1


def assert_near(actual, expected, before):
    """The change agrees to a thousandth."""
    expected = torch.tensor(expected)
    assert (actual - expected).norm() <= 1e-3 * (expected - before).norm()


def run_beside_a_loop(model, benchmark, *others, **arguments):
    given = {"n_draws": 3, "initial_std": 0.1, "lr": 1.0, "seed": 5, **arguments}
    plugin, expected = BGDPlugin(**given), Expected(**given)
    strategy = make_naive(*others, expected, plugin, model=model)
    train(strategy, benchmark)
    assert expected.checked >= 6
    return strategy, plugin
