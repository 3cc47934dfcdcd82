"""The transfer matrix, filled by real strategies."""

import random

import numpy as np
import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin

from avalanche_ext.metrics import NoEvaluation, TransferMatrix, summary
from tests.cases import digits, make_naive, small_model, weights


def accuracies_by_hand(model, benchmark) -> list[float]:
    model.eval()
    rows = [e.dataset for e in benchmark.test_stream]
    result = [(model(d.x).argmax(1) == d.y).double().mean().item() for d in rows]
    model.train()
    return result


def test_rows_are_accuracies_after_each_experience_and_before_the_first():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix)
    untrained = accuracies_by_hand(strategy.model, benchmark)
    strategy.eval(benchmark.test_stream)
    rows = []
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
        rows.append(accuracies_by_hand(strategy.model, benchmark))
    np.testing.assert_allclose(matrix.untrained, untrained, atol=1e-6)
    np.testing.assert_allclose(matrix.R, rows, atol=1e-6)
    sizes = [len(e.dataset) for e in benchmark.test_stream]
    assert matrix.summary() == summary(matrix.R, matrix.untrained, sizes)


def test_equals_avalanches_own_accuracy():
    matrix, benchmark, model = TransferMatrix(), digits(), small_model()
    evaluator = EvaluationPlugin(accuracy_metrics(experience=True))
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
        train_mb_size=10,
        plugins=[matrix],
        evaluator=evaluator,
    )
    strategy.train(benchmark.train_stream[0])
    theirs = strategy.eval(benchmark.test_stream)
    names = [f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp00{j}" for j in range(5)]
    np.testing.assert_allclose(matrix.R[0], [theirs[name] for name in names], atol=1e-6)


def test_sizes_are_those_of_the_test_sets_whatever_else_is_evaluated():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    strategy.eval(benchmark.train_stream)
    sizes = [len(e.dataset) for e in benchmark.test_stream]
    assert len({*sizes}) > 1
    assert matrix.test_sizes.tolist() == sizes


def test_instance_accuracy_is_that_of_the_test_sets_as_one():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    x, y = (torch.cat([getattr(e.dataset, name) for e in benchmark.test_stream]) for name in "xy")
    expected = (strategy.model(x).argmax(1) == y).double().mean().item()
    assert matrix.summary()["instance_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert matrix.summary()["ACC"] != pytest.approx(expected, abs=1e-12)


def test_online_streams_fill_one_row_per_original_experience():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix)
    stream = split_online_stream(benchmark.train_stream, experience_size=20, shuffle=False)
    last_rows = {}
    for experience in stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
        origin = experience.origin_experience.current_experience
        last_rows[origin] = accuracies_by_hand(strategy.model, benchmark)
    assert matrix.R.shape == (5, 5)
    np.testing.assert_allclose(matrix.R, [last_rows[i] for i in range(5)], atol=1e-6)


def test_without_an_evaluation_before_training_forward_transfer_is_undefined():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    assert matrix.untrained is None
    assert matrix.summary()["FWT"] is None
    assert matrix.summary()["ACC"] == pytest.approx(matrix.R[-1].mean())


def test_a_skipped_row_is_an_error_not_a_wrong_number():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix)
    strategy.train(benchmark.train_stream, eval_streams=[])
    strategy.eval(benchmark.test_stream)
    with pytest.raises(ValueError, match="no row for experience 0"):
        matrix.summary()


def learn(strategy, benchmark, indices) -> None:
    for index in indices:
        strategy.train(benchmark.train_stream[index], eval_streams=[])
        strategy.eval(benchmark.test_stream)


@pytest.mark.parametrize("is_online", [False, True])
def test_an_experience_that_comes_after_a_later_one_is_refused(is_online):
    matrix, benchmark = TransferMatrix(), digits(n_experiences=2, train_size=40)
    strategy = make_naive(matrix)
    learn(strategy, benchmark, [0, 1])
    before = matrix.R
    stream = benchmark.train_stream
    first = next(iter(split_online_stream(stream, 10))) if is_online else stream[0]
    with pytest.raises(ValueError, match=r"in their order, but 0 comes after 1: .* a new Transfer"):
        strategy.train(first, eval_streams=[])
    assert np.array_equal(matrix.R, before)
    strategy.plugins[strategy.plugins.index(matrix)] = second = TransferMatrix()
    learn(strategy, benchmark, [0, 1])
    np.testing.assert_allclose(second.R[1], accuracies_by_hand(strategy.model, benchmark))
    assert np.array_equal(matrix.R, before)


def test_the_current_experience_may_be_trained_on_again():
    matrix, benchmark = TransferMatrix(), digits(n_experiences=2, train_size=40)
    strategy, rows = make_naive(matrix), []
    for index in (0, 0, 1, 1):
        learn(strategy, benchmark, [index])
        rows.append(accuracies_by_hand(strategy.model, benchmark))
    np.testing.assert_allclose(matrix.R, rows[1::2], atol=1e-6)
    assert not np.allclose(rows[0], rows[1])


def test_rows_of_different_length_are_an_error():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix)
    for i, experience in enumerate(benchmark.train_stream[:2]):
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream[: i + 1])
    with pytest.raises(ValueError, match="evaluate the whole test stream"):
        _ = matrix.R


def test_evaluations_of_other_streams_are_ignored():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    strategy.eval(benchmark.test_stream)
    before = matrix.R.copy()
    strategy.eval(benchmark.train_stream)
    assert np.array_equal(matrix.R, before)


def test_periodic_evaluation_while_training_leaves_the_last_one():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix, eval_every=1, train_epochs=2)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[benchmark.test_stream])
    assert matrix.R.shape == (5, 5)
    np.testing.assert_allclose(
        matrix.R[-1], accuracies_by_hand(strategy.model, benchmark), atol=1e-6
    )


def test_evaluating_does_not_change_what_is_trained():
    """With Avalanche's own loaders, replay and dropout, which draw from the global generators."""
    benchmark = digits()

    def final(evaluate: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Dropout(), torch.nn.Linear(32, 10)
        )
        strategy = Naive(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
            train_mb_size=10,
            plugins=[TransferMatrix(), ReplayPlugin(mem_size=50)],
            evaluator=NoEvaluation(),
        )
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[])
            if evaluate:
                strategy.eval(benchmark.test_stream)
        return weights(strategy)

    assert torch.equal(final(evaluate=False), final(evaluate=True))


def draw() -> tuple[float, float, float]:
    """A number of each global generator."""
    return random.random(), float(np.random.random()), float(torch.rand(1))  # noqa: NPY002


class Drawing(SupervisedPlugin):
    """Draws from all global generators while a stream is evaluated."""

    def after_eval_iteration(self, strategy, **kwargs):
        draw()


def test_what_others_draw_while_evaluating_is_undone():
    strategy, drawn = make_naive(TransferMatrix(), Drawing()), []
    for evaluate in (False, True):
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(0)
        if evaluate:
            strategy.eval(digits().test_stream)
        drawn.append(draw())
    assert drawn[0] == drawn[1]


def test_outputs_that_are_not_numbers_are_no_accuracy():
    matrix, benchmark = TransferMatrix(), digits()
    strategy = make_naive(matrix)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    with torch.no_grad():
        next(strategy.model.parameters())[0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"nan for \d+ of \d+ samples of experience 0 of"):
        strategy.eval(benchmark.test_stream)
