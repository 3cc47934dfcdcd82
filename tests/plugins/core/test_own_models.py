"""Plugins with strategies that have special models, and with JointTraining."""

import pytest
import torch
from avalanche.models import SCRModel
from avalanche.training import SCR, ICaRL, PackNet, PNNStrategy
from avalanche.training.supervised import JointTraining
from torch import nn

from avalanche_ext.config.components import component
from avalanche_ext.config.schema import Component
from avalanche_ext.config.semantics import check_method
from avalanche_ext.metrics import NoEvaluation
from avalanche_ext.models.features import Features
from avalanche_ext.models.packnet import packnet_model
from avalanche_ext.models.progressive import progressive_network
from avalanche_ext.plugins import DRLPlugin, RhoSpectrumPlugin
from avalanche_ext.runner.foreign import call
from avalanche_ext.strategies.repairs import repair
from tests.cases import digits, small_model, train, weights
from tests.plugins.every_plugin import PLUGINS

GIVEN = {"train_mb_size": 10, "eval_mb_size": 100}


def sgd(*modules):
    return torch.optim.SGD([p for module in modules for p in module.parameters()], lr=0.1)


def scr(plugins):
    features = Features(small_model())
    model = SCRModel(features, nn.Linear(features.n_features, 8))
    return SCR(
        model=model, optimizer=sgd(model), augmentations=lambda x: x + 0.1, mem_size=20,
        batch_size_mem=5, plugins=plugins, evaluator=NoEvaluation(), **GIVEN,
    )  # fmt: skip


def icarl(plugins):
    features = Features(small_model())
    classifier = nn.Linear(features.n_features, 10)
    return ICaRL(
        feature_extractor=features, classifier=classifier, optimizer=sgd(features, classifier),
        memory_size=20, buffer_transform=None, fixed_memory=True, plugins=plugins,
        evaluator=NoEvaluation(), **GIVEN,
    )  # fmt: skip


def packnet(plugins):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = packnet_model(small_model(), 10)
    strategy = PackNet(
        model=model, optimizer=sgd(model), criterion=nn.CrossEntropyLoss(), post_prune_epochs=1,
        prune_proportion=0.5, train_epochs=2, plugins=plugins, evaluator=NoEvaluation(), **GIVEN,
    )  # fmt: skip
    repair(strategy)  # Avalanche's PackNet never calls the plugins that it is given.
    return strategy


def pnn(plugins):
    model = progressive_network(small_model(), (1, 8, 8))
    return PNNStrategy(
        model=model, optimizer=sgd(model), criterion=nn.CrossEntropyLoss(), plugins=plugins,
        evaluator=NoEvaluation(), **GIVEN,
    )  # fmt: skip


def joint(plugins):
    model = small_model()
    return JointTraining(
        model=model, optimizer=sgd(model), criterion=nn.CrossEntropyLoss(), plugins=plugins,
        evaluator=NoEvaluation(), **GIVEN,
    )  # fmt: skip


SCORES = [
    "online_ewc", "fisher_spectrum_ewc", "kronecker_ewc", "mas", "spectrum_analysis",
    "gradient_diversity", "ogd",
]  # fmt: skip
ROWS = ["drl", "metric_loss", "multi_similarity", "r_margin"]
REFUSED = [
    *((scr, name, "needs gradients of class scores") for name in SCORES),
    *((icarl, name, "needs gradients of class scores") for name in SCORES),
    *((scr, name, "needs one representation of each sample") for name in ROWS),
]


@pytest.mark.parametrize(("make", "name", "reason"), REFUSED)
def test_what_the_model_does_not_give_is_refused_before_training(make, name, reason):
    strategy = make([PLUGINS[name]()])
    before = weights(strategy)
    with pytest.raises(ValueError, match=f"Plugin' cannot be combined with .*{reason}"):
        train(strategy, digits(n_experiences=2, train_size=20))
    assert torch.equal(weights(strategy), before)


@pytest.mark.parametrize(("make", "name", "reason"), REFUSED)
def test_check_refuses_it_too(make, name, reason):
    theirs = {scr: "SCR", icarl: "ICaRL"}[make]
    strategy = Component(f"avalanche:{theirs}", f"avalanche.training.supervised:{theirs}", {})
    args = {"loss": "ContrastiveLoss"} if name == "metric_loss" else {}
    plugin, _ = component("plugin", name, args, path="p", name_path="p")
    (problem,) = check_method(strategy, [plugin], "m", None)
    assert f"'{name}' cannot be combined with 'avalanche:{theirs}'" in problem.message
    assert reason in problem.message


