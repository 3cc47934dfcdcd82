"""The logger for scripts, with the real wandb offline: Avalanche strategies on digits."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.evaluation.metric_results import MetricValue, TensorImage
from avalanche.evaluation.metrics import (
    accuracy_metrics,
    confusion_matrix_metrics,
    forgetting_metrics,
    loss_metrics,
)
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.metrics import NoEvaluation, TransferMatrix
from avalanche_ext.models import MLP
from avalanche_ext.plugins import GMEDPlugin, ReportingPlugin
from avalanche_ext.tracking import WandbLogger
from tests.tracking.wandb_files import StoredRun, read_stored_run

BENCHMARK = split_digits(n_experiences=2, train_size=40)
N_ITERATIONS = 4  # an epoch, of 40 samples in batches of 10
LOSS = "Loss_MB/train_phase/train_stream/Task000"
EPOCH = "Top1_Acc_Epoch/train_phase/train_stream/Task000"
FORGETTING = "StreamForgetting/eval_phase/test_stream"
ACCURACIES = [f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{j:03}" for j in range(2)]


def evaluator(*loggers: WandbLogger, more: Sequence[Any] = ()) -> EvaluationPlugin:
    return EvaluationPlugin(
        accuracy_metrics(epoch=True, experience=True, stream=True),
        loss_metrics(minibatch=True),
        forgetting_metrics(experience=True, stream=True),
        *more,
        loggers=[*loggers],
    )


def train(
    plugins: Sequence[object], evaluation: object, epochs: int = 1, **options: Any
) -> list[Tensor]:
    """Train and evaluate on every experience; return the weights."""
    torch.manual_seed(0)
    model = MLP([16], input_shape=(1, 8, 8), n_classes=10)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_mb_size=10,
        train_epochs=epochs,
        plugins=[*plugins],
        evaluator=evaluation,
        **options,
    )
    strategy.eval(BENCHMARK.test_stream)
    for experience in BENCHMARK.train_stream:
        strategy.train(experience)
        strategy.eval(BENCHMARK.test_stream)
    return [parameter.detach().clone() for parameter in model.parameters()]


def stored(logger: WandbLogger) -> StoredRun:
    logger.finish()
    assert logger.offline_directory is not None
    return read_stored_run(logger.offline_directory)


def rows(run: StoredRun, axis: str) -> list[dict[str, Any]]:
    """The rows that are drawn over this axis: those of experiences have both."""
    at_experience = axis == "experience"
    return [
        row for row in run.history if ("experience" in row) == at_experience and "R/path" not in row
    ]


def axis_of(run: StoredRun, name: str) -> str:
    return run.metrics.get(name, run.metrics["*"])


def assert_equal(weights: list[Tensor], others: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_metrics_of_the_evaluator_lie_on_their_axes(tmp_path: Path) -> None:
    logger = WandbLogger(directory=tmp_path)
    evaluation = evaluator(logger)
    train([], evaluation, epochs=2)
    run = stored(logger)
    assert run.exit_code == 0

    by_iteration = rows(run, "iteration")
    assert [row["iteration"] for row in by_iteration] == [*range(2 * 2 * N_ITERATIONS)]
    losses = evaluation.get_all_metrics()[LOSS][1]
    assert [row[LOSS] for row in by_iteration] == losses
    epochs = {row["iteration"]: row[EPOCH] for row in by_iteration if EPOCH in row}
    expected = evaluation.get_all_metrics()[EPOCH][1]
    assert epochs == dict(zip([3, 7, 11, 15], expected, strict=True))

    by_experience = rows(run, "experience")
    assert [(row["experience"], row["iteration"]) for row in by_experience] == [
        (0, -1),
        (1, 7),
        (2, 15),
    ]
    for name in ACCURACIES:
        assert [row[name] for row in by_experience] == evaluation.get_all_metrics()[name][1]
    last = evaluation.get_all_metrics()[FORGETTING][1][-1]
    assert by_experience[-1][FORGETTING] == last != 0

    assert {axis_of(run, name) for name in (LOSS, EPOCH)} == {"iteration"}
    assert {axis_of(run, name) for name in (*ACCURACIES, FORGETTING)} == {"experience"}


def test_a_matrix_next_to_the_evaluator_joins_its_rows(tmp_path: Path) -> None:
    logger = WandbLogger(directory=tmp_path)
    matrix = TransferMatrix()
    train([matrix], evaluator(logger))
    by_experience = rows(stored(logger), "experience")
    assert len(by_experience) == 3
    for j, name in enumerate(ACCURACIES):
        assert [row[f"accuracy/experience_{j + 1}"] for row in by_experience] == pytest.approx(
            [row[name] for row in by_experience]
        )
    assert by_experience[-1]["BWT"] == matrix.summary()["BWT"]


def test_a_matrix_without_an_evaluator_is_logged(tmp_path: Path) -> None:
    logger = WandbLogger(directory=tmp_path)
    matrix = TransferMatrix()
    train([matrix, logger], NoEvaluation())
    run = stored(logger)
    assert matrix.untrained is not None
    expected = [matrix.untrained.tolist(), *matrix.R.tolist()]
    assert rows(run, "iteration") == []
    by_experience = rows(run, "experience")
    assert [row["experience"] for row in by_experience] == [0, 1, 2]
    assert [
        [row["accuracy/experience_1"], row["accuracy/experience_2"]] for row in by_experience
    ] == expected
    metrics = {name: value for name, value in matrix.summary().items() if value is not None}
    assert {"ACC", "BWT", "FWT", "forgetting"} <= set(metrics)
    assert metrics.items() <= by_experience[-1].items()
    assert metrics.items() <= run.summary.items()
    assert logger.offline_directory is not None
    files = logger.offline_directory / "files"
    table = json.loads((files / run.history[-1]["R/path"]).read_text("utf-8"))
    assert table["data"] == [[i, *row] for i, row in enumerate(expected)]
    assert (files / run.history[-1]["R_heatmap/path"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("in_evaluator", [False, True])
def test_what_our_plugins_report_has_one_name_in_every_script(
    tmp_path: Path, in_evaluator: bool
) -> None:
    logger = WandbLogger(directory=tmp_path)
    gmed = GMEDPlugin(mem_size=20, batch_size=5)
    if in_evaluator:
        train([gmed], evaluator(logger))
    else:
        train([gmed, logger], NoEvaluation())
    run = stored(logger)
    name = "series/gmed/edit_norm"
    norms = {row["iteration"]: row[name] for row in run.history if name in row}
    assert [*norms] == [*range(1, 2 * N_ITERATIONS)]  # in the first there is nothing to edit yet
    assert axis_of(run, name) == "iteration"
    at_experience = rows(run, "experience")
    means = {r["experience"]: r["gmed/edit_norm"] for r in at_experience if "gmed/edit_norm" in r}
    expected = {1: sum(norms[i] for i in (1, 2, 3)) / 3, 2: sum(norms[i] for i in (4, 5, 6, 7)) / 4}
    assert means == pytest.approx(expected)


class Counting(ReportingPlugin):
    """A user's plugin that hands the evaluator a number in each iteration."""

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        done = strategy.clock.train_iterations
        strategy.evaluator.publish_metric_value(MetricValue(self, "squared", done**2, done))


