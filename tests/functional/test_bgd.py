"""The step of Bayesian gradient descent, and gradients at weights that are not the model's."""

import pytest
import torch
from torch import nn

from avalanche_ext.functional.bgd import bayesian_step, gradient_at
from avalanche_ext.functional.model.gradients import FlatLayout
from tests.oracles import bayesian_step_by_loops

P = 7


def posterior(seed=0, dtype=torch.float64):
    """Means, standard deviations and a generator for the rest."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(P, dtype=dtype, generator=generator)
    std = torch.rand(P, dtype=dtype, generator=generator) + 0.1
    return mean, std, generator


def make_draws(n, generator, scale=1.0):
    pairs = torch.randn(n, 2, P, dtype=torch.float64, generator=generator)
    return [(scale * gradient, noise) for gradient, noise in pairs]


@pytest.mark.parametrize("n_draws", [1, 2, 10])
@pytest.mark.parametrize("lr", [1.0, 0.3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_the_step_is_that_of_plain_loops(n_draws, lr, scale):
    mean, std, generator = posterior(n_draws)
    draws = make_draws(n_draws, generator, scale)
    actual = bayesian_step(mean, std, iter(draws), lr)
    listed = [(gradient.tolist(), noise.tolist()) for gradient, noise in draws]
    expected = bayesian_step_by_loops(mean.tolist(), std.tolist(), listed, lr)
    for result, number in zip(actual, expected, strict=True):
        torch.testing.assert_close(result, torch.tensor(number, dtype=torch.float64))


def test_the_step_leads_to_the_stationary_point_of_its_problem():
    mean, std, generator = posterior()
    draws = make_draws(4, generator, 3.0)
    new_mean, new_std = bayesian_step(mean, std, draws)
    of_mean = torch.stack([gradient for gradient, _ in draws]).mean(0)
    of_std = torch.stack([gradient * noise for gradient, noise in draws]).mean(0)
    new_mean.requires_grad_()
    new_std.requires_grad_()
    old, new = torch.distributions.Normal(mean, std), torch.distributions.Normal(new_mean, new_std)
    divergence = torch.distributions.kl_divergence(new, old).sum()
    gradients = torch.autograd.grad(divergence, [new_mean, new_std])
    torch.testing.assert_close(gradients[0], -of_mean)
    torch.testing.assert_close(gradients[1], -of_std)


def test_on_a_quadratic_loss_the_variance_goes_down_as_bayes_rule_says():
    """The loss h θ² / 2 adds h to the precision 1 / σ², at many small steps to the limit."""
    h, n_steps = 4.0, 1000
    mean, std = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for _ in range(n_steps):
        # Of ε = ±1 both E[g] and E[gε] are exact.
        draws = [
            (h / n_steps * (mean + std * sign), torch.full_like(mean, sign)) for sign in (1.0, -1.0)
        ]
        mean, std = bayesian_step(mean, std, draws)
    torch.testing.assert_close(std, torch.full_like(std, (1 + h) ** -0.5), rtol=2e-3, atol=0)
    torch.testing.assert_close(mean, torch.full_like(mean, 1 / (1 + h)), rtol=4e-3, atol=0)


def test_a_gradient_of_zero_changes_nothing():
    mean, std, generator = posterior()
    new_mean, new_std = bayesian_step(mean, std, make_draws(3, generator, 0.0))
    assert torch.equal(new_mean, mean)
    assert torch.equal(new_std, std)


def test_a_weight_without_variance_stays_where_it_is():
    mean, std, generator = posterior()
    std[2] = 0
    new_mean, new_std = bayesian_step(mean, std, make_draws(3, generator))
    assert new_mean[2] == mean[2]
    assert new_std[2] == 0
    assert (new_std[std > 0] > 0).all()
    assert (new_mean != mean).sum() == P - 1


def test_large_gradients_neither_lose_digits_nor_overflow_in_single_precision():
    for size in (1e4, 1e30):
        noise = torch.tensor([1.0, -1.0])
        _, std = bayesian_step(torch.zeros(2), torch.ones(2), [(torch.full((2,), size), noise)])
        torch.testing.assert_close(std, torch.tensor([1 / size, size]))


def test_what_is_given_is_left_as_it_was():
    mean, std, generator = posterior()
    draws = make_draws(3, generator)
    before = [t.clone() for t in (mean, std, *sum(draws, ()))]
    bayesian_step(mean, std, draws)
    after = [mean, std, *sum(draws, ())]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


class Normalised(nn.Module):
    """A model with batch normalisation, a frozen parameter and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.unused = nn.Parameter(torch.ones(2))
        self.second.bias.requires_grad_(False)

    def forward(self, x):
        return self.second(torch.relu(self.norm(self.first(x))))


def test_the_gradient_elsewhere_is_that_of_a_copy_with_those_weights():
    model = Normalised().double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 5, dtype=torch.float64, generator=generator)
    y = torch.arange(6) % 3
    layout = FlatLayout(model.named_parameters())
    weights = torch.randn(sum(layout.numels), dtype=torch.float64, generator=generator)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    actual = gradient_at(weights, layout, model, nn.CrossEntropyLoss(), [x], y)

    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in model.parameters())
    other = Normalised().double()
    trained = [p for p in other.parameters() if p.requires_grad]
    nn.utils.vector_to_parameters(weights, trained)
    nn.CrossEntropyLoss(reduction="sum")(other(x), y).backward()
    expected = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    torch.testing.assert_close(actual, torch.cat([g.flatten() for g in expected]))
    assert actual.count_nonzero() > 20