STRATEGIES = {
    scr: "SCR", icarl: "ICaRL", pnn: "PNNStrategy", packnet: "PackNet", joint: "JointTraining",
}  # fmt: skip
OUR_PENALTIES = {
    name: {"lam": 1.0, "update": "gradient"}
    for name in ("online_ewc", "fisher_spectrum_ewc", "mas", "synaptic_intelligence")
}
THEIR_PENALTIES = {
    "avalanche:EWCPlugin": {"ewc_lambda": 1.0},
    "avalanche:FeatureDistillationPlugin": {},
    "avalanche:LFLPlugin": {"lambda_e": 1.0},
    "avalanche:LwFPlugin": {},
    "avalanche:MASPlugin": {},
    "avalanche:RWalkPlugin": {},
    "avalanche:SynapticIntelligencePlugin": {"si_lambda": 1.0},
}
ANEW = {"avalanche:FromScratchTrainingPlugin": {}, "avalanche:GDumbPlugin": {}}
PROJECTIONS = {
    "avalanche:AGEMPlugin": {"patterns_per_experience": 5, "sample_size": 5},
    "avalanche:GEMPlugin": {"patterns_per_experience": 5, "memory_strength": 0.5},
}
ON_SCORES = {
    name: THEIR_PENALTIES[name] for name in ("avalanche:EWCPlugin", "avalanche:RWalkPlugin")
}
ON_ROWS = {**PROJECTIONS, "avalanche:LwFPlugin": {}}
WITHOUT_MEANING = [
    (make, name, args, reason)
    for makes, plugins, reason in [
        ([pnn, packnet], {**OUR_PENALTIES, **THEIR_PENALTIES}, "would protect what cannot change"),
        ([pnn], ANEW, "would reset them"),
        ([packnet], {"avalanche:FromScratchTrainingPlugin": {}}, "would reset them"),
        ([packnet], {"avalanche:GDumbPlugin": {}}, "would mix tasks"),
        ([joint], {**OUR_PENALTIES, **THEIR_PENALTIES}, "acts only after an experience has ended"),
        ([scr, icarl], ON_SCORES, "needs gradients of class scores"),
        ([scr], ON_ROWS, "needs one representation of each sample"),
    ]
    for make in makes
    for name, args in plugins.items()
]
WITH_MEANING = [
    (pnn, "online_ewc", {"lam": 1.0, "every": 2, "n_samples": 5}),
    (icarl, "avalanche:LwFPlugin", {}),
    (icarl, "avalanche:AGEMPlugin", PROJECTIONS["avalanche:AGEMPlugin"]),
    (icarl, "avalanche:MASPlugin", {}),
    (scr, "avalanche:MASPlugin", {}),
]


def refusals(make, name, args):
    """Return the plugin as made in a script, and why `check` refuses it with a strategy."""
    theirs = STRATEGIES[make]
    strategy = Component(f"avalanche:{theirs}", f"avalanche.training.supervised:{theirs}", {})
    plugin, _ = component("plugin", name, args, path="p", name_path="p")
    return call(plugin, {}), [p.message for p in check_method(strategy, [plugin], "m", None)]


@pytest.mark.parametrize(("make", "name", "args", "reason"), WITHOUT_MEANING)
def test_what_would_do_nothing_or_fail_is_refused(make, name, args, reason):
    plugin, messages = refusals(make, name, args)
    (message,) = messages
    assert f"'{name}' cannot be combined with 'avalanche:{STRATEGIES[make]}'" in message
    assert reason in message
    strategy = make([RhoSpectrumPlugin(), plugin])
    before = weights(strategy)
    with pytest.raises(ValueError, match=f"Plugin' cannot be combined with .*{reason}"):
        strategy.train(digits(n_experiences=2, train_size=20).train_stream, eval_streams=[])
    assert torch.equal(weights(strategy), before)


@pytest.mark.parametrize(("make", "name", "args"), WITH_MEANING)
def test_what_works_is_not_refused(make, name, args):
    plugin, messages = refusals(make, name, args)
    assert not messages
    scenario = "task" if make is pnn else "class"
    benchmark = digits(n_experiences=2, train_size=20, scenario=scenario)
    train(make([RhoSpectrumPlugin(), plugin]), benchmark)


@pytest.mark.parametrize("name", ["rho_spectrum", "synaptic_intelligence"])
@pytest.mark.parametrize("make", [scr, icarl])
def test_what_needs_no_class_scores_goes_with_them(make, name):
    plugin = PLUGINS[name]()
    strategy, benchmark = make([plugin]), digits(n_experiences=2, train_size=20)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    assert plugin.diagnostics()


def test_with_packnet_default_layers_are_the_hidden_ones():
    tasks = digits(n_experiences=2, train_size=20, scenario="task")
    trained = {}
    for name, layers in {
        "default": None,
        "named": ["wrappee.0.body.hidden.1", "wrappee.0.body.hidden.3"],
        "logits": ["logits"],
    }.items():
        strategy = packnet([DRLPlugin(lam=0.01, layers=layers)])
        torch.manual_seed(0)
        train(strategy, tasks)
        trained[name] = weights(strategy)
    torch.testing.assert_close(trained["default"], trained["named"])
    assert (trained["default"] - trained["logits"]).norm() > 1e-3


@pytest.mark.parametrize("name", ROWS)
def test_every_loss_on_representations_acts_with_packnet(name):
    tasks = digits(n_experiences=2, train_size=20, scenario="task")
    trained = []
    for plugins in [], [PLUGINS[name]()]:
        strategy = packnet(plugins)
        torch.manual_seed(0)
        train(strategy, tasks)
        trained.append(weights(strategy))
    assert not torch.equal(*trained)
