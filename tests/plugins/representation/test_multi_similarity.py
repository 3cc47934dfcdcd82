"""Multi-similarity in a strategy."""

import pytest
import torch
from torch import nn

from avalanche_ext.functional import multi_similarity_loss
from avalanche_ext.plugins import (
    MetricLossPlugin,
    MultiSimilarityPlugin,
)
from tests.cases import Spy, digits, make_naive, train, weights


@pytest.mark.parametrize("form", ["rows", "matrix", "pairs"])
def test_adds_lam_times_the_sum_over_hidden_layers_and_logits(form):
    plugin = MultiSimilarityPlugin(0.3, alpha=1.5, beta=20.0, base=0.4, form=form)

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            model, x, y = strategy.model, strategy.mb_x, strategy.mb_y
            first = torch.relu(model.hidden[0](x.flatten(1)))
            second = torch.relu(model.hidden[2](first))
            expected = nn.functional.cross_entropy(strategy.mb_output, y)
            for h in (first, second, model.classifier(second)):
                expected = expected + 0.3 * multi_similarity_loss(h, y, 1.5, 20.0, 0.4, form)
            torch.testing.assert_close(strategy.loss, expected.reshape(1))
            self.checked += 1

    check = Check()
    train(make_naive(plugin, check, batch_size=10), digits())
    assert check.checked > 100


def test_of_pairs_it_trains_as_that_of_pytorch_metric_learning_does():
    layers = ["hidden.1", "logits"]
    args = {"alpha": 2.0, "beta": 40.0, "base": 0.5}
    ours = make_naive(MultiSimilarityPlugin(0.1, form="pairs", layers=layers))
    theirs = make_naive(MetricLossPlugin("MultiSimilarityLoss", 0.1, args=args, layers=layers))
    alone = make_naive()
    for strategy in (ours, theirs, alone):
        torch.manual_seed(0)
        for experience in digits(train_size=100).train_stream:
            strategy.train(experience, eval_streams=[], shuffle=False)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-3, atol=1e-5)
    assert (weights(ours) - weights(alone)).abs().max() > 1e-2


def test_batches_of_one_class_or_one_sample_train():
    for batch_size in (1, 3):
        strategy = make_naive(MultiSimilarityPlugin(0.1), batch_size=batch_size)
        train(strategy, digits(train_size=7))
        assert torch.isfinite(weights(strategy)).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"lam": -1.0},
        {"alpha": 0.0},
        {"beta": -40.0},
        {"base": float("nan")},
        {"form": "row"},
        {"layers": []},
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MultiSimilarityPlugin(**arguments)
