"""`loss="sum"` is right where the loss is the criterion over the rows, and refused elsewhere."""

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training import ER_ACE, Naive
from torch.nn.functional import cross_entropy

from avalanche_ext.plugins import GMEDPlugin, HALPlugin, MIRPlugin, OnlineReplayPlugin
from tests.cases import digits, quiet, train, weights

SUMS = [
    lambda: OnlineReplayPlugin(40, 5, loss="sum"),
    lambda: MIRPlugin(40, 5, n_candidates=10),
    lambda: GMEDPlugin(40, 5),
    lambda: HALPlugin(40, 5, loss="sum"),
]


class OwnLoop(Naive):
    """The usual loop, written out, with another loss in later experiences."""

    differs = True

    def own_loss(self):
        if self.differs and self.clock.train_exp_counter:
            return cross_entropy(self.mb_output, self.mb_y, label_smoothing=0.5)
        return self.criterion()

    def training_epoch(self, **kwargs):
        for mbatch in self.dataloader:
            self.mbatch = mbatch
            self._unpack_minibatch()
            self._before_training_iteration(**kwargs)
            self.optimizer.zero_grad()
            self.loss = self._make_empty_loss()
            self._before_forward(**kwargs)
            self.mb_output = self.forward()
            self._after_forward(**kwargs)
            self.loss += self.own_loss()
            self._before_backward(**kwargs)
            self.backward()
            self._after_backward(**kwargs)
            self._before_update(**kwargs)
            self.optimizer_step()
            self._after_update(**kwargs)
            self._after_training_iteration(**kwargs)


class SameLoop(OwnLoop):
    differs = False


class OwnCriterion(Naive):
    def criterion(self):
        return 2 * super().criterion()


class OwnRows(SameLoop):
    """Prepends rows of its own to the mini-batch, as DER does."""

    def _before_forward(self, **kwargs):
        self.mbatch = [torch.cat([column[:3], column]) for column in self.mbatch]
        super()._before_forward(**kwargs)


class Adding(SupervisedPlugin):
    def before_backward(self, strategy, **kwargs):
        strategy.loss += 1.0


BENCHMARK = digits(train_size=30)


@pytest.mark.parametrize("make", SUMS)
@pytest.mark.parametrize("kind", [OwnLoop, OwnCriterion])
def test_another_loss_is_refused(make, kind):
    plugin = make()
    message = f"{type(plugin).__name__} has loss='sum', but the loss of {kind.__name__} is "
    with pytest.raises(ValueError, match=message):
        train(quiet(kind, plugins=[plugin]), BENCHMARK)


@pytest.mark.parametrize("make", SUMS)
def test_rows_that_others_add_are_refused(make):
    with pytest.raises(ValueError, match="ran on 18 rows, not on the stream's 10 and the 5 drawn"):
        train(quiet(OwnRows, plugins=[make()]), BENCHMARK)


@pytest.mark.parametrize("loss", ["separate", "union"])
def test_the_other_losses_go_with_another_loss(loss):
    train(quiet(OwnLoop, plugins=[OnlineReplayPlugin(40, 5, loss=loss)]), BENCHMARK)


@pytest.mark.parametrize("make", SUMS)
def test_a_custom_loop_with_the_usual_loss_trains_as_the_usual_one(make):
    ends = []
    for kind in (Naive, SameLoop):
        torch.manual_seed(0)
        strategy = quiet(kind, plugins=[make()])
        train(strategy, BENCHMARK)
        ends.append(weights(strategy))
    assert torch.equal(*ends)


def test_ignored_labels_do_not_count_in_either_mean():
    losses = []

    class Ignoring(SupervisedPlugin):
        def after_forward(self, strategy, **kwargs):
            strategy.mbatch[1][:3] = -100

        def before_backward(self, strategy, **kwargs):
            x, y = strategy.mb_output, strategy.mb_y
            halves = cross_entropy(x[:5], y[:5]) + cross_entropy(x[5:], y[5:])
            losses.append((strategy.loss.item(), halves.item()))

    plugins = [OnlineReplayPlugin(40, 5, loss="sum"), Ignoring()]
    train(quiet(plugins=plugins, train_mb_size=5), BENCHMARK)
    actual, expected = zip(*losses[1:], strict=True)
    assert actual == pytest.approx(expected)


def test_what_a_plugin_before_adds_is_no_other_loss():
    train(quiet(SameLoop, plugins=[Adding(), OnlineReplayPlugin(40, 5, loss="sum")]), BENCHMARK)


@pytest.mark.parametrize("make", SUMS)
def test_er_ace_is_refused_before_it_trains(make):
    plugin = make()
    strategy = quiet(ER_ACE, plugins=[plugin])
    before = weights(strategy)
    message = f"{type(plugin).__name__} has loss='sum', but must be 'union' or 'separate' with"
    with pytest.raises(ValueError, match=f"{message} 'ER_ACE', whose loss is not the criterion"):
        train(strategy, BENCHMARK)
    assert torch.equal(weights(strategy), before)


def test_er_ace_with_a_separate_loss_adds_the_criterion_on_the_drawn_rows():
    class Difference(SupervisedPlugin):
        """Compares the loss with ER-ACE's own plus the criterion on the drawn rows."""

        n_compared = 0

        def after_backward(self, strategy, **kwargs):
            if not replay._apart or strategy.replay_loader is None:
                return
            own = strategy.ace_criterion(
                strategy.mb_output, strategy.mb_y, strategy.mb_buffer_out, strategy.mb_buffer_y
            )
            x, y, _ = replay._apart
            drawn = cross_entropy(strategy.model(x), y)
            torch.testing.assert_close(strategy.loss.squeeze(), own + drawn)
            self.n_compared += 1

    replay, difference = OnlineReplayPlugin(40, 5, loss="separate"), Difference()
    train(quiet(ER_ACE, plugins=[replay, difference]), BENCHMARK)
    assert difference.n_compared == 12
