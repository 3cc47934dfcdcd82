from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.config import notes
from tests.config.cases import experiment_with, loaded, problems_of


def document(*plugins: Any, benchmark: Any = None, **method: Any) -> dict[str, Any]:
    return experiment_with(
        benchmark=benchmark or {"name": "split_digits", "n_experiences": 5},
        methods={"m": {"plugins": [*plugins], **method}},
    )


PERMUTED = {"name": "permuted_digits", "n_experiences": 12}
MIR = {"avalanche:MIRPlugin": {"batch_size_mem": 5}}


@pytest.mark.parametrize(
    ("made", "size_path", "least", "groups"),
    [
        (
            lambda size: document({"balanced_replay": {"mem_size": size}}),
            "plugins[0].balanced_replay",
            10,
            "classes of 'split_digits'",
        ),
        (
            lambda size: document({"balanced_replay": {"mem_size": size, "balance": "task"}}),
            "plugins[0].balanced_replay",
            5,
            "experiences of 'split_digits'",
        ),
        (
            lambda size: document({"online_replay": {"mem_size": size, "buffer": "ring"}}),
            "plugins[0].online_replay",
            10,
            "classes of 'split_digits'",
        ),
        (
            lambda size: document(
                {"agem": {"mem_size": size, "buffer": "ring", "balance": "task"}}
            ),
            "plugins[0].agem",
            5,
            "experiences of 'split_digits'",
        ),
        (
            lambda size: document(
                {"balanced_replay": {"mem_size": size, "balance": "task"}}, benchmark=PERMUTED
            ),
            "plugins[0].balanced_replay",
            12,
            "experiences of 'permuted_digits'",
        ),
        (
            lambda size: document(strategy="BER", args={"mem_size": size}),
            "args",
            10,
            "classes of 'split_digits'",
        ),
        (
            lambda size: document(
                strategy="DRL",
                args={"mem_size": size},
                benchmark={"name": "split_cifar100", "n_experiences": 10},
            ),
            "args",
            100,
            "classes of 'split_cifar100'",
        ),
    ],
)
def test_a_balanced_memory_holds_every_group(
    made: Any, size_path: str, least: int, groups: str, tmp_path: Path
) -> None:
    loaded(made(least), tmp_path)
    assert problems_of(made(least - 1), tmp_path) == [
        f"methods.m.{size_path}.mem_size: is {least - 1}, but must be at least {least}: "
        f"one sample for each of the {least} {groups}"
    ]


@pytest.mark.parametrize(
    "made",
    [
        document({"online_replay": {"mem_size": 1}}),
        document(strategy="avalanche:Replay", args={"mem_size": 1}),
        document(
            {"balanced_replay": {"mem_size": 1}}, benchmark={"name": "image_folder", "folder": "x"}
        ),
    ],
)
def test_a_memory_without_groups_or_of_unknown_groups_may_be_small(
    made: dict[str, Any], tmp_path: Path
) -> None:
    loaded(made, tmp_path)


@pytest.mark.parametrize("n_experiences", [1, 2, 5, 10])
def test_classes_can_be_dealt_out_equally(n_experiences: int, tmp_path: Path) -> None:
    loaded(document(benchmark={"name": "split_mnist", "n_experiences": n_experiences}), tmp_path)


@pytest.mark.parametrize("n_experiences", [3, 7, 11, 20])
def test_classes_that_cannot_be_dealt_out_equally_are_refused(
    n_experiences: int, tmp_path: Path
) -> None:
    made = document(benchmark={"name": "split_mnist", "n_experiences": n_experiences})
    assert problems_of(made, tmp_path) == [
        f"benchmark.n_experiences: is {n_experiences}, "
        "but must divide the 10 classes of 'split_mnist': 1, 2, 5, 10"
    ]


def test_only_a_split_deals_out_classes(tmp_path: Path) -> None:
    loaded(document(benchmark={"name": "rotated_digits", "n_experiences": 7}), tmp_path)


