"""Models whose parameters change between experiences, and plugins that are stored meanwhile."""

import pickle
from copy import deepcopy
from functools import partial

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import CWRStarPlugin
from torch import nn

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.metrics import TransferMatrix
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import OnlineEWCPlugin
from tests.cases import digits, weights
from tests.plugins.bgd_cases import Growing
from tests.plugins.consolidation.consolidation_cases import (
    EACH,
    STRENGTH,
    naive,
    run,
    three_tasks,
    tiny,
)

UPDATES = ["proximal", "gradient"]


def classifier_rows(strategy, vector):
    """What a vector over the parameters has for the growing classifier's weight, (n, 16)."""
    named = dict(strategy.model.named_parameters())
    pieces = vector.split([p.numel() for p in named.values()])
    return pieces[[*named].index("classifier.classifier.weight")].view(-1, 16)


class Look(SupervisedPlugin):
    """Keeps what the plugin holds when an epoch begins; list it after the plugin."""

    def __init__(self, plugin):
        super().__init__()
        self.plugin = plugin

    def before_training_epoch(self, strategy, **kwargs):
        if self.plugin.curvature is not None:
            self.curvature, self.anchor = self.plugin.curvature, self.plugin.anchor
            self.start = weights(strategy)


@pytest.mark.parametrize("evaluates", [False, True])
@pytest.mark.parametrize("name", EACH)
def test_a_classifier_that_grows_keeps_what_is_held_and_is_free_where_it_is_new(name, evaluates):
    plugin = EACH[name](STRENGTH[name])
    strategy = naive(plugin, look := Look(plugin), model=Growing())
    benchmark = digits(n_experiences=5, train_size=20)
    first, second, *_ = benchmark.train_stream
    strategy.train(first, eval_streams=[])
    before, anchor = plugin.curvature, classifier_rows(strategy, plugin.anchor)
    generator = torch.Generator().manual_seed(0)
    hidden, rows, bias = (torch.randn(n, generator=generator) for n in (1040, 10 * 16, 10))
    old = before.product(torch.cat([hidden, rows[: 2 * 16], bias[:2]]))
    if evaluates:  # which makes the classifier grow, too
        strategy.eval(benchmark.test_stream[:2])
    strategy.train(second, eval_streams=[])
    new = look.curvature.product(torch.cat([hidden, rows[: 4 * 16], bias[:4]]))
    torch.testing.assert_close(new[: 1040 + 2 * 16], old[:-2])
    torch.testing.assert_close(new[-4:-2], old[-2:])
    assert (new[1040 + 2 * 16 : 1040 + 4 * 16] == 0).all()
    assert (new[-2:] == 0).all()
    held, start = (classifier_rows(strategy, v) for v in (look.anchor, look.start))
    assert torch.equal(held[:2], anchor)
    assert torch.equal(held[2:], start[2:])
    now = plugin.curvature.product(torch.ones_like(plugin.anchor))
    assert (classifier_rows(strategy, now)[2:] != 0).any()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_evaluating_does_not_change_a_pull_that_is_still_to_come(optimizer):
    """An evaluation enlarges the classifier before the last iterations are pulled for."""

    def anchor(evaluates):
        plugin = OnlineEWCPlugin(20.0, interval=100)
        strategy = naive(TransferMatrix(), plugin, model=Growing())
        strategy.optimizer = optimizer(strategy.model.parameters(), lr=0.05)
        benchmark = digits(n_experiences=5, train_size=30, online=10)
        parts = benchmark.train_stream
        torch.manual_seed(0)
        for part in parts[:5]:
            strategy.train(part, eval_streams=[], shuffle=False)
        if evaluates:
            strategy.eval(benchmark.test_stream[:3])
        strategy.train(parts[6], eval_streams=[], shuffle=False)
        return classifier_rows(strategy, plugin.anchor)[:4]

    torch.testing.assert_close(anchor(evaluates=False), anchor(evaluates=True))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", EACH)
