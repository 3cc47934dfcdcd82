"""Cells with `training.compile` train as they do without it, up to rounding, or say why not."""

from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import IncrementalClassifier
from torch import nn
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

from avalanche_ext.functional.compiled import code
from avalanche_ext.functional.compiled.loss import CompiledLoss
from avalanche_ext.models import MLP
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    MultiSimilarityPlugin,
    RepresentationLossPlugin,
    RMarginPlugin,
)
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.components import build
from avalanche_ext.runner.preflight import check_here
from avalanche_ext.strategies.compiled import compile_steps, share_compiled, why_eager
from tests.cases import digits, make_naive, train, weights
from tests.runner.cases import cell, experiment
from tests.runner.resuming import DIGITS, REPLAY, left_by, run, run_until, small

METHODS = {
    "er": {"plugins": [{"online_replay": {"mem_size": 20}}]},
    "ber": {"plugins": [REPLAY]},
    "separate": {"plugins": [{"online_replay": {"mem_size": 20, "loss": "separate"}}]},
    "agem": {"plugins": [{"agem": {"mem_size": 20}}]},
    "gem": {"plugins": [{"mgem": {"size_per_task": 10}}]},
    "ogd": {"plugins": [{"ogd": {"n_samples": 10}}]},
    "gmed": {"plugins": [{"gmed": {"mem_size": 20, "batch_size": 5, "loss": "union"}}]},
    "online_ewc": {"plugins": ["online_ewc"]},
    "ewc_by_gradient": {"plugins": [{"online_ewc": {"update": "gradient"}}]},
    "spectrum": {"plugins": ["fisher_spectrum_ewc"]},
    "kronecker": {"plugins": ["kronecker_ewc"]},
    "si": {"plugins": ["synaptic_intelligence"]},
    "bgd": {"plugins": ["bgd"]},
    "combined": {"plugins": [REPLAY, "online_ewc", {"mgem": {"size_per_task": 10}}]},
    "drl": {"plugins": [REPLAY, {"drl": {"lam": 0.1}}]},
    "multi_similarity": {"plugins": [REPLAY, {"multi_similarity": {"lam": 0.5}}]},
    "r_margin": {"plugins": [REPLAY, {"r_margin": {"lam": 0.005}}]},
    "terms": {
        "plugins": [
            {"online_replay": {"mem_size": 20, "loss": "separate"}},
            {"drl": {"lam": 0.1, "normalisation": "pairs", "layers": ["hidden.0", "logits"]}},
            {"multi_similarity": {"lam": 0.1, "form": "pairs"}},
            {"r_margin": {"lam": 0.1, "hinge": True, "redraw": True, "lr": 0.5}},
        ]
    },
    "avalanche_replay": {"strategy": "avalanche:Replay", "args": {"mem_size": 20}},
    "avalanche_gem": {"strategy": "avalanche:GEM", "args": {"patterns_per_exp": 10}},
    "avalanche_ewc": {"strategy": "avalanche:EWC", "args": {"ewc_lambda": 0.4}},
    "mas": {"plugins": ["mas"]},
    "mir": {"plugins": [{"mir": {"mem_size": 20, "batch_size": 5, "loss": "union"}}]},
    "avalanche_mas": {"strategy": "avalanche:MAS"},
    "avalanche_agem": {
        "strategy": "avalanche:AGEM",
        "args": {"patterns_per_exp": 10, "sample_size": 5},
    },
    "avalanche_rwalk": {"plugins": ["avalanche:RWalkPlugin"]},
}
RECIPES = {
    "repeats": {"training": {"repeats": 3}},
    "iid": {"training": {"iid": True}},
    "smaller last batches": {"training": {"batch_size": 7}},
    "a last batch of one": {"training": {"batch_size": 59}},
    "clipped": {"training": {"clip_grad_norm": 0.5}},
    "scheduled": {"training": {"scheduler": {"name": "StepLR", "step_size": 3, "by": "iteration"}}},
    "momentum": {"optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}},
    "evaluated inside": {"evaluate": {"every": 4, "test_size": 30}},
}
UNCOMPILED = {
    "dropout": ({"name": "mlp", "hidden_sizes": [16], "dropout": 0.5}, "draws random numbers"),
    "statistics": ("./network.py:Network", "changes its buffer 'norm.running_mean'"),
    "counter": ("./network.py:Counting", "changes its attribute 'n_passes'"),
}
NETWORK = """
from torch import nn

class Network(nn.Sequential):
    def __init__(self, n_classes):
        super().__init__()
        self.flat, self.norm = nn.Flatten(), nn.BatchNorm1d(64)
        self.classifier = nn.Linear(64, n_classes)

class Counting(nn.Sequential):
    def __init__(self, n_classes):
        super().__init__()
        self.flat, self.classifier, self.n_passes = nn.Flatten(), nn.Linear(64, n_classes), 0

    def forward(self, x):
        self.n_passes += 1
        return super().forward(x) / (1 + self.n_passes)
"""


def mlp():
    """The model of the cells, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP([16], input_shape=(1, 8, 8), n_classes=10)


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the mini-batches that compiled code has been called for."""
    sizes, call = [], CompiledLoss.__call__

    def counted(self, x, y):
        sizes.append(len(y))
        return call(self, x, y)

    monkeypatch.setattr(CompiledLoss, "__call__", counted)
    return sizes


def learned(folder, method, *, compile, **changed):
    """A cell's strategy after training."""
    training = {"batch_size": 5, "compile": compile, **changed.pop("training", {})}
    one = cell(folder, "method", methods={"method": method}, training=training, **changed)
    built = build(one, None)
    train(built.strategy, built.benchmark)
    return built.strategy


def check_same(folder, calls, method, **changed):
    """Compiled steps lead to the same weights, and all steps are compiled."""
    found = learned(folder, method, compile=True, **changed)
    assert len(calls) == found.clock.train_iterations > 0
    expected = learned(folder, method, compile=False, **changed)
    torch.testing.assert_close(weights(found), weights(expected), rtol=1e-5, atol=1e-5)
    assert found.clock.train_iterations == expected.clock.train_iterations == len(calls)


def forget_code():
    code._FUNCTIONS.clear()
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["er", "terms"])
def test_all_sizes_of_mini_batches_share_two_compiled_versions(tmp_path, calls, name):
    forget_code()  # Of tests before this one.
    before = counters["stats"]["unique_graphs"]
    for batch_size in (1, 2, 7, 13, 59):
        learned(tmp_path, METHODS[name], compile=True, training={"batch_size": batch_size})
    assert len({*calls}) > (5 if name == "terms" else 10)
    assert counters["stats"]["unique_graphs"] == before + 2


