"""SupSup: masks that never change once their task is learned, in Avalanche's own strategies."""

import copy

import pytest
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.training import Naive
from torch import nn

from avalanche_ext.benchmarks.build import online_benchmark
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.metrics.matrix import backward_transfer
from avalanche_ext.models import MLP, SupSup
from avalanche_ext.models.catalogue import mlp, supsup
from avalanche_ext.models.supsup import MaskedLayer
from avalanche_ext.plugins import AGEMPlugin, MGEMPlugin
from avalanche_ext.plugins.core.gathering import Gatherer, gathered_layers
from tests.cases import digits, plain_dataset, quiet, train


def small(share=None, task="known", sizes=(50,)):
    torch.manual_seed(0)
    return SupSup(MLP([*sizes], input_shape=(1, 8, 8), n_classes=10), share, task)


def strategy_of(model, **given):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    return quiet(Naive, model, optimizer=optimizer, plugins=[InMemoryLoaders()], **given)


def layers(model):
    return [module for module in model.modules() if isinstance(module, MaskedLayer)]


def accuracy(model, dataset):
    model.eval()
    with torch.no_grad():
        return float((model(dataset.x, dataset.t).argmax(1) == dataset.y).float().mean())


@pytest.mark.parametrize("share", [None, 0.3])
def test_a_task_that_was_learned_is_never_forgotten(share):
    benchmark = digits(train_size=100, scenario="task")
    model = small(share)
    strategy = strategy_of(model, train_epochs=5)
    matrix = [[0.0] * 5 for _ in range(5)]
    logits = []
    for i, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, eval_streams=[])
        tests = [e.dataset for e in benchmark.test_stream]
        matrix[i] = [accuracy(model, dataset) for dataset in tests]
        logits.append(model(tests[i].x, tests[i].t).detach())
    assert backward_transfer(matrix) == 0.0
    for i, e in enumerate(benchmark.test_stream):
        assert torch.equal(model(e.dataset.x, e.dataset.t), logits[i])
        assert matrix[4][i] == matrix[i][i] > 0.8


def test_weights_and_earlier_masks_stay_and_the_shares_are_right():
    benchmark = digits(train_size=60, scenario="task")
    model = small(0.3)
    before = [layer.layer.weight.clone() for layer in layers(model)]
    strategy = strategy_of(model)
    masks = []
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        for layer, fixed in zip(layers(model), masks, strict=False):
            assert torch.equal(layer.masks[: len(fixed)], fixed)
        masks = [layer.masks.clone() for layer in layers(model)]
    for layer, weight in zip(layers(model), before, strict=True):
        assert torch.equal(layer.layer.weight, weight)
        assert layer.layer.bias is None
        assert len(layer.masks) == 4
        share = layer.masks.float().flatten(1).mean(1)
        torch.testing.assert_close(share, torch.full((4,), 0.3), atol=0.002, rtol=0)
        assert (layer.masks[0] != layer.masks[1]).any()
    assert model.labels == [0, 1, 2, 3, 4]


def test_rows_of_several_tasks_each_have_their_mask_and_new_tasks_that_of_fresh_scores():
    benchmark = digits(n_experiences=2, train_size=60, scenario="task")
    model = small()
    train(strategy_of(model), benchmark)
    model.eval()
    data = [e.dataset for e in benchmark.test_stream]
    x = torch.cat([data[0].x[:3], data[1].x[:4]])
    t = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    order = torch.tensor([3, 0, 4, 1, 5, 2, 6])
    alone = torch.cat([model(x[:3], 0), model(x[3:], 1)])
    torch.testing.assert_close(model(x[order], t[order]), alone[order])
    new = model(x, 7)
    assert torch.equal(new, model(x, 9))
    assert not torch.equal(new, model(x, 1))


def test_gathered_rows_are_the_batchs_whatever_the_order_in_which_labels_were_learned():
    model, gatherer = small(), Gatherer()
    model.labels = [3, 1]
    for layer in layers(model):
        layer.fix()
    x, t = torch.rand(5, 1, 8, 8), torch.tensor([3, 1, 1, 3, 1])

    def seen(rows):
        gatherer.start(model, gathered_layers(model, None), "inputs")
        output = model(x[rows], t[rows])
        gatherer.stop()
        return gatherer.taken(output, t[rows])

    whole = seen(torch.arange(5))
    for label in (1, 3):
        rows = (t == label).nonzero()[:, 0]
        for name, part in seen(rows).items():
            torch.testing.assert_close(whole[name][rows], part)


def test_the_entropy_finds_the_task():
    benchmark = digits("permuted", train_size=500, scenario="task")
    model = small(sizes=(200, 200))
    train(strategy_of(model, train_epochs=3), benchmark)
    model.eval()
    for method, least in {"one_shot": 0.45, "binary": 0.6}.items():
        model.task = method
        found = []
        for i, e in enumerate(benchmark.test_stream):
            with torch.no_grad():
                inferred = model.inferred(e.dataset.x)
                logits = model(e.dataset.x, torch.zeros_like(e.dataset.t))
            found.append(float((inferred == i).float().mean()))
            model.task = "known"
            assert torch.equal(logits, model(e.dataset.x, inferred))
            model.task = method
        assert sum(found) / 5 > least, "chance is 0.2"