def test_what_is_new_moves_as_it_would_without_a_penalty(name, update):
    """One step of the second experience, from the same weights, with and without."""
    changes = []
    first, second, *_ = digits(n_experiences=5, train_size=10).train_stream
    for lam in (0.0, STRENGTH[name]):
        plugin = EACH[name](lam, update=update)
        strategy = naive(plugin, look := Look(plugin), model=Growing())
        with torch.random.fork_rng():
            torch.manual_seed(1)
            strategy.train(first, eval_streams=[], shuffle=False)
            strategy.train(second, eval_streams=[], shuffle=False)
        change = weights(strategy) - look.start
        changes.append(classifier_rows(strategy, change))
    assert changes[0].abs().max() > 0
    torch.testing.assert_close(changes[0][2:], changes[1][2:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", EACH)
def test_a_head_for_each_task(name, update):
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    benchmark = split_digits(n_experiences=5, train_size=20, scenario="task")
    plugin = EACH[name](STRENGTH[name], update=update)
    strategy = naive(plugin, model=model)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
    sizes = [p.numel() for p in model.parameters()]
    # Gradients at logits have the sum 0, so equal changes of all are in no Fisher.
    change = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0))
    seen = plugin.curvature.product(change).split(sizes)
    weights_of_heads = [
        piece
        for (parameter, _), piece in zip(model.named_parameters(), seen, strict=True)
        if parameter.endswith("classifier.weight")
    ]
    assert len(weights_of_heads) == 5
    assert all(bool(piece.any()) for piece in weights_of_heads)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", ["online ewc", "mas", "si"])
def test_heads_of_earlier_tasks_stay_where_they_are_whatever_the_optimizer(name, update):
    """Along eigenvectors they move, to make up for shared layers; along coordinates they do not."""
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    benchmark = split_digits(n_experiences=5, train_size=20, scenario="task")
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)
    plugin = EACH[name](STRENGTH[name], update=update)
    strategy = naive(plugin, model=model, optimizer=optimizer)
    first, *others = benchmark.train_stream[:3]
    strategy.train(first, eval_streams=[])
    learned = {k: p.clone() for k, p in model.state_dict().items() if "classifiers.0." in k}
    assert learned
    for experience in others:
        strategy.train(experience, eval_streams=[])
    now = model.state_dict()
    assert all(torch.equal(now[k], value) for k, value in learned.items())


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", EACH)
def test_a_parameter_that_nothing_sees_gets_no_gradient(name, update):
    model = tiny()
    model.unused = nn.Linear(2, 3)
    before = deepcopy(model.unused)

    class Gradients(SupervisedPlugin):
        def before_update(self, strategy, **kwargs):
            assert model.unused.weight.grad is None

    plugin = EACH[name](STRENGTH[name], update=update)
    run(plugin, Gradients(), model=model, optimizer=partial(torch.optim.SGD, weight_decay=0.1))
    assert plugin.anchor.numel() == sum(p.numel() for p in model.parameters())
    assert plugin.curvature.trace > 0
    assert torch.equal(model.unused.weight, before.weight)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", EACH)
def test_frozen_parameters_stay_and_are_not_estimated(name, update):
    model = tiny()
    model.hidden[0].weight.requires_grad_(False)
    before = model.hidden[0].weight.clone()
    plugin = EACH[name](STRENGTH[name], update=update)
    run(plugin, model=model)
    assert torch.equal(model.hidden[0].weight, before)
    assert plugin.anchor.numel() == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", EACH)
