"""Ranges of Avalanche's and torch's arguments, which their signatures do not show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.config.cases import experiment_with, loaded, problems_of


def strategy(name: str, **args: Any) -> dict[str, Any]:
    return experiment_with(methods={"m": {"strategy": f"avalanche:{name}", "args": args}})


def optimizer(name: str, **args: Any) -> dict[str, Any]:
    return experiment_with(optimizer={"name": name, **args})


def training(**keys: Any) -> dict[str, Any]:
    return experiment_with(training={"batch_size": 10, **keys})


def scheduler(name: str, **args: Any) -> dict[str, Any]:
    return training(scheduler={"name": name, **args}, epochs=5)


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (
            strategy("EWC", ewc_lambda=-1),
            "methods.m.args.ewc_lambda: is -1, but must be at least 0",
        ),
        (
            strategy("EWC", ewc_lambda=1, mode="onlin"),
            "methods.m.args.mode: is 'onlin', but must be 'separate' or 'online' "
            "(did you mean 'online'?)",
        ),
        (
            strategy("EWC", ewc_lambda=1, mode="online"),
            "methods.m.args.decay_factor: missing, but mode 'online' needs it "
            "(a number from 0 to 1)",
        ),
        (
            strategy("EWC", ewc_lambda=1, decay_factor=0.5),
            "methods.m.args.decay_factor: is 0.5, but only mode 'online' has it: "
            "add mode: online, or leave it out",
        ),
        (
            strategy("LwF", alpha=1, temperature=0),
            "methods.m.args.temperature: is 0, but must be greater than 0",
        ),
        (
            strategy("LwF", alpha=[1, -1], temperature=2),
            "methods.m.args.alpha[1]: is -1, but must be at least 0",
        ),
        (
            strategy("Replay", mem_size=0),
            "methods.m.args.mem_size: is 0, but must be greater than 0",
        ),
        (
            strategy("MER", mem_size=[]),  # MER has no annotations.
            "methods.m.args.mem_size: is [], but must be an integer",
        ),
        (
            strategy("GEM", patterns_per_exp=0),
            "methods.m.args.patterns_per_exp: is 0, but must be greater than 0",
        ),
        (
            strategy("GEM", patterns_per_exp=9, memory_strength=-0.5),
            "methods.m.args.memory_strength: is -0.5, but must be at least 0",
        ),
        (strategy("DER", beta=-1), "methods.m.args.beta: is -1, but must be at least 0"),
        (strategy("MAS", alpha=2), "methods.m.args.alpha: is 2, but must be at most 1"),
        (
            optimizer("Adam", betas=[0.9, 1.0]),
            "optimizer.betas[1]: is 1.0, but must be less than 1",
        ),
        (optimizer("SGD", momentum=1), "optimizer.momentum: is 1, but must be less than 1"),
        (optimizer("Adam", eps=-1e-8), "optimizer.eps: is -1e-08, but must be at least 0"),
        (
            optimizer("SGD", nesterov=True),
            "optimizer.nesterov: is true, but needs a momentum above 0: "
            "add 'momentum', such as 0.9",
        ),
        (
            optimizer("SGD", nesterov=True, momentum=0.9, dampening=0.5),
            "optimizer.dampening: is 0.5, but must be 0 with nesterov: true",
        ),
        (
            optimizer("Rprop", etas=[1.2, 0.5]),
            "optimizer.etas: is [1.2, 0.5], but must be [below 1, above 1]",
        ),
        (
            scheduler("StepLR", step_size=0),
            "training.scheduler.step_size: is 0, but must be greater than 0",
        ),
        (
            scheduler("CosineAnnealingLR", T_max=0),
            "training.scheduler.T_max: is 0, but must be greater than 0",
        ),
        (
            scheduler("ExponentialLR", gamma=-0.1),
            "training.scheduler.gamma: is -0.1, but must be greater than 0",
        ),
        (
            scheduler("MultiStepLR", milestones=[3, 0]),
            "training.scheduler.milestones[1]: is 0, but must be greater than 0",
        ),
        (
            scheduler("CyclicLR", base_lr=0.2, max_lr=0.1),
            "training.scheduler.base_lr: is 0.2, but must be at most max_lr, which is 0.1",
        ),
        (
            scheduler("OneCycleLR", max_lr=0.1),
            "training.scheduler.total_steps: missing, but 'OneCycleLR' needs it, or both 'epochs' "
            "and 'steps_per_epoch'",
        ),
        (
            scheduler("OneCycleLR", max_lr=0.1, total_steps=4),
            "training.scheduler.total_steps: gives 'OneCycleLR' 4 steps, but must give at least 5: "
            "as many as training.epochs",
        ),
        (
            scheduler("OneCycleLR", max_lr=0.1, total_steps=24, reset=False),
            "training.scheduler.total_steps: gives 'OneCycleLR' 24 steps, but must give at least "
            "25: as many as training.epochs for each of 5 experiences",
        ),
        (
            scheduler("torch.optim.lr_scheduler:OneCycleLR", max_lr=0.1, total_steps=4),
            "training.scheduler.total_steps: gives 'OneCycleLR' 4 steps, but must give at least 5: "
            "as many as training.epochs",
        ),
        (
            training(
                iterations=100, scheduler={"name": "OneCycleLR", "max_lr": 0.1, "total_steps": 3}
            ),
            "training.scheduler: 'OneCycleLR' has a fixed number of steps, but the number of "
            "epochs in training.iterations is unknown: give the scheduler by: iteration",
        ),
        (
            {
                **scheduler("CyclicLR", base_lr=0.1, max_lr=0.2),
                "optimizer": {"name": "Adagrad", "lr": 0.1},
            },
            "training.scheduler: 'CyclicLR' changes the momentum, but 'Adagrad' has none: set "
            "training.scheduler.cycle_momentum to false",
        ),
        (
            {
                **scheduler("CyclicLR", base_lr=0.1, max_lr=0.2),
                "methods": {"m": {"optimizer": {"name": "Adagrad", "lr": 0.1}}},
            },
            "methods.m.optimizer: 'CyclicLR' changes the momentum, but 'Adagrad' has none: set "
            "training.scheduler.cycle_momentum to false",
        ),
        (
            {
                **scheduler("OneCycleLR", max_lr=0.1, total_steps=25, reset=False),
                "methods": {"m": {"training": {"epochs": 6}}},
            },
            "methods.m.training.epochs: is 6 for each of 5 experiences, but must be at most 5: as "
            "many steps as training.scheduler has",
        ),
        (
            {
                **scheduler("OneCycleLR", max_lr=0.1, total_steps=5),
                "methods": {"m": {"training": {"epochs": 6}}},
            },
            "methods.m.training.epochs: is 6, but must be at most 5: as many steps as "
            "training.scheduler has",
        ),
        (
            training(criterion={"name": "CrossEntropyLoss", "label_smoothing": 1.5}),
            "training.criterion.label_smoothing: is 1.5, but must be at most 1",
        ),
    ],
)
def test_a_value_that_means_nothing_is_refused(
    document: dict[str, Any], line: str, tmp_path: Path
) -> None:
    assert problems_of(document, tmp_path) == [line]


@pytest.mark.parametrize(
    "document",
    [
        strategy("EWC", ewc_lambda=0, mode="online", decay_factor=0.9),
        strategy("LwF", alpha=[0, 1], temperature=0.5),
        strategy("MIR", mem_size=100, subsample=50, batch_size_mem=10),
        optimizer("Adam", betas=[0.0, 0.99], eps=0),
        optimizer("Adafactor", eps=[None, 0.001]),
        optimizer("SGD", nesterov=True, momentum=0.9),
        scheduler("OneCycleLR", max_lr=[0.1], total_steps=5),
        scheduler("OneCycleLR", max_lr=0.1, total_steps=25, reset=False),
        {
            **scheduler("CyclicLR", base_lr=0.1, max_lr=0.2, cycle_momentum=False),
            "optimizer": {"name": "Adagrad", "lr": 0.1},
        },
        {
            **scheduler("CyclicLR", base_lr=0.1, max_lr=0.2),
            "optimizer": {"name": "Adam", "lr": 0.1},
        },
        scheduler("OneCycleLR", max_lr=0.1, epochs=5, steps_per_epoch=20, by="iteration"),
        training(criterion={"name": "CrossEntropyLoss", "label_smoothing": 1}),
    ],
)
def test_the_ends_of_a_range_belong_to_it(document: dict[str, Any], tmp_path: Path) -> None:
    loaded(document, tmp_path)


def test_nothing_is_known_about_a_users_argument(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch.optim import SGD\n\n\n"
        "class Uphill(SGD):\n"
        "    def __init__(self, params, lr: float = -0.1):\n"
        "        super().__init__(params, lr=-lr)\n"
    )
    loaded(optimizer("./mine.py:Uphill", lr=-0.5), tmp_path)
