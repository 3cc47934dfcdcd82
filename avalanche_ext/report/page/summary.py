"""An experiment's results in plain sentences: which methods beat the baseline, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from avalanche_ext.report.layout import number, p_text, plus_minus
from avalanche_ext.report.notes import on_baseline
from avalanche_ext.report.paired import CONFIDENCE, FEWEST_PAIRS, PairedTest
from avalanche_ext.report.statistics import MethodStatistics, over_same_seeds, tests_in
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.words import count

_METRIC = "ACC"
_MOST_NAMED = 4
"""Maximum number of methods that one sentence names with their numbers."""


def sentences(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> list[str]:
    """Return the experiment's findings as sentences, the most important first.

    Args:
        results: The experiment.
        statistics: `method_statistics` of the same results.
    """
    return [
        *_comparison(results, statistics),
        *_best(results, statistics),
        *_chosen(results),
        *_sweeps(results),
    ]


def _comparison(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Iterator[str]:
    """Yield sentences on the methods that are better than the baseline, worse, or neither."""
    tests = tests_in(_METRIC, statistics)
    if not results.baseline:
        yield "The YAML names no baseline, so no method is tested against one."
    if not tests:
        yield from on_baseline(results, statistics)
        return
    untested = [name for name, test in tests.items() if test.t_test_holm is None]
    tested = {name: test for name, test in tests.items() if name not in untested}
    significant = {name: test for name, test in tested.items() if test.is_significant}
    better = {name: test for name, test in significant.items() if _mean(test) > 0}
    worse = {name: test for name, test in significant.items() if _mean(test) < 0}
    others = {name: test for name, test in tested.items() if name not in significant}
    n = count(len(tests), "method")
    if better and len(tests) == 1:
        ((name, test),) = better.items()
        yield f"{name} beats {results.baseline} in ACC {_difference(test, 'higher')}."
    elif better:
        verb = "beats" if len(better) == 1 else "beat"
        yield f"{len(better)} of {n} {verb} {results.baseline} in ACC: {_listed(better, 'higher')}."
    elif tested and len(tests) == 1:
        yield f"{next(iter(tests))} does not significantly beat {results.baseline} in ACC."
    elif tested:
        yield f"None of {n} significantly beats {results.baseline} in ACC."
    if others:
        yield f"Not significantly different from {results.baseline}: {_listed(others)}."
    if worse:
        verb = "is" if len(worse) == 1 else "are"
        yield f"{len(worse)} of {n} {verb} worse: {_listed(worse, 'lower')}."
    if untested:
        yield (
            f"Not tested: {_and(untested, _MOST_NAMED)}. A test needs at least two seeds in common "
            f"with {results.baseline}, and differences that vary."
        )
    if not tested:
        return
    few = min(test.n_pairs for test in tested.values())
    if few < FEWEST_PAIRS:
        yield (
            f"Caution: with only {count(few, 'seed')}, the tests rely on normally distributed "
            f"differences. With fewer than {FEWEST_PAIRS} seeds, no difference is called "
            "significant."
        )
    yield (
        "p-values come from two-sided paired t-tests over seeds, with Holm's correction for all "
        f"tests in ACC. Intervals are {100 * CONFIDENCE:g} % bootstrap confidence intervals of the "
        "mean difference, without correction."
    )


def _listed(tests: dict[str, PairedTest], wins: str | None = None) -> str:
    """Methods with their differences, the largest first.

    Args:
        tests: Their tests.
        wins: Whether to count the seeds with "higher" or "lower" values, and to give the interval.
    """
    order = sorted(tests, key=lambda name: abs(_mean(tests[name])), reverse=True)
    return _and([f"{name} {_difference(tests[name], wins)}" for name in order], _MOST_NAMED)


def _difference(test: PairedTest, wins: str | None) -> str:
    p = p_text(test.t_test_holm)
    if not wins:
        return f"({number(_mean(test), signed=True)}, {p})"
    parts = [p]
    if test.interval:
        low, high = (number(end, signed=True) for end in test.interval)
        parts.insert(0, f"interval {low} to {high}")
    n = test.wins if wins == "higher" else test.n_pairs - test.wins
    by = number(abs(_mean(test)))
    return f"by {by} ({', '.join(parts)}, {wins} for {n:g} of {count(test.n_pairs, 'seed')})"


def _best(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> Iterator[str]:
    found = {each.name: acc for each in statistics if (acc := each.metrics[_METRIC])}
    iid = {method.name for method in results.methods if method.is_iid}
    compared = over_same_seeds(results)
    if not compared and found.keys() - iid:
        yield "All methods ran different seeds, so none is called the best."
        return
    learned = {name: acc for name, acc in found.items() if name in compared} or found
    if not learned:
        yield "No run has finished yet."
        return
    best = max(learned, key=lambda name: learned[name].mean)
    among = ""
    if iid & found.keys():
        among = " among methods trained on one experience after another"
    if found.keys() - iid - learned.keys():
        among += f"{' and' if among else ' among methods'} run with the same seeds"
    text = f"The highest mean ACC{among} is {best}'s, {plus_minus(learned[best])}"
    if results.baseline in found and best != results.baseline:
        text += f"; {results.baseline} has {plus_minus(found[results.baseline])}"
    yield f"{text} (mean and standard deviation over seeds)." if "±" in text else f"{text}."


def _chosen(results: ExperimentResults) -> Iterator[str]:
    if results.choices:
        names = _and([choice.method for choice in results.choices], _MOST_NAMED)
        yield (
            f"The hyper-parameters of {names} were chosen on held-out validation samples, not on "
            "these results."
        )


def _sweeps(results: ExperimentResults) -> Iterator[str]:
    if results.sweeps:
        names = _and([*results.sweeps], _MOST_NAMED)
        yield (
            f"Swept: {names}. Figures that draw one setting of a swept method draw the one with "
            "the highest mean ACC on these same results, so its accuracy is optimistic."
        )


def _and(names: Sequence[str], most: int) -> str:
    """Return names as a list in a sentence, at most the first `most` of them."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _mean(test: PairedTest) -> float:
    return test.difference.mean if test.difference else 0.0
