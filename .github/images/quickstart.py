"""Draw the README's picture from the results of the quickstart.

    avalanche-ext run experiments/quickstart.yaml
    python .github/images/quickstart.py results/quickstart

It writes quickstart.png beside this file.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from avalanche_ext.results.experiment import read_results

COLOURS = {
    "naive": "#0072b2",
    "replay": "#d55e00",
    "er": "#009e73",
    "ber": "#cc79a7",
    "drl": "#222222",
}


def accuracies(results: Path, method: str) -> np.ndarray:
    """Mean accuracy on the experiences so far: seeds × experiences."""
    (runs,) = (each for each in read_results(results).methods if each.name == method)
    return np.array([[np.mean(row[: i + 1]) for i, row in enumerate(R)] for R in runs.matrices])


def draw(results: Path) -> plt.Figure:
    """Left: every method over the stream. Right: each seed at its end, without `naive`."""
    figure, (stream, end) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for place, (method, colour) in enumerate(COLOURS.items()):
        runs = accuracies(results, method)
        experiences = np.arange(1, runs.shape[1] + 1)
        stream.plot(experiences, runs.mean(0), "o-", color=colour, label=method, markersize=4)
        if method != "naive":
            end.plot(np.full(len(runs), place), runs[:, -1], "o", color=colour, alpha=0.5)
            end.hlines(runs[:, -1].mean(), place - 0.3, place + 0.3, color=colour, linewidth=3)
    stream.set(xlabel="experiences learned", xticks=experiences, ylim=(0, 1.03))
    stream.set_ylabel("accuracy on experiences so far")
    stream.legend(frameon=False, loc="lower left")
    end.set_xticks(range(1, len(COLOURS)), list(COLOURS)[1:])
    end.set_title("after the last experience: five seeds and their mean", fontsize=10)
    stream.set_title("mean of five seeds", fontsize=10)
    for axes in (stream, end):
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    mpl.use("agg")
    draw(Path(sys.argv[1])).savefig(
        Path(__file__).with_suffix(".png"), dpi=110, facecolor="white", metadata={"Software": None}
    )