def test_what_a_plugin_publishes_in_an_iteration_is_in_its_row(tmp_path: Path) -> None:
    logger = WandbLogger(directory=tmp_path)
    train([Counting()], evaluator(logger))
    run = stored(logger)
    told = {row["iteration"]: row["squared"] for row in rows(run, "iteration")}
    assert told == {i: i**2 for i in range(2 * N_ITERATIONS)}
    assert axis_of(run, "squared") == "iteration"


def test_an_empty_stream_does_no_harm(tmp_path: Path) -> None:
    model = MLP([16], input_shape=(1, 8, 8), n_classes=10)
    with WandbLogger(directory=tmp_path) as logger:
        Naive(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            plugins=[TransferMatrix(), logger],
            evaluator=NoEvaluation(),
        ).eval([])
    assert stored(logger).history == []


@pytest.mark.parametrize("in_evaluator", [False, True])
def test_the_weights_are_those_without_the_logger(tmp_path: Path, in_evaluator: bool) -> None:
    def weights(*loggers: WandbLogger) -> list[Tensor]:
        if in_evaluator:
            return train([], evaluator(*loggers))
        return train([TransferMatrix(), *loggers], NoEvaluation())

    with WandbLogger(directory=tmp_path) as logger:
        assert_equal(weights(logger), weights())
    assert rows(stored(logger), "experience")


