import pytest
import torch
from avalanche.core import SupervisedPlugin

from avalanche_ext.runner.guard import DivergedError, LossGuard
from tests.cases import digits, make_naive, train


class Poison(SupervisedPlugin):
    """Makes the loss of one iteration something else."""

    def __init__(self, iteration: int, value: float) -> None:
        super().__init__()
        self.iteration, self.value = iteration, value

    def before_backward(self, strategy, **kwargs):
        if strategy.clock.train_iterations == self.iteration:
            strategy.loss = strategy.loss * self.value


@pytest.mark.parametrize("iteration", [0, 1, 49, 50, 51, 99, 133])
@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_names_the_iteration(iteration, value, shown):
    strategy = make_naive(Poison(iteration, value), LossGuard())
    with pytest.raises(DivergedError, match=rf"became {shown} at iteration {iteration} "):
        train(strategy, digits())


def test_finite_losses_pass():
    strategy = make_naive(LossGuard())
    train(strategy, digits())
    assert all(torch.isfinite(p).all() for p in strategy.model.parameters())
