"""Sentences below a table: on its columns, and instead of uninformative columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.layout import NONE, number, plus_minus
from avalanche_ext.report.sheet import Column
from avalanche_ext.report.statistics import MethodStatistics, over_same_seeds, tests_in
from avalanche_ext.results.experiment import ExperimentResults


def notes_of(
    results: ExperimentResults, statistics: Sequence[MethodStatistics], columns: Sequence[Column]
) -> list[str]:
    """Return the sentences that readers need, on columns and on metrics without a column."""
    named = {*(results.published or ()), *(claim.metric for claim in results.claims)}
    over_samples = (
        "instance_accuracy: accuracy over the pooled test samples of all experiences (Jin et al., "
        "2021)."
    )
    cells = [cell for column in columns for cell in column.cells]
    spread = any("±" in cell for cell in cells)
    return [
        *on_absent([results]),
        *on_baseline(results, statistics),
        f"Accuracies are fractions{'; ± is the sample standard deviation over seeds' * spread}.",
        *(column.note for column in columns if column.note),
        *filter(None, said_in_notes(results, statistics).values()),
        *([over_samples] if "instance_accuracy" in named else []),
        *(
            [
                "Methods trained iid (on all experiences at once, shuffled) have only final "
                "accuracies."
            ]
            if any(method.is_iid for method in results.methods)
            else []
        ),
        *(
            [
                "Their AAA averages over all test experiences from the start, that of the others "
                "over those seen so far."
            ]
            if _has_iid_curves(results, statistics)
            else []
        ),
        *([f"{NONE}: not measured or undefined."] if NONE in cells else []),
    ]


def _has_iid_curves(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> bool:
    is_iid = {method.name: method.is_iid for method in results.methods}
    with_curves = {is_iid[row.name] for row in statistics if row.metrics["AAA"]}
    return with_curves == {True, False}


def on_absent(experiments: Sequence[ExperimentResults]) -> list[str]:
    """Return a sentence on the methods left out of a table because no run has finished."""
    finished = {method.name for results in experiments for method in results.finished}
    names = dict.fromkeys(each.name for results in experiments for each in results.methods)
    without = [name for name in names if name not in finished]
    return [f"No finished runs: {', '.join(without)}."] if finished and without else []


def on_baseline(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> list[str]:
    """Return a sentence on why no method is tested against the baseline, if none is."""
    finished = {method.name for method in results.finished}
    if not finished - {results.baseline} or not results.baseline or tests_in("ACC", statistics):
        return []
    if results.baseline not in finished:
        return [f"No tests: the baseline {results.baseline} has no finished run."]
    return [f"No tests: no method has a seed in common with the baseline {results.baseline}."]


def on_best(experiments: Sequence[ExperimentResults], columns: Sequence[Column]) -> str:
    """Return a sentence on bold numbers; "" if there are none."""
    if not any(column.best for column in columns):
        return ""
    some = any(
        len(over_same_seeds(results)) < sum(not method.is_iid for method in results.finished)
        for results in experiments
    )
    which = " of the methods that ran the same seeds; the others ran different ones" * some
    iid = any(method.is_iid for results in experiments for method in results.finished)
    return f"Bold: best{which}.{' Methods trained iid are never bold.' * iid}"


def said_in_notes(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Mapping[str, str]:
    """Return a sentence, possibly empty, for each metric whose column would add nothing."""
    said = {}
    fwt = [each for row in statistics if (each := row.metrics["FWT"])]
    if len(fwt) > 1 and _is_of_the_seed(results, "FWT"):
        widest = max(fwt, key=lambda each: each.n)
        same_seeds = len({each.n for each in fwt}) == 1
        mean = plus_minus(widest, signed=True)
        same = "" if same_seeds else " with the same seed"
        said["FWT"] = f"FWT is {mean} for all methods{same}."
    forgot = [row for row in statistics if row.metrics["forgetting"]]
    if forgot and all(_forgets_what_bwt_says(row) for row in forgot):
        said["forgetting"] = "Forgetting (Chaudhry et al., 2018) equals -BWT."
    for metric in ("learning_accuracy", "average_incremental_accuracy"):
        if all(row.metrics[metric] in (None, row.metrics["ACC"]) for row in statistics):
            said[metric] = ""
    learned = "ACC" if "learning_accuracy" in said else "learned"
    return {**said, "intransigence": _on_intransigence(statistics, learned)}


def _is_of_the_seed(results: ExperimentResults, metric: str) -> bool:
    """Return whether methods with the same seed have the same value."""
    by_seed: dict[int, dict[str, str]] = {}
    for method in results.methods:
        for seed, cell in method.cells.items():
            value = cell.metrics[metric]
            if value is not None:
                by_seed.setdefault(seed, {})[method.name] = number(value)
    compared = {name for values in by_seed.values() if len(values) > 1 for name in values}
    return all(
        len({*values.values()}) == 1 and compared.issuperset(values) for values in by_seed.values()
    )


def _forgets_what_bwt_says(row: MethodStatistics) -> bool:
    bwt, forgetting = row.metrics["BWT"], row.metrics["forgetting"]
    return bool(bwt and forgetting) and plus_minus(forgetting) == plus_minus(
        bwt and Estimate(-bwt.mean, bwt.std, bwt.n)
    )


def _on_intransigence(statistics: Sequence[MethodStatistics], shown: str) -> str:
    """Intransigence differs from learning accuracy by the same number for all methods."""
    for row in statistics:
        intransigence, learned = row.metrics["intransigence"], row.metrics["learning_accuracy"]
        if intransigence and learned:
            return (
                "Intransigence (Chaudhry et al., 2018; relative to the best of these methods) "
                f"equals {number(intransigence.mean + learned.mean)} - {shown}."
            )
    return ""