def test_weights_of_terms_share_the_compiled_code(tmp_path, calls):
    learned(tmp_path, METHODS["drl"], compile=True)
    before = counters["stats"]["unique_graphs"]
    for lam in (0.2, 0.3):
        calls.clear()
        check_same(tmp_path, calls, {"plugins": [REPLAY, {"drl": {"lam": lam}}]})
    assert counters["stats"]["unique_graphs"] == before


@pytest.mark.parametrize("name", METHODS)
def test_methods_train_as_they_do_uncompiled(tmp_path, calls, name):
    check_same(tmp_path, calls, METHODS[name])


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_train_as_they_do_uncompiled(tmp_path, calls, name):
    check_same(tmp_path, calls, METHODS["ber"], **deepcopy(RECIPES[name]))


class Checked(SupervisedPlugin):
    """Compares the loss and the gradients of each step with those of a copy of the model."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def after_backward(self, strategy, **kwargs):
        model, criterion = deepcopy(strategy.model), nn.CrossEntropyLoss()
        terms = [deepcopy(p) for p in strategy.plugins if isinstance(p, RepresentationLossPlugin)]
        model.zero_grad()
        for term in terms:
            term.watch(model)
        outputs, y = model(strategy.mb_x), strategy.mb_y
        loss = criterion(outputs, y)
        for term in terms:
            loss = loss + term.lam * term.loss_seen(outputs, y, *term.loss_tensors(y))
            term.look_away()
        loss.backward()
        close = {"rtol": 0.0, "atol": 1e-5}
        torch.testing.assert_close(strategy.loss.detach(), loss.detach()[None], **close)
        torch.testing.assert_close(strategy.mb_output.detach(), outputs.detach(), **close)
        for found, right in zip(strategy.model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(found.grad, right.grad, **close)
            assert found.grad.stride() == right.grad.stride()
        self.n += 1


@pytest.mark.parametrize(
    "terms",
    [
        [],
        [DRLPlugin(lam=0.1), MultiSimilarityPlugin(lam=0.5), RMarginPlugin(lam=0.1)],
    ],
    ids=["criterion", "terms"],
)
def test_each_step_is_that_of_the_model_at_the_same_weights(calls, terms):
    checked, replay = Checked(), BalancedReplayPlugin(mem_size=20)
    strategy = make_naive(replay, *terms, checked, batch_size=7, model=mlp())
    compile_steps(strategy)
    train(strategy, digits(train_size=60))
    assert checked.n == len(calls) == strategy.clock.train_iterations


def operators(strategy, experience):
    """The number of torch's operations in training on an experience."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        strategy.train(experience, eval_streams=[])
    return sum(event.count for event in seen.key_averages() if event.key.startswith("aten::"))


