"""What was tried and chosen on validation samples."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import yaml

from avalanche_ext.results.tune import Choice, Tried, ranking, read_choice

LR, LAM, SIZES = "optimizer.lr", "plugins[1].drl.lam", "model.hidden_sizes"


def tried(lr: float, *scores: float, failed: str = "") -> Tried:
    whole = dict(enumerate(scores))
    return Tried({LR: lr}, whole, {len(scores): failed} if failed else {})


def choice(metric: str = "ACC", chosen: str = "b", **settings: Tried) -> Choice:
    settings = settings or {"a": tried(0.1, 0.5, 0.7), "b": tried(0.2, 0.75, 0.85)}
    return Choice(
        method="drl",
        metric=metric,
        experiences=3,
        validation_per_experience=200,
        sampler="grid",
        seeds=[0, 1],
        searched={LR: [0.1, 0.2, 0.3]},
        tried=settings,
        chosen=chosen,
        bounds={LR: ["largest"]},
    )


def test_the_best_mean_comes_first_and_of_equal_ones_the_first() -> None:
    settings = {
        "low": tried(0.1, 0.2, 0.4),
        "failed": tried(0.2, 0.9, failed="diverged"),
        "high": tried(0.3, 0.5, 0.7),
        "as_high": tried(0.4, 0.7, 0.5),
    }
    assert ranking(settings, [0, 1], "ACC") == ("high", "as_high", "low")
    assert ranking(settings, [0, 1], "forgetting") == ("low", "high", "as_high")
    assert choice(chosen="high", **settings).without_score == {"failed": "diverged"}


def test_the_margin_is_paired_by_seed_and_positive_where_the_choice_is_better() -> None:
    margin = choice().margin
    assert margin is not None
    assert margin.mean == pytest.approx(0.2)
    assert margin.std == pytest.approx(0.05 * 2**0.5)
    lower = choice("forgetting", "a").margin
    assert lower is not None
    assert lower.mean == pytest.approx(0.2)
    assert choice(b=tried(0.2, 0.8, 0.8)).margin is None


def test_a_choice_at_the_edge_of_its_numbers_is_named() -> None:
    settings = {"b": Tried({LR: 0.1, LAM: 2, SIZES: [8], "x": True}, {0: 1.0, 1: 1.0})}
    made = choice(**settings)
    searched = {LR: [0.3, 0.1], LAM: [1, 2, 3], SIZES: [[8], [9]], "x": [True, False]}
    at_edges = [*Choice(**{**vars(made), "searched": searched}).at_edges()]
    assert at_edges == [(LR, "smallest")]
    # No learning rate can be lower.
    bounded = {**vars(made), "searched": searched, "bounds": {LR: ["smallest"]}}
    assert not [*Choice(**bounded).at_edges()]
    one = Choice(**{**vars(made), "searched": {LR: [0.1]}})
    assert not [*one.at_edges()]


def test_a_choice_survives_a_file_and_another_is_refused() -> None:
    content: dict[str, Any] = yaml.safe_load(yaml.safe_dump(asdict(choice())))
    assert read_choice(content) == choice()
    with pytest.raises(ValueError, match="'drl' is not one of its settings"):
        read_choice({**content, "chosen": "c"})
