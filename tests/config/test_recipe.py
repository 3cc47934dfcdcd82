"""What a YAML may say about a recipe: model, optimizer, criterion, schedule, iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.config import load_experiment
from tests.config.cases import experiment_with, loaded, problems_of

TRAINING = {"batch_size": 10}


def one(tmp_path: Path, training: Any = TRAINING, method: Any = None, **sections: Any) -> Any:
    """The only method of an experiment."""
    document = experiment_with(training=training, methods={"m": method}, **sections)
    return loaded(document, tmp_path).methods["m"]


def test_a_criterion_and_a_schedule_are_torchs_by_name(tmp_path: Path) -> None:
    method = one(
        tmp_path,
        {
            **TRAINING,
            "criterion": {"name": "CrossEntropyLoss", "label_smoothing": 0.1},
            "scheduler": {"name": "StepLR", "step_size": 3, "by": "iteration", "reset": False},
        },
    )
    assert method.criterion.target.endswith(":CrossEntropyLoss")
    assert method.criterion.args == {"label_smoothing": 0.1}
    assert method.scheduler.args == {"step_size": 3, "by": "iteration", "reset": False}


def test_without_them_there_are_none(tmp_path: Path) -> None:
    method = one(tmp_path)
    assert (method.criterion, method.scheduler) == (None, None)


def test_a_criterion_may_be_a_bare_name(tmp_path: Path) -> None:
    bare = one(tmp_path, {**TRAINING, "criterion": "MultiMarginLoss"})
    mapped = one(tmp_path, {**TRAINING, "criterion": {"name": "MultiMarginLoss"}})
    assert bare.criterion == mapped.criterion


def test_a_method_may_change_the_model_or_name_another(tmp_path: Path) -> None:
    model = {"name": "mlp", "hidden_sizes": [100], "initialisation": "torch"}
    changed = one(tmp_path, method={"model": {"hidden_sizes": [7]}}, model=model).model
    assert (changed.args["hidden_sizes"], changed.args["initialisation"]) == ([7], "torch")
    other = one(tmp_path, method={"model": "slim_resnet18"}, model=model).model
    assert (other.name, other.args["width"]) == ("slim_resnet18", 20)


def test_a_method_may_train_by_iterations_where_the_others_train_by_epochs(tmp_path: Path) -> None:
    shared = {**TRAINING, "epochs": 3}
    by_iterations = one(tmp_path, shared, {"training": {"iterations": 50}})
    assert by_iterations.training.iterations == 50
    by_epochs = one(tmp_path, {**TRAINING, "iterations": 9}, {"training": {"epochs": 2}})
    assert (by_epochs.training.iterations, by_epochs.training.epochs) == (None, 2)


def test_an_optimizer_may_be_reset_in_each_experience(tmp_path: Path) -> None:
    adam = {"name": "Adam", "lr": 0.01, "betas": [0.5, 0.9]}
    kept, reset = (one(tmp_path, optimizer={**adam, "reset": reset}) for reset in (False, True))
    assert "reset" not in kept.optimizer.args, "what is the default changes no hash"
    assert reset.optimizer.args["reset"] is True


def test_other_packages_models_may_have_several_heads(tmp_path: Path) -> None:
    sections = {
        "benchmark": {"name": "split_digits", "scenario": "task"},
        "model": {"name": "torchvision:resnet18", "multi_head": True},
    }
    assert one(tmp_path, **sections).model.args == {"multi_head": True}


@pytest.mark.parametrize(
    ("training", "line"),
    [
        (
            {"epochs": 2, "iterations": 5},
            "training.iterations: is 5, but 'epochs' is 2: give one of them",
        ),
        ({"iterations": 0}, "training.iterations: is 0, but must be greater than 0"),
        ({"repeats": 0}, "training.repeats: is 0, but must be greater than 0"),
        ({"clip_grad_norm": 0}, "training.clip_grad_norm: is 0, but must be greater than 0"),
        (
            {"criterion": "CrossEntropy"},
            "training.criterion: unknown criterion 'CrossEntropy' "
            "(did you mean 'CrossEntropyLoss'?)",
        ),
        (
            {"criterion": {"name": "CrossEntropyLoss", "smoothing": 0.1}},
            "training.criterion.smoothing: unknown key 'smoothing' "
            "(did you mean 'label_smoothing'?)",
        ),
        (
            {"criterion": {"name": "CrossEntropyLoss", "reduction": "sum"}},
            "training.criterion.reduction: is 'sum', but must be 'mean': methods assume that the "
            "loss is a mean over the mini-batch",
        ),
        (
            {"criterion": {"label_smoothing": 0.1}},
            "training.criterion.name: missing, must be the name of a criterion",
        ),
        (
            {"criterion": "StepLR"},
            "training.criterion: 'StepLR' is a scheduler, not a criterion: it goes into "
            "'training.scheduler'",
        ),
        (
            {"scheduler": {"name": "StepLR"}},
            "training.scheduler.step_size: missing, but 'StepLR' needs it (integer)",
        ),
        (
            {"scheduler": {"name": "StepLR", "step_size": 2, "by": "step"}},
            "training.scheduler.by: is 'step', but must be 'epoch' or 'iteration'",
        ),
        (
            {"iterations": 5, "iid": True},
            "training.iterations: is 5, but iid: true makes whole passes over all samples: give "
            "'epochs', not 'iterations'",
        ),
        (
            {"scheduler": {"name": "StepLR", "step_size": 2}, "iid": True},
            "training.scheduler: with iid: true there are no epochs or experiences to step by: "
            "give the scheduler by: iteration and reset: false",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    training: dict[str, Any], line: str, tmp_path: Path
) -> None:
    document = experiment_with(training={**TRAINING, **training})
    assert problems_of(document, tmp_path) == [line]


def test_a_method_is_blamed_only_for_its_own_mistakes(tmp_path: Path) -> None:
    methods = {"a": None, "b": {"training": {"criterion": "CrosEntropyLoss"}}}
    assert problems_of(experiment_with(methods=methods), tmp_path) == [
        "methods.b.training.criterion: unknown criterion 'CrosEntropyLoss' "
        "(did you mean 'CrossEntropyLoss'?)"
    ]
    methods = {"a": None, "b": {"training": {"iid": True}}}
    document = experiment_with(training={**TRAINING, "iterations": 5}, methods=methods)
    assert problems_of(document, tmp_path) == [
        "methods.b.training.iid: is true, but iid: true makes whole passes over all samples: give "
        "'epochs', not 'iterations'"
    ]
    methods = {"a": None, "b": {"model": {"hiden_sizes": [3]}}}
    assert problems_of(experiment_with(methods=methods), tmp_path) == [
        "methods.b.model.hiden_sizes: unknown key 'hiden_sizes' (did you mean 'hidden_sizes'?)"
    ]


def test_a_method_may_change_one_argument_of_a_shared_part(tmp_path: Path) -> None:
    scheduler = {"name": "StepLR", "step_size": 3, "gamma": 0.5}
    shared = {**TRAINING, "scheduler": scheduler, "criterion": "CrossEntropyLoss"}
    own = {"scheduler": {"step_size": 7}, "criterion": {"label_smoothing": 0.1}}
    changed = one(tmp_path, shared, {"training": own})
    assert changed.scheduler.args == {"step_size": 7, "gamma": 0.5}
    assert changed.criterion.args == {"label_smoothing": 0.1}
    without = one(tmp_path, shared, {"training": {"scheduler": None}})
    assert without.scheduler is None
    other = {"scheduler": {"name": "ExponentialLR", "gamma": 0.9}}
    assert one(tmp_path, shared, {"training": other}).scheduler.args == {"gamma": 0.9}
    swept = {"m": {"sweep": {"training.scheduler.step_size": [1, 2]}}}
    methods = loaded(experiment_with(training=shared, methods=swept), tmp_path).methods
    assert [each.scheduler.args["step_size"] for each in methods.values()] == [1, 2]


def test_no_epochs_are_as_epochs_left_out(tmp_path: Path) -> None:
    training = one(tmp_path, {**TRAINING, "epochs": None, "iterations": 4}).training
    assert (training.iterations, training.epochs) == (4, 1)


def test_defaults_change_no_hash(tmp_path: Path) -> None:
    def hash_with(**sections: Any) -> str:
        return loaded(experiment_with(**sections), tmp_path).cells()[0].hash

    sgd = {"name": "SGD", "lr": 0.05}
    assert hash_with(optimizer={**sgd, "reset": False}) == hash_with(optimizer=sgd)
    assert hash_with(optimizer={**sgd, "reset": True}) != hash_with(optimizer=sgd)


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        (
            {
                "training": {**TRAINING, "criterion": "MultiMarginLoss"},
                "methods": {"a": {"strategy": "avalanche:ER_ACE"}},
            },
            "methods.a.training.criterion: is 'MultiMarginLoss', but 'avalanche:ER_ACE' has a loss "
            "of its own: set it to null for this method",
        ),
        (
            {
                "training": {**TRAINING, "clip_grad_norm": 1.0},
                "methods": {"a": {"plugins": ["bgd"]}},
            },
            "methods.a.training.clip_grad_norm: has no effect with 'bgd', which moves the weights "
            "itself: set it to null for this method",
        ),
        (
            {
                "training": {**TRAINING, "iid": True},
                "optimizer": {"name": "SGD", "lr": 0.1, "reset": True},
                "methods": {"a": None},
            },
            "methods.a.optimizer.reset: is true, but with iid: true there are no experiences to "
            "start from: set it to false for this method",
        ),
        (
            {
                "benchmark": {"name": "split_digits", "online": 10},
                "training": {**TRAINING, "iterations": 5},
                "methods": {"a": None},
            },
            "training.iterations: benchmark.online cuts experiences into parts of 10 samples, "
            "which have epochs of their own: give 'epochs', the passes over each part",
        ),
        (
            {
                "benchmark": {"name": "split_digits", "online": 10},
                "training": {**TRAINING, "scheduler": {"name": "StepLR", "step_size": 2}},
                "methods": {"a": None},
            },
            "training.scheduler: benchmark.online cuts experiences into parts of 10 samples, which "
            "have epochs of their own: give the scheduler by: iteration",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(
    sections: dict[str, Any], line: str, tmp_path: Path
) -> None:
    assert problems_of(experiment_with(**sections), tmp_path) == [line]


@pytest.mark.parametrize(
    ("strategy", "args", "training", "line"),
    [
        (
            "GenerativeReplay",
            {},
            {"iterations": 5},
            "training.iterations: is 5, but 'avalanche:GenerativeReplay' needs epochs: give "
            "'epochs'",
        ),
        (
            "FeatureReplay",
            {"mem_size": 5},
            {},
            "args.mem_size: is 5, but must be at least 10, the batch_size_mem of "
            "'avalanche:FeatureReplay'",
        ),
    ],
)
def test_strategies_that_would_hang_or_do_otherwise_are_refused(
    strategy: str, args: dict[str, Any], training: dict[str, Any], line: str, tmp_path: Path
) -> None:
    method = {"strategy": f"avalanche:{strategy}", "args": args, "training": training}
    assert problems_of(experiment_with(methods={"m": method}), tmp_path) == [f"methods.m.{line}"]


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_a_decay_by_default_counts_with_packnet(name: str, tmp_path: Path) -> None:
    packnet = {
        "strategy": "avalanche:PackNet",
        "args": {"post_prune_epochs": 1, "prune_proportion": 0.5},
    }
    document = experiment_with(
        benchmark={"name": "split_digits", "scenario": "task"},
        optimizer={"name": name, "lr": 0.01},
        training={"batch_size": 10, "epochs": 2},
        methods={"m": packnet},
    )
    decay = (
        "methods.m.optimizer.weight_decay: is 0.01, but must be 0 with 'avalanche:PackNet', whose "
        "frozen weights it would shrink"
    )
    if name == "AdamW":
        assert problems_of(document, tmp_path) == [decay]
    else:
        loaded(document, tmp_path)


def test_a_loss_that_is_a_function_is_refused(tmp_path: Path) -> None:
    source = "def loss(outputs, labels):\n    return outputs.sum()\n"
    (tmp_path / "mine.py").write_text(source, "utf-8")
    document = experiment_with(training={**TRAINING, "criterion": "./mine.py:loss"})
    assert problems_of(document, tmp_path) == [
        "training.criterion: './mine.py:loss' is a function, but must be a class: a criterion is "
        "made for each run"
    ]


def test_a_resolved_recipe_can_be_read_again(tmp_path: Path) -> None:
    training = {
        **TRAINING,
        "iterations": 5,
        "repeats": 2,
        "clip_grad_norm": 1.0,
        "criterion": "MultiMarginLoss",
        "scheduler": {"name": "StepLR", "step_size": 3, "by": "iteration"},
    }
    optimizer = {"name": "Adam", "lr": 0.01, "reset": True}
    method = {"model": {"hidden_sizes": [7]}}
    document = experiment_with(training=training, optimizer=optimizer, methods={"m": method})
    cell = loaded(document, tmp_path).cells()[0]
    cell.files(tmp_path).begin()
    again = load_experiment(cell.directory(tmp_path) / "config.yaml").cells()[0]
    assert again.hash == cell.hash