def test_a_compiled_step_calls_fewer_operations():
    benchmark, numbers = digits(train_size=60), {}
    for is_compiled in (False, True):
        strategy = make_naive(model=mlp())
        if is_compiled:
            compile_steps(strategy)
        train(strategy, digits(train_size=60))
        numbers[is_compiled] = operators(strategy, benchmark.train_stream[0])
    assert numbers[True] < 0.6 * numbers[False]


@pytest.mark.parametrize("kind", UNCOMPILED)
def test_models_that_draw_or_keep_statistics_train_uncompiled_with_a_word(tmp_path, kind):
    model, why = UNCOMPILED[kind]
    (tmp_path / "network.py").write_text(NETWORK)
    with pytest.warns(UserWarning, match=f"trains uncompiled, because.*{why}"):
        found = learned(tmp_path, METHODS["er"], compile=True, model=model)
    assert share_compiled(found) == 0.0
    expected = learned(tmp_path, METHODS["er"], compile=False, model=model)
    assert torch.equal(weights(found), weights(expected))


def test_before_training_it_says_which_methods_train_uncompiled_and_why(tmp_path, capsys):
    methods = {
        "metric": {"plugins": [{"metric_loss": {"loss": "ContrastiveLoss"}}]},
        "hal": {"plugins": ["hal"]},
        "sum": {"plugins": [{"online_replay": {"loss": "sum"}}]},
        "lwf": {"strategy": "avalanche:LwF", "args": {"alpha": 1.0, "temperature": 2.0}},
        "der": {"strategy": "avalanche:DER", "args": {"mem_size": 20}},
        "heads": {"model": {"name": "mlp", "hidden_sizes": [16], "multi_head": True}},
        **{name: METHODS[name] for name in ("er", "agem", "online_ewc", "terms")},
    }
    benchmark = {**DIGITS, "scenario": "task"}
    training = {"batch_size": 5, "compile": True}
    check_here(experiment(tmp_path, methods=methods, benchmark=benchmark, training=training), None)
    said = capsys.readouterr().err.splitlines()
    needs = "needs the graph of the loss, or looks at layers"
    assert said == [
        f"training.compile: methods.{names}: steps run uncompiled, because {why}"
        for names, why in {
            "metric": f"MetricLossPlugin {needs}",
            "hal": f"HALPlugin {needs}",
            "sum": f"OnlineReplayPlugin {needs}",
            "lwf": f"LwFPlugin {needs}",
            "der": "DER has a training loop of its own",
            "heads": "which heads run depends on the task labels of each mini-batch",
        }.items()
    ]


