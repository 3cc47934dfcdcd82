"""The report's section on hyper-parameters that were chosen on validation samples."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import yaml

from avalanche_ext.report.choices import choice_notes, choices_section, choices_sheets
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.table import text_table
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.tune import Choice, Tried

LR, LAM = "optimizer.lr", "plugins[1].drl.lam"

CHOICE = Choice(
    method="drl",
    metric="ACC",
    experiences=3,
    validation_per_experience=200,
    sampler="grid",
    seeds=[10_000, 10_001],
    searched={LR: [0.1, 0.2], LAM: [1, 2, 3]},
    tried={
        "drl-0.1-1": Tried({LR: 0.1, LAM: 1}, {10_000: 0.5, 10_001: 0.6}),
        "drl-0.2-2": Tried({LR: 0.2, LAM: 2}, {10_000: 0.8, 10_001: 0.6}),
        "drl-0.2-3": Tried({LR: 0.2, LAM: 3}, {10_000: 0.9}, {10_001: "the loss became nan"}),
    },
    chosen="drl-0.2-2",
)


def results(folder: Path, *choices: Choice):
    content = {
        "name": "x",
        "baseline": None,
        "methods": ["drl"],
        "seeds": [0],
        "choices": [asdict(each) for each in choices],
    }
    (folder / "record.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return read_results(folder)


def test_the_section_says_what_was_chosen_on_what_and_how_surely(tmp_path: Path) -> None:
    (lines,) = choices_section(results(tmp_path, CHOICE))
    text = " ".join(" ".join(lines).split())
    assert text == (
        "Hyper-parameters chosen by ACC (higher is better) on VALIDATION samples: 200 held out "
        "from each of the first 3 experiences; seeds 10000, 10001 "
        "method chosen ACC margin next best settings "
        "drl lr 0.2, lam 2 0.700 ± 0.141 +0.150 ± 0.212 lr 0.1, lam 1 3 of 6 "
        "Warning: drl's lr is the largest value tried (0.1, 0.2); a better one may lie beyond. "
        "Warning: 1 setting of drl failed, for example lr 0.2, lam 3: the loss became nan "
        "Caution: 2 seeds are too few to tell the chosen setting of drl from the next best."
    )


def test_papers_have_a_table_of_choices_too(tmp_path: Path) -> None:
    (sheet,) = choices_sheets(results(tmp_path, CHOICE))
    assert [*sheet.methods] == ["drl"]
    cells = {column.title: column.cells[0] for column in sheet.columns}
    assert cells["chosen"] == "lr 0.2, lam 2"
    assert cells["margin"].startswith("+0.150 ±")
    assert cells["next best"] == "lr 0.1, lam 1"
    assert any("too few to tell" in note for note in sheet.notes)


def test_choices_by_one_seed_are_doubted_in_one_sentence(tmp_path: Path) -> None:
    tried = {name: CHOICE.tried[name] for name in ("drl-0.1-1", "drl-0.2-2")}
    drl = replace(CHOICE, seeds=[10_000], tried=tried)
    notes = choice_notes(results(tmp_path, drl, replace(drl, method="er")))
    assert [note for note in notes if note.startswith("Caution")] == [
        "Caution: one seed is too few to tell the chosen setting of drl and er from the next best."
    ]


def test_without_a_search_nothing_is_said(tmp_path: Path) -> None:
    read = results(tmp_path)
    assert not [*choices_section(read)]
    assert "alidation" not in text_table(read, method_statistics(read))
    with_choice = results(tmp_path, CHOICE)
    assert "VALIDATION" in text_table(with_choice, method_statistics(with_choice))
