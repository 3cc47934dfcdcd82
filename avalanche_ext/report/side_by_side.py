"""The picture of methods over several experiments: their ranks, and how often each wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from avalanche_ext.report.duels import Wins, count_wins, jeffreys_interval
from avalanche_ext.report.layout import number, p_text
from avalanche_ext.report.paired import FEWEST_PAIRS
from avalanche_ext.report.ranking import Ranking, on_left_out, ranking
from avalanche_ext.report.rows import SMALL
from avalanche_ext.report.style import measured_on, set_title
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "side_by_side"
"""The name of the picture's file without the extension."""

MOST_WITH_NUMBERS = 25
"""Maximum number of methods with numbers in their cells."""

_ON_DARK, _ON_PALE = "#fefefe", "#101010"
"""The colours of numbers, which stay the same on a dark page, like those of cells."""

_CELL = 0.42
"""Inches of a cell."""


def caption(experiments: Sequence[ExperimentResults]) -> str:
    """Return a caption of a few sentences."""
    shown = ranking(experiments)
    below = (
        "Share of pairs with the same seed in which the row's method has a higher ACC than the "
        f"column's, over {count(len(experiments), 'experiment')}; a tie counts half. Bold: "
        "Jeffreys' 95 % interval excludes 1/2 (not corrected for the number of cells), with at "
        f"least {FEWEST_PAIRS} pairs."
    )
    if not shown or not shown.has_verdict:
        return below
    above = (
        "Above: mean ranks (1 is best); bars join methods that Nemenyi's test cannot tell apart at "
        "the 5 % level (Demšar, 2006)."
    )
    left_out = on_left_out(shown)
    return " ".join(filter(None, [above, left_out, f"Below: {below[0].lower()}{below[1:]}"]))


def side_by_side_figure(experiments: Sequence[ExperimentResults]) -> Figure | None:
    """Demšar's diagram of mean ranks, and a matrix of how often methods win, in ACC.

    Below `ranking.FEWEST_FOR_VERDICT` experiments there are no ranks, because they could hardly
    distinguish methods.

    Args:
        experiments: The experiments, all on the test stream or all on validation samples.

    Returns:
        A figure without a window; None for one experiment, for accuracies on both kinds of samples,
        and if no two methods share a seed.
    """
    from matplotlib.figure import Figure

    wins = count_wins(experiments)
    if len(experiments) < 2 or not wins or len({each.split for each in experiments}) > 1:
        return None
    ranks = ranking(experiments)
    has_ranks = ranks is not None and ranks.has_verdict
    size = 2.6 + _CELL * len(wins.names)
    above = 1.0 + 0.13 * len(wins.names) if has_ranks else 0.0
    figure = Figure(figsize=(max(7.0, size), size + above), layout="constrained")
    title = f"{count(len(experiments), 'experiment')}{measured_on(experiments[0])}, ACC"
    if ranks and has_ranks:
        top, bottom = figure.subplots(2, 1, height_ratios=(above, size))
        draw_ranks(top, ranks)
    else:
        bottom = figure.subplots()
    draw_wins(bottom, wins)
    set_title(figure, title)
    return figure


def draw_wins(axes: Axes, wins: Wins) -> None:
    """Draw who wins: violet if the row's method does, orange if the column's does.

    Args:
        axes: The matplotlib axes to draw on.
        wins: The counts.
    """
    from avalanche_ext.report.series import Series

    shares = wins.probabilities
    edges = np.arange(len(wins.names) + 1) - 0.5
    axes.pcolormesh(edges, edges, shares, cmap="PuOr", vmin=0.0, vmax=1.0)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    places = range(len(wins.names))
    axes.set_xticks(places, wins.names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, wins.names)
    axes.set_xlabel("against this method")
    axes.set_ylabel("share of pairs won by")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    cells = [(i, j) for i, j in np.ndindex(*shares.shape) if wins.n_pairs[i, j]]
    texts = []
    for i, j in cells:
        won, n = float(wins.won[i, j]), int(wins.n_pairs[i, j])
        share = number(won / n, 2)
        texts.append(f"{wins.names[i]} beats {wins.names[j]} in {won:g} of {n} pairs ({share})")
        if len(wins.names) > MOST_WITH_NUMBERS:
            continue
        low, high = jeffreys_interval(won, n)
        is_sure = n >= FEWEST_PAIRS and not low <= 0.5 <= high
        axes.text(
            j, i, share, ha="center", va="center", fontsize=SMALL,
            fontweight="bold" if is_sure else "normal",
            color=_ON_DARK if abs(won / n - 0.5) > 0.3 else _ON_PALE,
        )  # fmt: skip
    axes.add_line(Series([j for _, j in cells], [i for i, _ in cells], texts, ls=""))


def draw_ranks(axes: Axes, ranks: Ranking) -> None:
    """Draw Demšar's (2006) diagram: mean ranks on a line, and bars over indistinguishable ones.

    Args:
        axes: The matplotlib axes to draw on, which lose their frame.
        ranks: The ranks, of three methods or more.
    """
    assert ranks.critical_difference is not None
    n = len(ranks.ranks)
    n_left = -(-n // 2)
    bars = ranks.alike
    axes.set_xlim(1 - 0.35 * (n - 1), n + 0.35 * (n - 1))
    axes.set_ylim(-1.4 - n_left - 0.5 * len(bars), 2.6)
    axes.set_axis_off()
    axes.plot([1, n], [0, 0], color="black", lw=1)
    for tick in range(1, n + 1):
        axes.plot([tick, tick], [0, 0.25], color="black", lw=1)
        axes.text(tick, 0.4, str(tick), ha="center", va="bottom", fontsize=SMALL)
    axes.plot([1, 1 + ranks.critical_difference], [1.7, 1.7], color="black", lw=2)
    distance = f"critical difference {number(ranks.critical_difference, 2)}"
    axes.text(
        1, 1.9, f"{distance}; Friedman's test: {p_text(ranks.friedman)}", va="bottom",
        fontsize=SMALL,
    )  # fmt: skip
    for k, group in enumerate(bars):
        ends = [ranks.ranks[group[0]] - 0.03, ranks.ranks[group[-1]] + 0.03]
        axes.plot(ends, [-0.5 - 0.5 * k] * 2, color="black", lw=3, solid_capstyle="butt")
    for place, (name, rank) in enumerate(ranks.ranks.items()):
        is_left = place < n_left
        y = -1.0 - 0.5 * len(bars) - (place if is_left else n - 1 - place)
        edge = 1 - 0.1 * (n - 1) if is_left else n + 0.1 * (n - 1)
        axes.plot([rank, rank, edge], [0, y, y], color="black", lw=0.8)
        axes.annotate(
            f"{name} {number(rank, 2)}", (edge, y), (-3 if is_left else 3, 0),
            textcoords="offset points", ha="right" if is_left else "left", va="center",
        )  # fmt: skip