def test_what_trains_uncompiled_trains_as_without_the_key(tmp_path, calls):
    for name, method in {
        "metric": {"plugins": [REPLAY, {"metric_loss": {"loss": "ContrastiveLoss"}}]},
        "lwf": {"strategy": "avalanche:LwF", "args": {"alpha": 1.0, "temperature": 2.0}},
    }.items():
        found = learned(tmp_path, method, compile=True)
        expected = learned(tmp_path, method, compile=False)
        assert torch.equal(weights(found), weights(expected)), name
    assert not calls


class Halved(SupervisedPlugin):
    """Trains on half the loss, and on the size of the weights."""

    def before_backward(self, strategy, **kwargs):
        strategy.loss = strategy.loss / 2
        strategy.loss += 0.1 * sum(p.square().sum() for p in strategy.model.parameters())


class Known(Halved):
    """The same, by a plugin that says that this needs no graph."""

    reads_graph = False


class Sharpened(SupervisedPlugin):
    """Adds a term of the output, and says that this needs no graph."""

    reads_graph = False

    def before_backward(self, strategy, **kwargs):
        strategy.loss += strategy.mb_output.square().mean()


def test_a_plugin_of_the_users_in_the_backward_pass_rules_compiled_steps_out_unless_it_declares():
    assert "Halved needs the graph" in why_eager(make_naive(Halved(), model=mlp()))
    with pytest.raises(ValueError, match="no compiled steps: Halved"):
        compile_steps(make_naive(Halved(), model=mlp()))
    assert why_eager(make_naive(Known(), model=mlp())) == ""

    class Again(Known):
        def after_forward(self, strategy, **kwargs):
            pass

    assert "Again needs the graph" in why_eager(make_naive(Again(), model=mlp()))


class Squared(RepresentationLossPlugin):
    """A loss of the user's that compiled code may contain, as it says."""

    reads_graph = False

    def __init__(self):
        super().__init__(0.1)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def representation_loss(self, representations, labels):
        return self.loss_at(representations, labels, *self.loss_tensors(labels))

    def loss_tensors(self, labels):
        return (self.scale,)

    def loss_at(self, representations, labels, scale):
        return sum((rows - scale).square().mean() for rows in representations)

    def loss_parameters(self):
        return [self.scale]


class Kept(DRLPlugin):
    """Does more in its loss than return it."""

    def representation_loss(self, representations, labels):
        self.kept = representations
        return super().representation_loss(representations, labels)


class Forgetful(Squared):
    """Says that its loss is pure, but reads what is trained elsewhere."""

    reads_graph = False

    def loss_tensors(self, labels):
        return ()

    def loss_at(self, representations, labels):
        return super().loss_at(representations, labels, self.scale)