@pytest.mark.parametrize(
    ("made", "path", "second", "first"),
    [
        (
            document("balanced_replay", "online_replay"),
            "plugins[1]",
            "online_replay",
            "balanced_replay",
        ),
        (
            document("online_replay", "drl", "online_replay"),
            "plugins[2]",
            "online_replay",
            "online_replay",
        ),
        (document("online_replay", strategy="BER"), "plugins[0]", "online_replay", "BER"),
        (
            document("balanced_replay", strategy="avalanche:Replay"),
            "plugins[0]",
            "balanced_replay",
            "avalanche:Replay",
        ),
        (
            document("balanced_replay", "avalanche:ReplayPlugin"),
            "plugins[1]",
            "avalanche:ReplayPlugin",
            "balanced_replay",
        ),
        (document("mgem", strategy="avalanche:Replay"), "plugins[0]", "mgem", "avalanche:Replay"),
        (
            document("mgem", "avalanche:ReplayPlugin"),
            "plugins[1]",
            "avalanche:ReplayPlugin",
            "mgem",
        ),
        (document(MIR, "mgem"), "plugins[1]", "mgem", "avalanche:MIRPlugin"),
        (
            document("avalanche:ReplayPlugin", strategy="MGEM"),
            "plugins[0]",
            "avalanche:ReplayPlugin",
            "MGEM",
        ),
        (
            document("online_replay", {"agem": {"replay": "first_task"}}),
            "plugins[1]",
            "agem",
            "online_replay",
        ),
        (
            document("agem", "avalanche:ReplayPlugin"),
            "plugins[1]",
            "avalanche:ReplayPlugin",
            "agem",
        ),
        (
            document("mgem", "online_replay", "balanced_replay"),
            "plugins[2]",
            "balanced_replay",
            "online_replay",
        ),
    ],
)
def test_two_that_replay_are_refused_with_the_reason(
    made: dict[str, Any], path: str, second: str, first: str, tmp_path: Path
) -> None:
    assert problems_of(made, tmp_path) == [
        f"methods.m.{path}: '{second}' cannot be combined with '{first}': samples that one of "
        "them replays would look new to the other; keep one of them"
    ]


@pytest.mark.parametrize(
    "made",
    [
        document("balanced_replay", "drl", {"drl": {"normalisation": "pairs"}}),
        document("avalanche:ReplayPlugin", strategy="avalanche:Replay"),
        document({"avalanche:EWCPlugin": {"ewc_lambda": 1}}, "online_replay"),
        document("online_replay", "mgem"),
        document("mgem", "balanced_replay", "drl"),
        document("online_replay", strategy="MGEM"),
        document("mgem", strategy="BER"),
        document("mgem", "mgem"),
        document("agem", "online_replay", "mgem"),
        document({"agem": {"replay": "always"}}, "mgem", "agem"),
        document("mgem", {"avalanche:EWCPlugin": {"ewc_lambda": 1}}),
    ],
)
def test_other_combinations_are_left_to_the_user(made: dict[str, Any], tmp_path: Path) -> None:
    loaded(made, tmp_path)


def test_heads_need_task_labels(tmp_path: Path) -> None:
    def made(scenario: str) -> dict[str, Any]:
        return experiment_with(
            benchmark={"name": "split_digits", "scenario": scenario},
            model={"name": "mlp", "hidden_sizes": [10], "multi_head": True},
        )

    loaded(made("task"), tmp_path)
    assert problems_of(made("class"), tmp_path) == [
        "model.multi_head: is true, but heads are chosen by task label: "
        "set benchmark.scenario, which is 'class', to 'task'"
    ]


def test_supermasks_need_task_labels(tmp_path: Path) -> None:
    def made(scenario: str) -> dict[str, Any]:
        return experiment_with(
            benchmark={"name": "permuted_digits", "scenario": scenario},
            model={"name": "supsup", "hidden_sizes": [10]},
        )

    loaded(made("task"), tmp_path)
    assert problems_of(made("domain"), tmp_path) == [
        "model.name: is 'supsup', whose masks are chosen by task label: "
        "set benchmark.scenario, which is 'domain', to 'task'"
    ]


@pytest.mark.parametrize("key", ["lr", "momentum", "weight_decay"])
def test_what_torch_would_refuse_later_is_refused(key: str, tmp_path: Path) -> None:
    made = experiment_with(optimizer={"name": "SGD", key: -0.5})
    assert problems_of(made, tmp_path) == [f"optimizer.{key}: is -0.5, but must be at least 0"]


@pytest.mark.parametrize(
    "sizes", [{"train_size": 50, "pool_size": 50}, {"train_size": 50}, {"pool_size": 50}]
)
def test_subsets_fit_into_their_pool(sizes: dict[str, int], tmp_path: Path) -> None:
    loaded(document(benchmark={"name": "split_digits", **sizes}), tmp_path)


