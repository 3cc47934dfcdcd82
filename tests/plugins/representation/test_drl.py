"""The discriminative representation loss in a strategy, and the hooks it gathers by."""

import pytest
import torch
from torch import nn

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.functional import discriminative_representation_loss
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import DRLPlugin, OnlineReplayPlugin
from tests.cases import Spy, digits, make_naive, train, weights


def test_adds_lam_times_the_loss_over_hidden_layers_and_logits():
    plugin = DRLPlugin(alpha=0.5, lam=0.3)

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            model, x, y = strategy.model, strategy.mb_x, strategy.mb_y
            first = torch.relu(model.hidden[0](x.flatten(1)))
            second = torch.relu(model.hidden[2](first))
            h = torch.cat([first, second, model.classifier(second)], 1)
            expected = nn.functional.cross_entropy(strategy.mb_output, y)
            expected = expected + 0.3 * discriminative_representation_loss(h, y, 0.5)
            torch.testing.assert_close(strategy.loss, expected.reshape(1))
            self.checked += 1

    check = Check()
    train(make_naive(plugin, check, batch_size=10), digits())
    assert check.checked > 100


def test_an_unknown_layer_is_named_before_training():
    strategy = make_naive(DRLPlugin(layers=["hidden.7"]))
    with pytest.raises(ValueError, match=r"no module 'hidden.7'.*hidden\.0"):
        train(strategy, digits())


def test_multi_head_models_with_batches_of_several_tasks():
    plugin = DRLPlugin(alpha=0.5, lam=0.3)

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            decorated, x, y = strategy.model, strategy.mb_x, strategy.mb_y
            hidden = torch.relu(decorated.model.hidden[0](x.flatten(1)))
            logits = strategy.mb_output
            expected = nn.functional.cross_entropy(logits, y)
            classes = 100 * strategy.mb_task_id + y  # Heads count their classes from 0.
            h = torch.cat([hidden, logits], 1)
            expected = expected + 0.3 * discriminative_representation_loss(h, classes, 0.5)
            torch.testing.assert_close(strategy.loss, expected.reshape(1))
            self.checked += len(strategy.mb_task_id.unique()) > 1

    check = Check()
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    strategy = make_naive(OnlineReplayPlugin(mem_size=40), plugin, check, model=model)
    train(strategy, split_digits(scenario="task"))
    assert check.checked > 50


def test_a_failed_forward_pass_leaves_no_hooks_behind():
    plugin = DRLPlugin()
    strategy = make_naive(plugin)

    class Failing(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of memory")

    classifier, strategy.model.classifier = strategy.model.classifier, Failing()
    with pytest.raises(RuntimeError, match="out of memory"):
        train(strategy, digits())
    strategy.model.classifier = classifier
    train(strategy, digits())
    assert not any(m._forward_pre_hooks for m in strategy.model.modules())


def test_hooks_live_only_during_the_forward_pass():
    class Check(Spy):
        def before_backward(self, strategy, **kwargs):
            for module in strategy.model.modules():
                assert not module._forward_hooks
                assert not module._forward_pre_hooks
            self.checked += 1

    check = Check()
    train(make_naive(DRLPlugin(), check), digits())
    assert check.checked > 50


def test_evaluation_gathers_nothing():
    class Never(DRLPlugin):
        def representation_loss(self, representations, labels):
            raise AssertionError("not in evaluation")

    make_naive(Never()).eval(digits().test_stream)


def test_a_batch_of_one_class_or_one_sample_trains():
    for batch_size in (1, 3):
        strategy = make_naive(DRLPlugin(lam=0.1), batch_size=batch_size)
        train(strategy, digits(train_size=7))
        assert torch.isfinite(weights(strategy)).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"alpha": -1.0},
        {"lam": -1e-3},
        {"normalisation": "mean"},
        {"layers": "hidden.0"},
        {"layers": []},
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DRLPlugin(**arguments)
