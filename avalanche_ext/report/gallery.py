"""All pictures of an experiment, with their names and captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avalanche_ext.report.differences import differences_figure
from avalanche_ext.report.diversity import Diversities, diversities_figure
from avalanche_ext.report.edits import edits_figure
from avalanche_ext.report.forms_picture import forms_figure
from avalanche_ext.report.inside import inside_figure
from avalanche_ext.report.matrices import matrices_figure
from avalanche_ext.report.paired import FEWEST_PAIRS
from avalanche_ext.report.rho import RhoRuns, read_rho
from avalanche_ext.report.rho_shown import rho_figure
from avalanche_ext.report.spectrum import Spectra
from avalanche_ext.report.spectrum_picture import spectra_figure
from avalanche_ext.report.statistics import MethodStatistics
from avalanche_ext.report.streams import accuracy_figure, learning_figure
from avalanche_ext.report.style import chosen_on_test
from avalanche_ext.report.sweep import sweep_figure
from avalanche_ext.report.tradeoff import swept_parameters
from avalanche_ext.report.tradeoff_picture import tradeoff_figure
from avalanche_ext.results.exhibits import (
    ContinualEvaluation,
    Edits,
    FisherForms,
    FisherSpectra,
    GradientDiversity,
)
from avalanche_ext.results.experiment import Exhibits, ExperimentResults, read_exhibits
from avalanche_ext.results.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Kept:
    """The exhibits of runs for pictures; for a swept method, those of its best setting."""

    edits: Exhibits[Edits]
    spectra: Spectra
    rho: RhoRuns
    diversities: Diversities
    inside: Exhibits[ContinualEvaluation]
    forms: Exhibits[FisherForms]

    @property
    def unreadable(self) -> dict[str, str]:
        """The errors of files, by their paths in the experiment's folder."""
        kinds = (self.edits, self.spectra, self.rho, self.diversities, self.inside, self.forms)
        return {path: error for kind in kinds for path, error in kind.unreadable.items()}


def read_kept(results: ExperimentResults) -> Kept:
    """Read all exhibits of an experiment.

    Raises:
        ResultsError: If `published.rho_correlation` names a metric that is not correlated.
    """
    shown = results.with_best_settings()
    return Kept(
        edits=read_exhibits(shown.with_first_runs(), Edits),
        spectra=read_exhibits(shown, FisherSpectra),
        rho=read_rho(results),
        diversities=read_exhibits(shown, GradientDiversity),
        inside=read_exhibits(shown, ContinualEvaluation),
        forms=read_exhibits(shown, FisherForms),
    )


@dataclass(frozen=True)
class Picture:
    """A picture that an experiment may have.

    Attributes:
        name: Its name, which is its file name without the extension.
        caption: What it shows, as a sentence.
        draw: Draws it; None if there is nothing to show.
    """

    name: str
    caption: str
    draw: Callable[[], Figure | None]


NAMES = (
    "accuracy",
    "differences",
    "learning",
    "inside",
    "matrices",
    "tradeoff",
    "sweep",
    "edits",
    "spectrum",
    "curvature",
    "rho",
    "gradient_diversity",
)
"""The names of all possible pictures, in the order of `pictures`."""


FORMATS = ("png", "pdf", "svg")
"""The formats of pictures, the default first."""


