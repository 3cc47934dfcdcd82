"""What is wrong in avalanche-lib 0.6.0, and that it is right after a repair.

Each test shows the fault in Avalanche's own class first, so that it fails when Avalanche repairs it
and the repair can go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.models.generator import MlpVAE, VAE_loss
from avalanche.training import LFL, MIR, BiC, GSS_greedy, Naive, SynapticIntelligence
from avalanche.training.losses import MaskedCrossEntropy
from avalanche.training.plugins import GenerativeReplayPlugin, RWalkPlugin
from avalanche.training.supervised import GenerativeReplay, JointTraining, VAETraining
from avalanche.training.supervised.feature_replay import FeatureReplay
from avalanche.training.supervised.strategy_wrappers import PackNet
from torch import Tensor, nn

from avalanche_ext.models.catalogue import mlp
from avalanche_ext.models.features import FeaturesAndClassifier
from avalanche_ext.models.packnet import packnet_model
from avalanche_ext.strategies.repairs import repair
from tests.cases import Spy, digits, quiet, small_model, train, weights

REPAIRED = pytest.mark.parametrize("is_repaired", [False, True], ids=["Avalanche's", "repaired"])


def made(is_repaired: bool, strategy: Callable[..., Any] = Naive, **given: Any) -> Any:
    made = quiet(strategy, **{"model": small_model(), **given})
    if is_repaired:
        repair(made)
    return made


class Seen(SupervisedPlugin):
    """Notes, in each iteration, how many rows and what mode the model has, and the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []
        self.losses: list[float] = []

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.modes.append(strategy.model.training)

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.modes.append(strategy.model.training)
        self.losses.append(float(strategy.loss))


@REPAIRED
def test_bic_runs_and_leaves_the_experience_alone(is_repaired: bool) -> None:
    strategy = made(is_repaired, BiC, mem_size=40, stage_2_epochs=2)
    benchmark = digits(train_size=40, test_size=20)
    if not is_repaired:
        with pytest.raises(AttributeError, match="dataset"):
            train(strategy, benchmark)
        return
    train(strategy, benchmark)
    assert [len(experience.dataset) for experience in benchmark.train_stream] == [40] * 5
    bic = next(p for p in strategy.plugins if hasattr(p, "bias_layer"))
    assert float(bic.bias_layer.alpha) != 1.0


@REPAIRED
def test_rwalk_leaves_the_model_in_training_mode(is_repaired: bool) -> None:
    seen = Seen()
    train(made(is_repaired, plugins=[RWalkPlugin(), seen]), digits(train_size=20))
    assert set(seen.modes) == {is_repaired}


@REPAIRED
def test_rwalk_after_experiences_shorter_than_its_interval(is_repaired: bool) -> None:
    seen = Seen()
    strategy = made(is_repaired, plugins=[RWalkPlugin(ewc_lambda=0.1, delta_t=10), seen])
    benchmark = digits(train_size=20)
    online = split_online_stream(benchmark.train_stream, experience_size=10)
    for experience in list(online)[:4]:
        strategy.train(experience, eval_streams=[])
    assert torch.tensor(seen.losses).isfinite().all() == is_repaired


@REPAIRED
def test_lfl_leaves_the_model_in_training_mode(is_repaired: bool) -> None:
    seen = Seen()
    model = FeaturesAndClassifier(small_model())
    train(made(is_repaired, LFL, model=model, lambda_e=1.0, plugins=[seen]), digits(train_size=20))
    assert all(seen.modes) == is_repaired


@REPAIRED
def test_mir_replays_in_the_second_experience(is_repaired: bool) -> None:
    strategy = made(is_repaired, MIR, mem_size=20, batch_size_mem=5, subsample=10)
    plain = made(False)
    for experience in digits(train_size=40).train_stream[:2]:
        torch.manual_seed(0)
        strategy.train(experience, eval_streams=[], shuffle=False)
        torch.manual_seed(0)
        plain.train(experience, eval_streams=[], shuffle=False)
    assert torch.equal(weights(strategy), weights(plain)) != is_repaired


@REPAIRED
def test_the_generator_learns_and_task_labels_stay_integers(is_repaired: bool) -> None:
    benchmark, spy = digits(train_size=20), Spy()
    strategy = made(is_repaired, GenerativeReplay, plugins=[spy], generator_strategy=vae())
    start = weights(strategy.generator_strategy).clone()
    for experience in benchmark.train_stream[:2]:
        strategy.train(experience, eval_streams=[])
    assert not torch.equal(weights(strategy.generator_strategy), start)
    dtypes = {t.dtype for _, _, t in spy.mbatches}
    assert (torch.float32 in dtypes) != is_repaired


def vae() -> Any:
    model = MlpVAE((1, 8, 8), nhid=2)
    return quiet(VAETraining, model, criterion=VAE_loss, plugins=[GenerativeReplayPlugin()])


def test_the_default_generator_takes_images_of_28_pixels_only() -> None:
    strategy = made(False, GenerativeReplay)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(strategy, digits(train_size=20))


@REPAIRED
def test_feature_replay_measures_an_untrained_model(is_repaired: bool) -> None:
    model = FeaturesAndClassifier(small_model())
    strategy = made(is_repaired, FeatureReplay, model=model, criterion=MaskedCrossEntropy())
    stream = digits(test_size=10).test_stream
    if is_repaired:
        strategy.eval(stream)
    else:
        with pytest.raises((IndexError, RuntimeError)):
            strategy.eval(stream)


@REPAIRED
def test_packnet_keeps_the_users_plugins(is_repaired: bool) -> None:
    seen = Seen()
    model = packnet_model(small_model(), n_classes=10)
    strategy = made(
        is_repaired, PackNet, model=model, plugins=[seen], post_prune_epochs=1,
        prune_proportion=0.5, train_epochs=2,
    )  # fmt: skip
    strategy.train(digits(scenario="task", train_size=20).train_stream[0], eval_streams=[])
    assert bool(seen.losses) == is_repaired


@REPAIRED
def test_joint_training_evaluates_an_untrained_multi_head_model(is_repaired: bool) -> None:
    model = mlp([8], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    strategy = made(is_repaired, JointTraining, model=model)
    benchmark = digits(scenario="task", train_size=20, test_size=10)
    if is_repaired:
        strategy.eval(benchmark.test_stream)
        strategy.train(benchmark.train_stream, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    else:
        with pytest.raises(KeyError):
            strategy.eval(benchmark.test_stream)


def test_synaptic_intelligence_is_naive_on_a_cpu() -> None:
    """Not repaired: ours is `SynapticIntelligencePlugin`."""
    benchmark = digits(train_size=40)

    def trained(strategy: Callable[..., Any], **given: Any) -> Tensor:
        torch.manual_seed(0)
        one = made(False, strategy, **given)
        train(one, benchmark)
        return weights(one)

    si = trained(SynapticIntelligence, si_lambda=1e3, plugins=[])
    assert torch.equal(si, trained(Naive))


def test_gss_greedy_fails_where_its_memory_is_smaller_than_a_mini_batch() -> None:
    """Not repaired: ours is `GSSPlugin`."""
    strategy = made(False, GSS_greedy, mem_size=5, input_size=[1, 8, 8])
    with pytest.raises(ValueError, match="empty"):
        train(strategy, digits(train_size=40))


def test_other_plugins_and_strategies_stay_as_they_are() -> None:
    class Mine(RWalkPlugin):
        pass

    mine = Mine()
    strategy = made(True, plugins=[mine])
    assert type(mine) is Mine
    assert type(strategy) is Naive
    assert isinstance(strategy.model, nn.Module)