def test_a_loss_on_layers_of_the_users_trains_compiled_if_it_declares(calls):
    plugins = Squared(), Squared()
    strategies = [make_naive(plugin, model=mlp()) for plugin in plugins]
    compile_steps(strategies[0])
    for strategy in strategies:
        train(strategy, digits(train_size=60))
    assert len(calls) == strategies[0].clock.train_iterations
    assert plugins[1].scale != 2.0
    torch.testing.assert_close(plugins[0].scale, plugins[1].scale, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


def test_a_loss_on_layers_that_is_not_pure_trains_uncompiled():
    assert "Kept needs the graph" in why_eager(make_naive(Kept(), model=mlp()))
    changed = DRLPlugin()
    changed.representation_loss = lambda representations, labels: representations[0].sum()
    assert "DRLPlugin needs the graph" in why_eager(make_naive(changed, model=mlp()))
    strategies = [make_naive(Forgetful(), model=mlp()) for _ in range(2)]
    compile_steps(strategies[0])
    with pytest.warns(UserWarning, match="parameters of a term are not among its loss_tensors"):
        train(strategies[0], digits(train_size=60))
    train(strategies[1], digits(train_size=60))
    assert torch.equal(*map(weights, strategies))


class Scheduled(SupervisedPlugin):
    """Changes what DRL is made with, in the middle of an experience."""

    def before_training_iteration(self, strategy, **kwargs):
        drl = next(p for p in strategy.plugins if isinstance(p, DRLPlugin))
        n = strategy.clock.train_exp_iterations
        drl.lam = 0.0 if n == 2 else 0.1 + 0.1 * n
        drl.alpha = 0.5 if n > 3 else 2.0


def test_settings_of_a_term_may_change_in_the_middle_of_an_experience(calls):
    strategies = [make_naive(Scheduled(), DRLPlugin(), model=mlp()) for _ in range(2)]
    compile_steps(strategies[0])
    for strategy in strategies:
        train(strategy, digits(train_size=60))
    assert len(calls) == strategies[0].clock.train_iterations
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("terms", [[], [DRLPlugin(lam=0.1)]], ids=["criterion", "term"])
def test_what_a_plugin_makes_of_the_loss_counts(calls, terms):
    strategies = [
        make_naive(each, *deepcopy(terms), each, model=mlp()) for each in (Known(), Halved())
    ]
    compile_steps(strategies[0])
    for strategy in strategies:
        train(strategy, digits(train_size=60))
    assert calls
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


def test_a_term_of_the_output_that_was_not_declared_is_refused():
    strategy = make_naive(Sharpened(), model=mlp())
    compile_steps(strategy)
    with pytest.raises(RuntimeError, match="differentiates the mini-batch's output"):
        train(strategy, digits(train_size=60))


def test_a_plugin_that_is_added_later_counts():
    strategies = [make_naive(model=mlp()), make_naive(model=mlp())]
    compile_steps(strategies[0])
    for strategy in strategies:
        strategy.plugins.insert(0, Halved())
    with pytest.warns(UserWarning, match="trains uncompiled, because Halved needs the graph"):
        train(strategies[0], digits(train_size=60))
    train(strategies[1], digits(train_size=60))
    assert torch.equal(*map(weights, strategies))


def test_hooks_on_the_model_are_called_and_noted(calls):
    strategies = [make_naive(DRLPlugin(lam=0.1), model=mlp()) for _ in range(2)]
    compile_steps(strategies[0])
    benchmark, seen = digits(train_size=60), []
    for strategy in strategies:
        strategy.train(benchmark.train_stream[0], eval_streams=[])
        strategy.model.classifier.register_forward_hook(lambda *call: seen.append(call[0]))
    with pytest.warns(UserWarning, match="uncompiled wherever hooks are set"):
        strategies[0].train(benchmark.train_stream[1], eval_streams=[])
    strategies[1].train(benchmark.train_stream[1], eval_streams=[])
    assert len(seen) == 12
    assert len(calls) == 6
    assert share_compiled(strategies[0]) == 0.5
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


class Reweighted(SupervisedPlugin):
    """Gives the criterion other weights and another setting in the middle of an experience."""

    def before_training_iteration(self, strategy, **kwargs):
        if strategy.clock.train_iterations == 3:
            strategy._criterion.weight = torch.linspace(0.1, 3.0, 10)
            strategy._criterion.label_smoothing = 0.1


def test_a_criterion_may_change_in_the_middle_of_an_experience(calls):
    strategies = [make_naive(Reweighted(), model=mlp()) for _ in range(2)]
    compile_steps(strategies[0])
    for strategy in strategies:
        strategy._criterion = nn.CrossEntropyLoss(torch.ones(10))
        train(strategy, digits(train_size=60))
    assert len(calls) == strategies[0].clock.train_iterations
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


class Scaled(nn.CrossEntropyLoss):
    """A criterion whose scale is trained."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, outputs, labels):
        return super().forward(self.scale * outputs, labels)


def test_with_a_criterion_that_is_trained_steps_are_uncompiled():
    strategies = [make_naive(model=mlp()) for _ in range(2)]
    for strategy in strategies:
        strategy._criterion = Scaled()
        strategy.optimizer.param_groups[0]["params"].append(strategy._criterion.scale)
    compile_steps(strategies[0])
    with pytest.warns(UserWarning, match="because the criterion has parameters that are trained"):
        train(strategies[0], digits(train_size=60))
    train(strategies[1], digits(train_size=60))
    assert torch.equal(*map(weights, strategies))
    assert strategies[0]._criterion.scale == strategies[1]._criterion.scale != 1.0


class Growing(nn.Module):
    """A classifier that grows, beside a layer that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.classifier = IncrementalClassifier(64, masking=False)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.classifier(x.flatten(1))


def test_a_model_that_grows_is_compiled_anew_and_unused_weights_have_no_gradient(calls):
    strategies = []
    for is_compiled in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Growing()
            strategies.append(make_naive(model=model))
            for group in strategies[-1].optimizer.param_groups:
                group["weight_decay"] = 0.1
            if is_compiled:
                compile_steps(strategies[0])
            train(strategies[-1], digits(n_experiences=2, train_size=30))
    assert len(calls) == strategies[0].clock.train_iterations
    assert strategies[0].model.classifier.classifier.out_features == 10
    assert strategies[0].model.unused.weight.grad is None
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


def test_without_a_compiler_it_says_so_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    training = {"batch_size": 5, "compile": True}
    made = experiment(tmp_path, methods={"er": METHODS["er"]}, training=training)
    check_here(made, None)
    assert "this machine has no C++ compiler 'no-such-compiler'" in capsys.readouterr().err
    (one, *_) = made.cells()
    assert run_cell(one, tmp_path, None) == "completed"
    assert left_by(one, tmp_path)["result"]["compiled"] == 0.0
    uncompiled = cell(tmp_path, "method", methods={"method": METHODS["er"]})
    assert run_cell(uncompiled, tmp_path, None) == "completed"
    assert "compiled" not in left_by(uncompiled, tmp_path)["result"]


def test_the_key_counts_in_the_hash_where_it_is_true(tmp_path):
    plain = cell(tmp_path).hash
    assert cell(tmp_path, training={"batch_size": 5, "compile": False}).hash == plain
    assert cell(tmp_path, training={"batch_size": 5, "compile": True}).hash != plain


def test_a_run_goes_on_bit_for_bit_with_code_compiled_anew(tmp_path, monkeypatch):
    plugins = [REPLAY, "online_ewc", {"r_margin": {"redraw": True}}]
    whole = small(tmp_path, {"plugins": plugins}, training={"compile": True})
    run(whole, tmp_path / "whole")
    out = tmp_path / "out"
    assert run_until(whole, out, monkeypatch, n_batches=5)
    assert run_until(whole, out, monkeypatch, 1)
    forget_code()
    run(whole, out)
    assert left_by(whole, out) == left_by(whole, tmp_path / "whole")
    assert left_by(whole, out)["result"]["compiled"] == 1.0


def test_a_setting_that_is_set_again_to_an_equal_value_is_no_change():
    model, criterion = nn.Linear(3, 2), nn.CrossEntropyLoss()
    model.temperature = 0.2
    loss = CompiledLoss(model, criterion)
    model.temperature = float("0.2")
    assert loss.is_still_of(model, criterion)
    model.temperature = 0.3
    assert not loss.is_still_of(model, criterion)