def test_a_parameter_that_is_frozen_later_is_dropped(name):
    plugin, model = EACH[name](STRENGTH[name]), tiny()
    strategy = naive(plugin, model=model)
    first, second, _ = three_tasks().train_stream
    strategy.train(first, eval_streams=[])
    before = plugin.curvature
    model.hidden[0].weight.requires_grad_(False)
    strategy.plugins.append(look := Look(plugin))
    strategy.train(second, eval_streams=[])
    n_weights = model.hidden[0].weight.numel()
    ones = torch.ones(plugin.anchor.numel() + n_weights)
    ones[:n_weights] = 0
    torch.testing.assert_close(
        look.curvature.product(ones[n_weights:]), before.product(ones)[n_weights:]
    )


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", EACH)
def test_parameters_that_a_later_plugin_freezes_stay(name, update):
    plugin, model = EACH[name](STRENGTH[name], update=update), tiny()
    # From the second experience on it trains the classifier alone.
    strategy = naive(plugin, CWRStarPlugin(model, "classifier"), model=model)
    first, *rest = three_tasks().train_stream
    strategy.train(first, eval_streams=[])
    before = model.hidden[0].weight.detach().clone()
    for experience in rest:
        strategy.train(experience, eval_streams=[])
        assert torch.equal(model.hidden[0].weight, before)


@pytest.mark.parametrize("stream", ["batch", "online", "iterations"])
@pytest.mark.parametrize("name", [*EACH, "kronecker by task"])
def test_it_resumes_from_a_copy_or_a_pickle_as_if_nothing_had_happened(name, stream):
    by_task = {"merge": "none"} if name == "kronecker by task" else {}
    name = name.removesuffix(" by task")
    results = []
    for again in (lambda it: it, deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        n_samples = {} if name == "si" or stream != "iterations" else {"n_samples": 15}
        every = 2 if stream == "iterations" else None
        plugin = EACH[name](STRENGTH[name], every=every, **n_samples, **by_task)
        strategy, parts = naive(plugin), three_tasks().train_stream
        if stream == "online":
            parts = split_online_stream(parts, 10, shuffle=False)
        for i, part in enumerate(parts):
            strategy.train(part, eval_streams=[], shuffle=False)
            if i in (0, 4):
                place = strategy.plugins.index(plugin)
                plugin = strategy.plugins[place] = again(plugin)
        results.append(weights(strategy))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


class Narrowed(SupervisedPlugin):
    """Gives the model a narrower hidden layer when the second experience begins; list it first."""

    def before_training_exp(self, strategy, **kwargs):
        if strategy.clock.train_exp_counter == 1:
            torch.manual_seed(0)
            layers = strategy.model
            layers[1], layers[3] = nn.Linear(64, 4), nn.Linear(4, 10)
            strategy.optimizer = torch.optim.SGD(layers.parameters(), lr=0.05)


@pytest.mark.parametrize("name", EACH)
def test_a_parameter_that_has_shrunk_is_a_new_one(name):
    plugin = EACH[name](STRENGTH[name])
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))
    strategy = naive(Narrowed(), plugin, look := Look(plugin), model=model)
    benchmark = three_tasks()
    for experience in benchmark.train_stream[:2]:
        strategy.train(experience, eval_streams=[])
    sizes = [p.numel() for p in model.parameters()]
    held = look.curvature.product(torch.ones(sum(sizes))).split(sizes)
    # The last bias alone has kept its shape.
    assert [bool(piece.any()) for piece in held] == [False, False, False, True]
    start = look.start.split(sizes)
    assert all(torch.equal(a, s) for a, s in zip(look.anchor.split(sizes)[:3], start, strict=False))


class Drawing(OnlineEWCPlugin):
    """Draws from torch's global generator while it estimates."""

    def _estimate(self, strategy, samples):
        torch.rand(7)
        return super()._estimate(strategy, samples)


def test_what_an_estimate_draws_changes_nothing_that_is_trained():
    after = []
    for plugins in ([], [Drawing(lam=0.0, n_samples=5)]):
        strategy = naive(*plugins)
        torch.manual_seed(0)
        strategy.train(three_tasks().train_stream[0], eval_streams=[])
        after.append(float(torch.rand(1)))
    assert after[0] == after[1]