def test_more_samples_than_the_pool_has_are_refused(tmp_path: Path) -> None:
    benchmark = {"name": "permuted_digits", "train_size": 51, "pool_size": 50}
    assert problems_of(document(benchmark=benchmark), tmp_path) == [
        "benchmark.train_size: is 51, but must be at most benchmark.pool_size, which is 50"
    ]


@pytest.mark.parametrize(
    ("made", "note"),
    [
        (
            document("online_replay", "drl", {"drl": {"normalisation": "pairs"}}),
            "methods.m.plugins[2]: 'drl' is listed twice, and counts twice",
        ),
        (document("mas", "mas"), "methods.m.plugins[1]: 'mas' is listed twice, and counts twice"),
        (
            document(optimizer={"lr": 0}),
            "methods.m.optimizer.lr: is 0, so nothing is trained",
        ),
        (
            experiment_with(optimizer={"name": "SGD", "lr": 50}),
            "optimizer.lr: is 50, too large for almost any model to learn",
        ),
        (
            document(benchmark={"name": "split_digits", "train_size": 8}),
            "training.batch_size: is 10, but benchmark.train_size is 8: each mini-batch has 8 "
            "samples of the stream",
        ),
        (
            document(benchmark={"name": "split_digits", "online": 5}),
            "training.batch_size: is 10, but benchmark.online is 5: each mini-batch has 5 samples "
            "of the stream",
        ),
        (
            document(training={"scheduler": {"name": "StepLR", "step_size": 1}}),
            "methods.m.training.scheduler: changes nothing: it steps after each epoch, starts "
            "again in each experience, and an experience has 1 epoch; give by: iteration, or "
            "reset: false",
        ),
        (
            document(training={"epochs": 10**9}),
            "methods.m.training.epochs: is 1,000,000,000: such a run would hardly ever end",
        ),
    ],
)
def test_what_runs_but_is_hardly_meant_is_noted(
    made: dict[str, Any], note: str, tmp_path: Path
) -> None:
    assert notes(loaded(made, tmp_path)) == [note]


@pytest.mark.parametrize(
    "made",
    [
        document(
            {"metric_loss": {"loss": "ContrastiveLoss"}}, {"metric_loss": {"loss": "NCALoss"}}
        ),
        document("mgem", "mgem"),
        document(benchmark={"name": "split_digits", "train_size": 10, "online": 10}),
        document(training={"epochs": 2, "scheduler": {"name": "StepLR", "step_size": 1}}),
        document(training={"scheduler": {"name": "StepLR", "step_size": 1, "by": "iteration"}}),
        document(training={"scheduler": {"name": "StepLR", "step_size": 1, "reset": False}}),
        document(training={"scheduler": {"name": "ConstantLR", "factor": 0.5}}),
    ],
)
def test_what_may_well_be_meant_is_not_noted(made: dict[str, Any], tmp_path: Path) -> None:
    assert notes(loaded(made, tmp_path)) == []


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (
            ["drl", "DRL"],
            "methods.DRL: 'DRL' differs from 'drl' only in case, and would share its folder on "
            "macOS and Windows: rename one",
        ),
        (
            ["report.txt"],
            "methods.report.txt: 'report.txt' must not end in '.txt': the folder is next to the "
            "report's files",
        ),
        (
            ["a" * 256],
            f"methods.{'a' * 256}: has 256 characters, but must have at most 255",
        ),
    ],
)
def test_methods_can_have_folders_next_to_each_other(
    names: list[str], line: str, tmp_path: Path
) -> None:
    loaded(experiment_with(methods=dict.fromkeys(["a.b", "a" * 255])), tmp_path)
    assert problems_of(experiment_with(methods=dict.fromkeys(names)), tmp_path) == [line]


def test_a_sweeps_methods_need_folders_too(tmp_path: Path) -> None:
    long, path = "a" * 253, "optimizer.lr"
    methods = {"B-0.1": None, "b": {"sweep": {path: [0.1]}}, long: {"sweep": {path: [0.1, 0.25]}}}
    assert problems_of(experiment_with(methods=methods), tmp_path) == [
        "methods.b: 'b-0.1' differs from 'B-0.1' only in case, and would share its folder on "
        "macOS and Windows: rename one",
        f"methods.{long}: the sweep makes a name of 257 characters, but a folder's name has at "
        "most 255",
        f"methods.{long}: the sweep makes a name of 258 characters, but a folder's name has at "
        "most 255",
    ]
