"""Reports in every form: of one experiment, of several, and of half-finished ones."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from avalanche_ext.cli import main
from avalanche_ext.report.formats import report_on
from avalanche_ext.report.layout import p_text
from avalanche_ext.report.ranking import ranking
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.record import ResultsError
from tests.results.trees import two_by_two, write_experiment, write_failure, write_result

PUBLISHED = {
    "reference": "Müller & Söhne (2020), 100 % of Table_1",
    "ACC": {"drl": {"mean": 0.8, "std": 0.01}},
}


def write(folder: Path, shift: float = 0.0, n_seeds: int = 6) -> Path:
    """An experiment of three methods; `my_er` has one run only, and lacks or fails the others."""
    write_experiment(
        folder, ["ber", "drl", "my_er"], range(n_seeds), baseline="ber", published=PUBLISHED
    )
    for seed in range(n_seeds):
        write_result(folder, "ber", seed, two_by_two(0.5 + seed / 50))
        write_result(folder, "drl", seed, two_by_two(0.6 + shift + seed / 40))
    write_result(folder, "my_er", 0, two_by_two(0.55))
    write_failure(folder, "my_er", 1, "loss became NaN")
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("one") / "tab_one")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("two") / "tab_two", shift=0.1, n_seeds=5)
    record = folder / "record.yaml"
    record.write_text(record.read_text("utf-8") + "split: validation\n", "utf-8")
    return folder


def markdown_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_markdown_has_the_numbers_and_what_is_missing(one: Path) -> None:
    text = report_on([one], "markdown")
    titles, rule, ber, drl, er = markdown_rows(text)
    assert {*rule} == {"---", "---:"}
    rows = [dict(zip(titles, row, strict=True)) for row in (ber, drl, er)]
    assert [row["method"] for row in rows] == ["ber", "drl", "my_er"]
    assert [row["runs"] for row in rows] == ["6", "6", "1/6"]
    assert rows[1]["ACC"] == "**0.781 ± 0.023**"
    assert [row["ACC, published"] for row in rows] == ["–", "0.800 ± 0.010", "–"]
    assert (rows[0]["vs ber"], rows[1]["vs ber"]) == ("", "+0.056")
    assert rows[2]["BWT"] == "-0.350"
    assert "**tab_one: 3 methods x 6 seeds, 13 of 18 runs finished**" in text
    assert "1 run failed:\n  my_er, seed 1: loss became NaN" in text
    assert "4 runs missing" in text
    assert (
        "Bold: best of the methods that ran the same seeds; the others ran different ones."
        in " ".join(text.split())
    )
    assert "published: Müller & Söhne (2020)" in " ".join(text.split())


def test_several_experiments_are_shown_side_by_side(one: Path, two: Path, tmp_path: Path) -> None:
    test_stream = tmp_path / "tab_two"
    shutil.copytree(two, test_stream)
    record = test_stream / "record.yaml"
    record.write_text(record.read_text("utf-8").replace("split: validation\n", ""), "utf-8")
    acc, bwt = report_on([one, test_stream], "markdown").split("**BWT in 2 experiments**")
    titles, _, ber, drl, er = markdown_rows(acc)
    assert titles == ["method", "one", "two", "mean rank", "vs ber", "wins", "pairs"]
    assert ber == ["ber", "0.725 ± 0.019", "0.720 ± 0.016", "3.00", "", "", ""]
    assert drl[1:4] == ["**0.781 ± 0.023**", "**0.825 ± 0.020**", "1.00"]
    # Of 11 pairs all are won; the differences are 0.05 and 0.1, and 0.0025 more with each seed.
    assert drl[4].startswith("+0.081 [+0.07")
    assert drl[5:] == ["1.00 [0.80, 1.00]", "11 in 2"]
    assert er[4:] == ["+0.025", "1.00 [0.33, 1.00]", "2 in 2"]
    notes = " ".join(acc.split())
    # `my_er` has seed 0 only, so five more runs of both others do not count here, and four there.
    assert "The ranks leave out 18 runs with seeds that a ranked method lacks." in notes
    assert "fewer than 5 experiments are too few to test the ranks" in notes
    assert "Friedman" not in notes
    assert "tab_two: 1 run failed:" in acc
    assert markdown_rows(bwt)[0] == titles
    assert "failed" not in bwt, "said once"


def test_nothing_is_averaged_over_the_test_stream_and_validation_samples(
    one: Path, two: Path
) -> None:
    text = report_on([one, two], "markdown")
    assert markdown_rows(text)[0] == ["method", "one", "two (validation)"]
    assert "No averages over these experiments" in text
    assert not (one / "side_by_side.png").exists()
    assert "side_by_side" not in report_on([one, two])


def test_five_experiments_have_a_verdict(tmp_path: Path) -> None:
    folders = [write(tmp_path / f"exp_{k}", shift=k / 50) for k in range(5)]
    text = " ".join(report_on(folders, "markdown").split())
    assert "Friedman's test that all methods are equal in ACC: p = 0.0" in text
    assert "critical difference of mean ranks, meaningful only if p < 0.05: 1." in text
    assert "Caution: fewer than 5 experiments" not in text


def test_each_table_of_several_has_its_own_verdict(tmp_path: Path) -> None:
    folders = [tmp_path / f"exp_{k}" for k in range(5)]
    for k, folder in enumerate(folders):
        write_experiment(folder, ["a", "b", "c"], [0])
        methods = ("a", 0.9, 0.9), ("b", 0.6, 0.7), ("c", 0.5, (0.55, 0.75)[k % 2])
        for name, last, learned in methods:
            write_result(folder, name, 0, two_by_two(last, learned))
    experiments = [read_results(folder) for folder in folders]
    acc, bwt = (ranking(experiments, metric) for metric in ("ACC", "BWT"))
    assert acc
    assert bwt
    text = " ".join(report_on(folders).split())
    for ranks in (acc, bwt):
        said = f"are equal in {ranks.metric}: {p_text(ranks.friedman)}"
        assert text.count(said) == 1
    assert text.index("equal in ACC") < text.index("BWT in 5 experiments")
    assert text.count("± is the sample standard deviation") == 1


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_papers_have_claims_cautions_and_mixed_versions_too(tmp_path: Path, form: str) -> None:
    write_experiment(
        tmp_path, ["er", "gmed"], [0, 1], baseline="er", claims=[("gmed", "er", "BWT")]
    )
    for seed in (0, 1):
        versions = {"torch": f"2.{seed}"}
        write_result(tmp_path, "er", seed, two_by_two(0.5 + seed / 10), versions=versions)
        write_result(tmp_path, "gmed", seed, two_by_two(0.6 + seed / 5), versions=versions)
    text = " ".join(report_on([tmp_path], form).split())
    assert "Claims: one-sided tests" in text
    assert re.search(r"gmed (>|\\textgreater\{\}) er in BWT", text)
    assert text.count("Caution: too few pairs for reliable tests and intervals (only 2 seeds)") == 2
    assert "Runs used different package versions" in text


def test_the_text_of_several_is_printed_with_a_picture_in_the_first_folder(tmp_path: Path) -> None:
    folders = [write(tmp_path / name) for name in ("one", "two")]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["report", *map(str, folders), "--figures", "svg"]) == 0
    assert (folders[0] / "side_by_side.svg").read_text("utf-8").startswith("<?xml")
    text = report_on(folders)
    assert text.endswith(f"\nside_by_side.png is in {folders[0]}\n")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in after.keys() - before.keys()} == {
        *("side_by_side.png", "side_by_side.svg")
    }
    assert after.items() >= before.items()
    (folders[0] / "side_by_side.pdf").mkdir()
    assert "side_by_side.pdf could not be written to" in report_on(folders, figures="pdf")


def test_the_text_of_several_names_what_they_were_measured_on(one: Path, two: Path) -> None:
    text = report_on([one, two])
    assert text.splitlines()[:2] == [
        "tab_one: 3 methods x 6 seeds, 13 of 18 runs finished",
        "tab_two: 3 methods x 5 seeds, 11 of 15 runs finished, accuracies on held-out VALIDATION "
        "samples",
    ]
    row = next(line for line in text.splitlines() if line.startswith("drl"))
    assert re.split(r" {2,}", row) == ["drl", "0.781 ± 0.023", "0.825 ± 0.020"]


def test_experiments_with_other_baselines_are_not_compared_with_one(
    one: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other")
    record = other / "record.yaml"
    record.write_text(record.read_text("utf-8").replace("baseline: ber", "baseline: drl"), "utf-8")
    text = report_on([one, other], "markdown")
    assert "No comparison with a baseline: the baselines differ (ber, drl)." in " ".join(
        text.split()
    )
    assert markdown_rows(text)[0] == ["method", "tab_one", "other", "mean rank"]


def test_experiments_of_one_name_are_distinguished_by_their_folders(
    one: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "tab_one")
    assert markdown_rows(report_on([one, other], "markdown"))[0][1:3] == [str(one), str(other)]


def test_csv_has_the_rows_of_all(one: Path, two: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(report_on([one, two], "csv"))))
    assert [(row["experiment"], row["split"], row["method"]) for row in rows] == [
        *(("tab_one", "test", method) for method in ("ber", "drl", "my_er")),
        *(("tab_two", "validation", method) for method in ("ber", "drl", "my_er")),
    ]
    assert float(rows[4]["ACC_mean"]) == pytest.approx(0.825)


def test_latex_escapes_and_has_the_best_bold(one: Path) -> None:
    text = report_on([one], "latex")
    assert r"drl & $6$ & $\mathbf{0.781} \seedstd{0.023}$ & $+0.056$ &" in text
    assert r"my\_er & $1/6$ & $0.725$ & $+0.025$ & --" in text
    assert r"\caption{tab\_one: means over up to 6 seeds. " in text
    assert "runs finished" not in text
    ours = r"$0.781 \seedstd{0.023}$ & $0.800 \seedstd{0.010}$ & $-0.019$"
    assert f"drl & ACC & {ours}" in text, "in a table of its own"
    assert r"Müller \& Söhne (2020), 100 \% of Table\_1" in " ".join(text.split())
    assert r"\label{tab:tab_one}" in text
    assert "% 1 run failed:" in text
    assert "seconds" not in text


@pytest.mark.skipif(
    not (shutil.which("pdflatex") and shutil.which("kpsewhich")),
    reason="no pdflatex here (Debian: texlive-latex-recommended)",
)
def test_latex_compiles(one: Path, two: Path, tmp_path: Path) -> None:
    if subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode:
        pytest.skip("pdflatex has no booktabs (Debian: texlive-latex-recommended)")
    wide = [write(tmp_path / f"exp_{k}", shift=k / 50) for k in range(7)]
    tables = [report_on(each, "latex") for each in ([one], [one, two], wide)]
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        + "\n".join(tables)
        + "\\end{document}\n",
        "utf-8",
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert "Overfull" not in done.stdout, done.stdout


def test_the_page_is_written_into_the_first_folder(
    one: Path, two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(two), str(one), "--format", "html"]) == 0
    assert capsys.readouterr().out == f"{two / 'side_by_side.html'}\n"
    page = (two / "side_by_side.html").read_text("utf-8")
    assert not (two / "report.html").exists()
    assert "tab_one" in page
    assert "tab_two" in page


def test_a_folder_given_twice_is_refused(one: Path) -> None:
    for form in ("csv", "html"):
        with pytest.raises(ResultsError, match="is given twice; give each experiment once"):
            report_on([one, one / "." / "ber" / ".."], form)


def test_the_command_prints_the_form_it_is_asked_for(
    one: Path, two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(one), str(two), "--format", "latex"]) == 0
    assert capsys.readouterr().out == report_on([one, two], "latex")
    with pytest.raises(SystemExit):
        main(["report", str(one), "--format", "latx"])
    assert "did you mean 'latex'?" in capsys.readouterr().err
    assert main(["report", str(one / "ber"), "--format", "csv"]) == 2


def test_forms_that_are_printed_need_neither_torch_nor_matplotlib(one: Path) -> None:
    code = (
        "import sys; from avalanche_ext.report.formats import report_on;"
        "[report_on([sys.argv[1]], form) for form in ('markdown', 'latex', 'csv')];"
        "print([m for m in ('torch', 'avalanche', 'matplotlib', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(one)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