def test_rows_of_online_streams_belong_to_the_original_experience(tmp_path: Path) -> None:
    logger = WandbLogger(directory=tmp_path)
    model = MLP([16], input_shape=(1, 8, 8), n_classes=10)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_mb_size=10,
        plugins=[TransferMatrix()],
        evaluator=evaluator(logger),
    )
    for experience in BENCHMARK.train_stream:
        strategy.train(split_online_stream([experience], experience_size=10))
        strategy.eval(BENCHMARK.test_stream)
    run = stored(logger)
    assert [row["experience"] for row in rows(run, "experience")] == [1, 2]
    assert [row["iteration"] for row in rows(run, "iteration")] == [*range(2 * N_ITERATIONS)]


def test_evaluations_inside_an_experience_have_their_iteration(tmp_path: Path) -> None:
    logger = WandbLogger(directory=tmp_path)
    torch.manual_seed(0)
    model = MLP([16], input_shape=(1, 8, 8), n_classes=10)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_mb_size=10,
        plugins=[TransferMatrix()],
        evaluator=evaluator(logger),
        eval_every=2,
        peval_mode="iteration",
    )
    strategy.train(BENCHMARK.train_stream[0], eval_streams=[BENCHMARK.test_stream])
    run = stored(logger)
    assert [(row["experience"], row["iteration"]) for row in rows(run, "experience")] == [
        (0, -1),
        (1, 0),
        (1, 2),
        (1, 3),
    ]
    assert [row["iteration"] for row in rows(run, "iteration")] == [*range(N_ITERATIONS)]
    assert all("accuracy/experience_2" in row for row in rows(run, "experience"))


def test_figures_are_stored_as_pictures(tmp_path: Path) -> None:
    logger = WandbLogger(directory=tmp_path)
    train([], evaluator(logger, more=confusion_matrix_metrics(stream=True, save_image=True)))
    run = stored(logger)
    name = "ConfusionMatrix_Stream/eval_phase/test_stream/path"
    assert logger.offline_directory is not None
    picture = logger.offline_directory / "files" / rows(run, "experience")[-1][name]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_values_of_every_kind_are_sent_or_left_out(tmp_path: Path) -> None:
    logger = WandbLogger(directory=tmp_path)
    values = {
        "numpy": np.float32(0.5),
        "scalar": torch.tensor([2]),
        "tensor": torch.tensor(
            [[0.0, 1.0, 1.0], [1.0, torch.nan, torch.inf]], dtype=torch.bfloat16
        ),
        "empty": torch.tensor([]),
        "text": "yes",
        "image": TensorImage(torch.rand(3, 4, 5)),
        "bytes": b"a checkpoint",
    }
    for name, value in values.items():
        logger.log_single_metric(name, value, 0)
    (row,) = stored(logger).history
    assert (row["numpy"], row["scalar"], row["text"]) == (0.5, 2, "yes")
    assert [row["tensor/values"][i] for i in (0, -1)] == [1, 3]
    assert (row["image/width"], row["image/height"]) == (5, 4)
    assert not any(name.startswith("bytes") for name in row)


