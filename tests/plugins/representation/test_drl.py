"""The discriminative representation loss in a strategy, and the hooks it gathers by."""

import pytest
import torch
from avalanche.training import ER_ACE, Naive
from torch import nn

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.functional import discriminative_representation_loss
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import DRLPlugin, OnlineReplayPlugin, RhoSpectrumPlugin
from tests.cases import Spy, digits, make_naive, quiet, train, weights


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


@pytest.mark.parametrize("batch_size_mem", [10, 24])
def test_of_a_strategy_that_also_runs_the_model_on_replayed_rows_only_the_streams_rows_count(
    batch_size_mem,
):
    """ER_ACE runs it on both, one after the other, before `after_forward`."""

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            model, y = strategy.model, strategy.mb_y
            hidden = torch.relu(model.hidden[0](strategy.mb_x.flatten(1)))
            h = torch.cat([hidden, model.classifier(hidden)], 1)
            if strategy.replay_loader is None:
                expected = strategy.criterion()
            else:
                replayed = strategy.mb_buffer_out, strategy.mb_buffer_y
                expected = strategy.ace_criterion(strategy.mb_output, y, *replayed)
                self.checked += 1
            expected = expected + 0.3 * discriminative_representation_loss(h, y, 0.5)
            torch.testing.assert_close(strategy.loss, expected.reshape(1))

    check = Check()
    plugins = [DRLPlugin(alpha=0.5, lam=0.3), check]
    sizes = {"train_mb_size": 10, "batch_size_mem": batch_size_mem, "mem_size": 50}
    strategy = quiet(ER_ACE, plugins=plugins, **sizes)
    train(strategy, digits(n_experiences=5, train_size=60))
    assert check.checked > 20


def test_passes_that_cannot_be_distinguished_are_refused():
    class InHalves(Naive):
        def forward(self):
            return torch.cat([self.model(half) for half in self.mb_x.chunk(2)])

    strategy = quiet(InHalves, plugins=[DRLPlugin()])
    with pytest.raises(ValueError, match=r"ran 2 times.*cannot be told.*strategy\.mb_output"):
        train(strategy, digits())


def test_the_output_may_be_changed_after_the_only_pass():
    class Normalised(Naive):
        def forward(self):
            return nn.functional.normalize(super().forward())

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            y, logits = strategy.mb_y, strategy.mb_output
            hidden = torch.relu(strategy.model.hidden[0](strategy.mb_x.flatten(1)))
            h = torch.cat([hidden, logits], 1)
            term = strategy.loss - strategy.criterion()
            expected = discriminative_representation_loss(h, y, 0.5)
            torch.testing.assert_close(term, expected.reshape(1))
            self.checked += 1

    check = Check()
    train(quiet(Normalised, plugins=[DRLPlugin(0.5, lam=1.0), check]), digits(train_size=20))
    assert check.checked == 10


@pytest.mark.parametrize("method", [DRLPlugin, RhoSpectrumPlugin])
def test_a_named_layer_that_does_not_run_is_an_error(method):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    model[1].unused = nn.Linear(8, 8)
    benchmark, plugins = digits(), [method(layers=["1.unused"])]
    strategy = quiet(model=model, plugins=plugins, eval_every=0)
    with pytest.raises(ValueError, match=r"nothing was gathered from '1\.unused'"):
        strategy.train(benchmark.train_stream[0], eval_streams=[benchmark.test_stream])


def test_an_unknown_layer_is_named_before_training():
    strategy = make_naive(DRLPlugin(layers=["hidden.7"]))
    with pytest.raises(ValueError, match=r"no module 'hidden.7'.*hidden\.0"):
        train(strategy, digits())


@pytest.mark.parametrize("layers", [None, ["model.hidden.1", "logits"]])
def test_multi_head_models_with_batches_of_several_tasks(layers):
    """Their logits count only if they are named: heads use the same units for other classes."""
    plugin = DRLPlugin(alpha=0.5, lam=0.3, layers=layers)

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            decorated, x, y = strategy.model, strategy.mb_x, strategy.mb_y
            hidden = torch.relu(decorated.model.hidden[0](x.flatten(1)))
            logits = strategy.mb_output
            expected = nn.functional.cross_entropy(logits, y)
            classes = 100 * strategy.mb_task_id + y  # Heads count their classes from 0.
            h = torch.cat([hidden, logits], 1) if layers else hidden
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
