from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
        "needs benchmark.scenario: task, which is 'class'"
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