def test_the_run_has_its_names_and_configuration(tmp_path: Path) -> None:
    options = {"project": "a-project", "name": "naive-0", "group": "naive"}
    with WandbLogger(**options, config={"lr": 0.1}, directory=tmp_path) as logger:
        pass
    run = stored(logger)
    assert logger.offline_directory is not None
    assert logger.offline_directory.parent == tmp_path / "wandb"
    assert (run.run.project, run.run.display_name, run.run.run_group) == (
        "a-project",
        "naive-0",
        "naive",
    )
    assert run.config["lr"] == 0.1
    assert run.exit_code == 0


def test_an_error_in_a_with_block_marks_the_run_as_failed(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("the loss is NaN")

    with pytest.raises(ValueError, match="the loss is NaN"), WandbLogger(directory=tmp_path) as log:
        fail()
    run = stored(log)
    assert run.exit_code == 1
    assert run.summary["error"] == "ValueError: the loss is NaN"


def test_loggers_of_one_process_do_not_mix(tmp_path: Path) -> None:
    loggers = [WandbLogger(directory=tmp_path, name=f"run-{i}") for i in range(2)]
    matrices = [TransferMatrix() for _ in loggers]
    for i, (matrix, logger) in enumerate(zip(matrices, loggers, strict=True)):
        train([matrix, logger], NoEvaluation(), epochs=1 + 4 * i)
    runs = [stored(logger) for logger in loggers]
    assert [run.run.display_name for run in runs] == ["run-0", "run-1"]
    told = [rows(run, "experience")[-1]["ACC"] for run in runs]
    assert told == [matrix.summary()["ACC"] for matrix in matrices]
    assert told[0] != told[1]


@pytest.mark.parametrize("ending", ["", "raise SystemError('lost')"])
def test_the_end_of_the_program_finishes_the_run(tmp_path: Path, ending: str) -> None:
    code = (
        "import sys; from tests.tracking.test_wandb_logger import *;"
        "logger = WandbLogger(directory=sys.argv[1]);"
        "print(logger.offline_directory);"
        f"train([TransferMatrix(), logger], NoEvaluation()); {ending}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    run = read_stored_run(Path(done.stdout.strip()))
    assert "R/path" in run.history[-1]
    assert run.exit_code == (1 if ending else 0)
    assert run.summary.get("error") == ("SystemError: lost" if ending else None)


def test_disabled_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(wandb, "init")
    with WandbLogger(mode="disabled") as logger:
        train([TransferMatrix()], evaluator(logger))
    assert logger.offline_directory is None
    assert not list(tmp_path.iterdir())


def broken_from_the_start(directory: Path) -> Callable[[], None]:
    (directory / "wandb").write_text("a file where wandb wants its folder")
    return lambda: None


def closed_later(directory: Path) -> Callable[[], None]:
    return wandb.teardown


@pytest.mark.parametrize("sabotage", [broken_from_the_start, closed_later])
def test_a_failing_wandb_costs_one_warning(
    tmp_path: Path, sabotage: Callable[[Path], Callable[[], None]]
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        later = sabotage(tmp_path)
        logger = WandbLogger(directory=tmp_path)
        later()
        weights = train([], evaluator(logger))
        logger.finish()
    texts = [str(warning.message) for warning in caught if "wandb" in str(warning.message)]
    assert len(texts) == 1
    assert "continues without it" in texts[0]
    assert_equal(weights, train([], evaluator()))


def test_a_matrix_with_gaps_costs_one_warning_and_the_rest_is_logged(tmp_path: Path) -> None:
    logger = WandbLogger(directory=tmp_path)
    evaluation = evaluator(logger)
    model = MLP([16], input_shape=(1, 8, 8), n_classes=10)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_mb_size=10,
        plugins=[TransferMatrix()],
        evaluator=evaluation,
    )
    for experience in BENCHMARK.train_stream:
        strategy.train(experience)
    with pytest.warns(
        RuntimeWarning, match="R is not sent to wandb: R has no row for experience 0"
    ):
        strategy.eval(BENCHMARK.test_stream)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = stored(logger)
    (row,) = rows(run, "experience")
    assert row["experience"] == 2
    assert row[ACCURACIES[1]] == evaluation.get_last_metrics()[ACCURACIES[1]]
    assert "ACC" not in row