@pytest.mark.parametrize("task", ["one_shot", "binary"])
def test_labels_do_not_matter_where_the_task_is_inferred(task):
    benchmark = digits("permuted", n_experiences=2, train_size=40, scenario="task")
    model = small(task=task)
    strategy = strategy_of(model)
    x = benchmark.test_stream[1].dataset.x[:20]
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        model.eval()
        assert torch.equal(model(x, 0), model(x, 1))
        assert torch.equal(model(x, 0), model(x, torch.arange(20)))


def test_inferring_a_sample_looks_at_no_other():
    benchmark = digits("permuted", n_experiences=3, train_size=100, scenario="task")
    model = small(task="binary")
    train(strategy_of(model), benchmark)
    model.eval()
    x = benchmark.test_stream[1].dataset.x[:20]
    assert model.inferred(x).tolist() == [int(model.inferred(row[None])) for row in x]


def test_convolutions_and_batch_normalisation():
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    )
    torch.manual_seed(0)
    model = SupSup(net)
    assert net[0].bias is not None
    assert [name for name, _ in model.body[1].named_parameters()] == []
    assert model.body[1].running_mean is None
    benchmark = digits(n_experiences=2, train_size=200, scenario="task")
    strategy = strategy_of(model, train_epochs=2)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    first = benchmark.test_stream[0].dataset
    before = accuracy(model, first)
    strategy.train(benchmark.train_stream[1], eval_streams=[])
    assert accuracy(model, first) == before > 0.8


@pytest.mark.parametrize("plugin", [MGEMPlugin(10), AGEMPlugin(20)], ids=["gem", "agem"])
def test_losses_of_earlier_tasks_cannot_rise_so_gem_projects_nothing(plugin):
    benchmark = digits(n_experiences=2, train_size=60, scenario="task")
    models = small(), small()
    for model, plugins in zip(models, ([], [plugin]), strict=True):
        strategy = strategy_of(model)
        strategy.plugins[1:1] = plugins
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[], shuffle=False)
    for mine, its in zip(*(layers(model) for model in models), strict=True):
        assert torch.equal(mine.scores, its.scores)


def test_parts_of_an_online_stream_share_a_mask():
    model = small()
    benchmark = digits(n_experiences=2, train_size=40, scenario="task")
    train(strategy_of(model), online_benchmark(benchmark, 10, 0))
    assert model.labels == [0, 1]
    assert [len(layer.masks) for layer in layers(model)] == [1, 1]


def test_a_copy_and_a_seed_give_the_same_scores():
    benchmark = digits(n_experiences=2, train_size=40, scenario="task")
    model = small()
    other = copy.deepcopy(model)
    for each in (model, other):
        strategy = strategy_of(each)
        for experience in benchmark.train_stream:
            torch.rand(3)  # Draws of others change nothing.
            strategy.train(experience, eval_streams=[], shuffle=False)
    for mine, its in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, its)


def test_what_cannot_have_masks_is_refused():
    with pytest.raises(ValueError, match=r"has parameters 1\.weight, 1\.bias that all tasks would"):
        SupSup(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)))
    with pytest.raises(ValueError, match="the ReLU has none"):
        SupSup(nn.ReLU())
    heads = mlp([4], multi_head=True, input_shape=(4,), n_classes=2)
    with pytest.raises(ValueError, match="has several heads: give SupSup a model with one"):
        SupSup(heads)
    for given in ({"share": 0.0}, {"share": 1.5}, {"task": "guess"}):
        with pytest.raises(ValueError, match=next(iter(given))):
            supsup([4], **given, input_shape=(4,), n_classes=2)


def test_an_experience_of_several_tasks_is_refused():
    stream = digits(n_experiences=2, train_size=40, scenario="task").train_stream
    mixed = plain_dataset(*(torch.cat([getattr(e.dataset, c) for e in stream]) for c in "xyt"))
    benchmark = with_task_labels(with_classes_timeline(benchmark_from_datasets(train=[mixed])))
    with pytest.raises(ValueError, match=r"experience 0 has the task labels \[0, 1\], but SupSup"):
        train(strategy_of(small()), benchmark)


def test_a_task_label_that_comes_again_is_refused():
    with pytest.raises(ValueError, match="task label 0 comes again in experience 1"):
        train(strategy_of(small()), digits(train_size=40))
    mixed = digits(train_size=40, scenario="task")
    strategy = strategy_of(small())
    strategy.train(mixed.train_stream[0], eval_streams=[])
    strategy.train(mixed.train_stream[0], eval_streams=[])
    strategy.train(mixed.train_stream[1], eval_streams=[])
    with pytest.raises(ValueError, match="task label 0 comes again in experience 0"):
        strategy.train(mixed.train_stream[0], eval_streams=[])
