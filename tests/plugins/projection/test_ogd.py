"""OGD's steps inside real strategies, on a real benchmark."""

import pickle

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from torch.nn.functional import cross_entropy

from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import OGDPlugin
from tests.cases import digits, make_naive, small_model, train, weights
from tests.oracles import orthogonal_projection_by_loops
from tests.plugins.projection.test_mgem_models import Growing

TASKS = {"n_experiences": 3, "train_size": 30}


def output_gradients(model, dataset, outputs):
    """By one pass after another: what must stay at right angles, by parameter name."""
    model.eval()
    for x, y, t in dataset:
        arguments = (x[None], torch.tensor([t])) if hasattr(model, "model") else (x[None],)
        logits = model(*arguments)[0]
        chosen = {"label": [logits[y]], "mean": [logits.mean()], "all": [*logits]}[outputs]
        for output in chosen:
            model.zero_grad(set_to_none=True)
            output.backward(retain_graph=True)
            yield {n: torch.zeros_like(p) if p.grad is None else p.grad.clone()
                   for n, p in model.named_parameters()}  # fmt: skip
    model.zero_grad(set_to_none=True)
    model.train()


class Expected(SupervisedPlugin):
    """Listed before OGD: keeps the gradient before the projection, and looks at what follows."""

    def __init__(self, outputs="label", by_loops=False):
        super().__init__()
        self.outputs, self.by_loops = outputs, by_loops
        self.directions, self.n_projected, self.worst = [], 0, 0.0

    def after_backward(self, strategy, **kwargs):
        self.before = {
            n: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for n, p in strategy.model.named_parameters()
        }

    def before_update(self, strategy, **kwargs):
        if not self.directions:
            return
        named = dict(strategy.model.named_parameters())
        rows = torch.stack([_as_row(d, named) for d in self.directions])
        after = torch.cat([
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in named.values()
        ])  # fmt: skip
        before = torch.cat([self.before[n].flatten() for n in named])
        cosines = (rows @ after) / rows.norm(dim=1).clamp(min=1e-30) / before.norm()
        self.worst = max(self.worst, float(cosines.abs().max()))
        self.n_projected += bool((after - before).norm() > 1e-6 * before.norm())
        if self.by_loops:
            expected = orthogonal_projection_by_loops(before.tolist(), rows.tolist())
            torch.testing.assert_close(after, torch.tensor(expected).to(after))

    def after_training_exp(self, strategy, **kwargs):
        dataset = strategy.experience.dataset
        self.directions += output_gradients(strategy.model, dataset, self.outputs)


def _as_row(direction, named):
    """Put a direction into the model as it is now; parameters grow at their ends."""
    pieces = []
    for name, p in named.items():
        piece = torch.zeros_like(p)
        if name in direction:
            old = direction[name]
            piece[tuple(slice(n) for n in old.shape)] = old
        pieces.append(piece.flatten())
    return torch.cat(pieces)


def checked(model=None, benchmark=None, outputs="label", n_samples=30, others=()):
    expected = Expected(outputs)
    plugin = OGDPlugin(n_samples, outputs)
    strategy = make_naive(expected, plugin, *others, model=model)
    train(strategy, benchmark or digits("permuted", **TASKS))
    assert expected.n_projected >= 6
    return strategy, plugin, expected


def test_steps_are_the_algorithms():
    model = mlp([4], input_shape=(1, 8, 8), n_classes=10).double()

    class Double(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x.double())

    expected = Expected(by_loops=True)
    benchmark = digits("permuted", n_experiences=3, train_size=10)
    train(make_naive(expected, OGDPlugin(10), model=Double(), batch_size=5), benchmark)
    assert expected.n_projected == 4


@pytest.mark.parametrize("outputs", ["label", "mean", "all"])
def test_steps_are_at_right_angles_to_the_gradients_of_earlier_outputs(outputs):
    _, plugin, expected = checked(outputs=outputs)
    assert expected.worst < 1e-5
    n = {"label": 30, "mean": 30, "all": 300}[outputs]
    assert 0.8 * 3 * n < len(plugin.basis) <= 3 * n
    numbers = plugin.diagnostics()
    assert numbers["ogd/directions"] == len(plugin.basis)
    assert numbers["ogd/megabytes"] == plugin.basis.numel() * 4 / 1e6
    assert 0 < numbers["ogd/kept"] < 1


def test_classifiers_that_grow():
    strategy, plugin, expected = checked(Growing(), digits(train_size=30))
    assert strategy.model.classifier.classifier.out_features == 10
    assert plugin.basis.shape[1] == len(weights(strategy))
    assert expected.worst < 1e-5


def test_multi_head_models_have_gradients_of_the_right_heads():
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    _, plugin, expected = checked(model, digits(train_size=30, scenario="task"))
    assert expected.worst < 1e-5
    assert len(plugin.basis) > 100


def test_frozen_parameters_leave_the_basis():
    strategy, plugin, _ = checked()
    strategy.model.hidden[0].weight.requires_grad_(False)
    strategy.train(digits("permuted", **TASKS).train_stream[0], eval_streams=[])
    assert plugin.basis.shape[1] == sum(
        p.numel() for p in strategy.model.parameters() if p.requires_grad
    )
    gram = plugin.basis @ plugin.basis.T
    torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)


def test_the_first_task_is_learned_as_without_it():
    first = digits("permuted", **TASKS).train_stream[0]
    strategies = make_naive(), make_naive(OGDPlugin(10))
    for strategy in strategies:
        strategy.train(first, eval_streams=[])
    assert torch.equal(*map(weights, strategies))


def test_it_forgets_less():
    benchmark = digits("permuted", n_experiences=2, train_size=200)
    first = benchmark.train_stream[0].dataset

    def loss_on_the_first(*plugins):
        strategy = make_naive(*plugins, train_epochs=15)
        train(strategy, benchmark)
        with torch.no_grad():
            return float(cross_entropy(strategy.model(first.x), first.y))

    assert loss_on_the_first(OGDPlugin(100)) < 0.6 * loss_on_the_first()


def test_online_streams_end_with_their_experiences():
    plain = digits("permuted", **TASKS)
    strategies = [make_naive(OGDPlugin(30)) for _ in range(2)]
    for experience in plain.train_stream:
        strategies[0].train(experience, shuffle=False, eval_streams=[])
    for part in split_online_stream(plain.train_stream, experience_size=10, shuffle=False):
        strategies[1].train(part, shuffle=False, eval_streams=[])
    assert torch.equal(*map(weights, strategies))


def test_an_experience_that_is_broken_off_counts_when_the_next_begins():
    plugin = OGDPlugin(30)
    strategy = make_naive(plugin)
    parts = [*split_online_stream(digits("permuted", **TASKS).train_stream, 10, shuffle=False)]
    strategy.train(parts[0], eval_streams=[])
    assert plugin.basis is None
    strategy.train(parts[3], eval_streams=[])
    assert len(plugin.basis) > 20


def test_a_pickle_continues_where_it_was():
    stream = digits("permuted", **TASKS).train_stream
    whole = make_naive(OGDPlugin(10))
    for experience in stream[:2]:
        whole.train(experience, eval_streams=[], shuffle=False)
    again = make_naive(pickle.loads(pickle.dumps(whole.plugins[1])), model=small_model())
    again.model.load_state_dict(whole.model.state_dict())
    for strategy in (whole, again):
        strategy.train(stream[2], eval_streams=[], shuffle=False)
    assert torch.equal(*map(weights, (whole, again)))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="outputs"):
        OGDPlugin(outputs="gtl")
    with pytest.raises(ValueError, match="n_samples"):
        OGDPlugin(0)