def pictures(
    results: ExperimentResults, statistics: Sequence[MethodStatistics], kept: Kept
) -> Iterator[Picture]:
    """Yield the pictures that the experiment may have.

    Args:
        results: The experiment.
        statistics: `method_statistics` of the same results.
        kept: `read_kept` of the same results.
    """
    if results.finished:
        yield Picture(
            "accuracy",
            "Left: mean accuracy on the experiences seen so far. Right: its value after the last "
            "experience: mean ± standard deviation over seeds, with a tick for each seed.",
            partial(accuracy_figure, results),
        )
        yield Picture(
            "differences",
            "Mean difference of each method from the baseline, paired by seed, with 95 % bootstrap "
            "confidence intervals. Filled: p < 0.05 after Holm's correction, with at least "
            f"{FEWEST_PAIRS} seeds.",
            partial(differences_figure, results, statistics),
        )
        yield Picture(
            "learning",
            "Left: accuracy on each experience right after training on it. Right: its mean over "
            "experiences.",
            partial(learning_figure, results),
        )
        yield Picture(
            "inside",
            "Accuracy during training. Left: mean over the experiences seen so far. Right: on the "
            "first experience; a drop that recovers is the stability gap.",
            partial(
                inside_figure, results.with_best_settings(), kept.inside, chosen_on_test(results)
            ),
        )
        yield Picture(
            "matrices",
            "Accuracy on each test experience after each training experience, mean over seeds.",
            partial(matrices_figure, results),
        )
    if swept_parameters(results).keys() & {method.name for method in results.finished}:
        yield Picture(
            "tradeoff",
            "Backward transfer against learning accuracy: one point per setting, with standard "
            "errors over seeds. Up and to the right is better.",
            partial(tradeoff_figure, results, statistics),
        )
        yield Picture(
            "sweep",
            "ACC against the swept value, with standard deviations over seeds. The best setting "
            "is chosen on these same results, so its ACC is optimistic.",
            partial(sweep_figure, results, statistics),
        )
    yield Picture(
        "edits",
        "Memory samples before and after editing, and their differences.",
        partial(edits_figure, kept.edits, chosen_on_test(results)),
    )
    yield Picture(
        "spectrum",
        "The Fisher's largest eigenvalues, their share of the trace, and their mass by layer.",
        partial(spectra_figure, kept.spectra, chosen_on_test(results)),
    )
    yield Picture(
        "curvature",
        "Curvature along the training path of the next experience: approximations of the Fisher "
        "relative to the Fisher itself; median over experiences and seeds, with the interquartile "
        "range.",
        partial(forms_figure, kept.forms, chosen_on_test(results)),
    )
    yield Picture(
        "rho",
        "ρ of the representations against each metric, one point per run.",
        partial(rho_figure, kept.rho),
    )
    yield Picture(
        "gradient_diversity",
        "Cosine similarity of gradients against that of representations, over pairs of samples.",
        partial(
            diversities_figure,
            kept.diversities,
            results.with_best_settings(),
            chosen_on_test(results),
        ),
    )


def write_pictures(drawn: Iterable[Picture], directory: Path, form: str) -> list[str]:
    """Write pictures into a folder, and remove those of an earlier report.

    Args:
        drawn: The pictures.
        directory: The folder.
        form: Their format, one of FORMATS.

    Returns:
        The names of the files.

    Raises:
        OSError: If one cannot be written.
    """
    names = [write_picture(each.draw, directory, each.name, form) for each in drawn]
    written = [name for name in names if name]
    for name in NAMES:
        for other in FORMATS:
            if f"{name}.{other}" not in written:
                (directory / f"{name}.{other}").unlink(missing_ok=True)
    return written


def write_picture(
    draw: Callable[[], Figure | None], directory: Path, name: str, form: str
) -> str | None:
    """Write a picture into a folder.

    Args:
        draw: Draws it; None if there is nothing to show.
        directory: The folder.
        name: The file's name without the extension.
        form: Its format, one of FORMATS.

    Returns:
        The name of the file; None if there is nothing to show.

    Raises:
        OSError: If it cannot be written.
    """
    from matplotlib import rc_context

    figure = draw()
    if figure is None:
        return None
    # Dates and random ids in SVG would make equal pictures differ.
    metadata = {"png": None, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[form]
    with (
        rc_context({"svg.hashsalt": "avalanche-ext"}),
        replacing(directory / f"{name}.{form}") as path,
    ):
        figure.savefig(path, format=form, dpi=150, metadata=metadata)
    return f"{name}.{form}"
