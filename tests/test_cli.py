from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from avalanche_ext import __version__
from avalanche_ext.cli import main
from tests.config.cases import EXPERIMENT, experiment_with, written

QUICKSTART = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"
HEAVY = ("torch", "avalanche", "wandb", "matplotlib", "scipy")


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "avalanche_ext", *words],
        capture_output=True,
        text=True,
        cwd=QUICKSTART.parents[1],
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )


Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process; returns its exit code, and what it wrote on both streams."""
    monkeypatch.chdir(QUICKSTART.parents[1])

    def said(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return said


def refusal(say: Say, *words: str) -> str:
    """What a command that is refused says, in one line on stderr."""
    code, shown, told = say(*words)
    assert (code, shown) == (2, "")
    (line,) = told.splitlines()
    return line


def test_check_counts_the_cells() -> None:
    document = yaml.safe_load(QUICKSTART.read_text())
    n_methods, n_seeds = len(document["methods"]), document["seeds"]
    assert n_methods >= 4
    assert n_seeds >= 5
    done = command("check", str(QUICKSTART))
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout == (
        f"quickstart.yaml: {n_methods} methods x {n_seeds} seeds = {n_methods * n_seeds} cells, "
        "no problems\n"
    )


def test_check_takes_overrides_before_and_after_options(tmp_path: Path, say: Say) -> None:
    path = written(experiment_with(methods={"only": None}), tmp_path)
    _, shown, _ = say("check", str(path), "optimizer.lr=1", "--seeds", "1", "training.epochs=2")
    assert shown == "experiment.yaml: 1 method x 1 seed = 1 cell, no problems\n"


def test_check_counts_every_setting_of_a_sweep(tmp_path: Path, say: Say) -> None:
    methods = {"naive": None, "lr": {"sweep": {"optimizer.lr": [0.1, 0.2, 0.5]}}}
    _, shown, _ = say("check", str(written(experiment_with(methods=methods), tmp_path)))
    assert shown == "experiment.yaml: 4 methods x 3 seeds = 12 cells, no problems\n"


def test_check_says_every_problem_on_stderr(tmp_path: Path, say: Say) -> None:
    path = written(experiment_with(seeds=0, baseline="naiv"), tmp_path)
    code, shown, told = say("check", str(path), "optimizer.lr=x")
    assert (code, shown) == (2, "")
    assert told.splitlines() == [
        "seeds: is 0, but must be greater than 0",
        "optimizer.lr: is 'x', but must be a number",
        "baseline: unknown method 'naiv' (did you mean 'naive'?)",
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["chekc"],
            "avalanche-ext: unknown command 'chekc' (did you mean 'check'?)",
        ),
        (
            ["check", "experiments/quickstart.yaml", "--sedes=3"],
            "avalanche-ext check: unrecognized arguments: --sedes=3 (did you mean '--seeds'?)",
        ),
        (
            ["run", "x.yaml", "--seeds", "0"],
            "avalanche-ext run: argument --seeds: is '0', but must be a positive integer "
            "(see avalanche-ext run --help)",
        ),
        (
            ["run", "x.yaml", "--job", "2"],
            "avalanche-ext run: unrecognized arguments: --job 2 (did you mean '--jobs'?)",
        ),
        (
            [],
            "avalanche-ext: the following arguments are required: command "
            "(see avalanche-ext --help)",
        ),
        (
            ["run", "experiments/quikstart.yaml"],
            "experiments/quikstart.yaml: no such file "
            "(did you mean 'experiments/quickstart.yaml'?)",
        ),
        (
            ["run", "x.yaml", "--shard", "3/2"],
            "avalanche-ext run: argument --shard: is '3/2', but must be I/N with 1 ≤ I ≤ N "
            "(see avalanche-ext run --help)",
        ),
        (
            ["run", "x.yaml", "--devices", "cuda:0,cpu"],
            "avalanche-ext run: argument --devices: is 'cuda:0,cpu', but must be GPUs such as "
            "cuda:0, separated by commas (see avalanche-ext run --help)",
        ),
        (
            ["run", "x.yaml", "--devices", "cuda:0,cuda:0"],
            "avalanche-ext run: argument --devices: is 'cuda:0,cuda:0', but must name each GPU "
            "once; --jobs 4 gives two of them two workers each (see avalanche-ext run --help)",
        ),
        (
            ["run", "x.yaml", "--methods", ","],
            "avalanche-ext run: argument --methods: is ',', but must be names, separated by "
            "commas (see avalanche-ext run --help)",
        ),
        (
            ["run", "x.yaml", "--backend", "dusk"],
            "avalanche-ext run: argument --backend: invalid choice: 'dusk' (did you mean 'dask'?)",
        ),
        (["list", "balanced"], "balanced: unknown name (did you mean 'balanced_replay'?)"),
    ],
)
def test_a_mistyped_command_gets_the_right_word_suggested(
    words: list[str], line: str, say: Say
) -> None:
    assert refusal(say, *words) == line


def test_a_report_on_a_folder_without_results_is_refused(tmp_path: Path, say: Say) -> None:
    assert str(tmp_path / "record.yaml") in refusal(say, "report", str(tmp_path))


def test_help_names_the_commands_and_their_options(say: Say) -> None:
    _, text, _ = say("--help")
    assert all(name in text for name in ("run", "check", "report", "list", "schema"))
    options = (
        *("--seeds", "--jobs", "--out", "--data-root", "key=value", "--methods", "--rerun"),
        *("--shard", "--dry-run", "--backend", "--scheduler", "--devices", "--quiet", "--verbose"),
    )
    _, told, _ = say("run", "--help")
    assert all(option in told for option in options)


def test_the_version_is_the_packages() -> None:
    assert command("--version").stdout == f"avalanche-ext {__version__}\n"


def test_the_schema_is_json(say: Say) -> None:
    assert json.loads(say("schema")[1])["title"] == "avalanche-ext experiment"


def test_the_list_can_be_printed_on_an_ascii_terminal() -> None:
    done = command("list", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "balanced_replay" in done.stdout


def test_a_reader_that_stops_reading_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m avalanche_ext schema | head -1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=QUICKSTART.parents[1],
        check=True,
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["check", str(QUICKSTART)],
        ["run", str(QUICKSTART), "--dry-run"],
        ["list"],
        ["schema"],
        ["cache"],
    ],
    ids=lambda words: words[0],
)
def test_what_needs_no_data_needs_neither_torch_nor_avalanche(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from avalanche_ext.cli import main\n"
        "try:\n"
        f"    main({words!r})\n"
        "finally:\n"
        f"    print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout
    assert done.stderr == "[]\n"


class FakePreflightError(Exception):
    """What the runner raises when the machine is not right."""


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace runner and report; return the calls of `run_experiment`.

    With 99 jobs the machine is not right, otherwise as many cells fail as there are jobs.
    """
    calls: list[dict[str, Any]] = []

    def run_experiment(experiment: Any, **options: Any) -> SimpleNamespace:
        calls.append({"experiment": experiment, **options})
        if options["jobs"] == 99:
            raise FakePreflightError("cuda: there is none")
        return SimpleNamespace(
            directory=options["out"] / experiment.name,
            n_done_before=2,
            n_completed=1,
            n_failed=options["jobs"] or 0,
            n_elsewhere=0,
            n_unseen=0,
            waiting="",
        )

    fake = ModuleType("avalanche_ext.runner")
    vars(fake).update(
        run_experiment=run_experiment,
        PreflightError=FakePreflightError,
        Selection=SimpleNamespace,
        explain=lambda experiment, out, selection: f"plan of {experiment.name} in {out}",
    )
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    report = ModuleType("avalanche_ext.report.formats")
    vars(report).update(report_on=lambda folders, *_: f"report of {folders[0]}")
    monkeypatch.setitem(sys.modules, report.__name__, report)
    return calls


def test_run_hands_on_what_was_asked_for(runner: list[dict[str, Any]], tmp_path: Path) -> None:
    path = str(written(EXPERIMENT, tmp_path))
    words = ["--seeds", "2", "--jobs", "3", "--out", "o", "--data-root", "d", "training.epochs=4"]
    main(["run", path, *words])
    (call,) = runner
    experiment, _ = call.pop("experiment"), call.pop("meanwhile")
    assert (experiment.seeds, experiment.training.epochs) == ((0, 1), 4)
    assert call == {
        "out": Path("o"),
        "jobs": 3,
        "data_root": Path("d"),
        "selection": SimpleNamespace(methods=(), rerun=(), shard=(1, 1)),
        "backend": "local",
        "scheduler": None,
        "devices": (),
        "verbosity": 0,
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--backend", "dask", "--scheduler", "tcp://h:1"], ("backend", "dask")),
        (["--backend", "ray", "--scheduler", "auto"], ("scheduler", "auto")),
        (["--devices", "cuda:0,cuda:3"], ("devices", ("cuda:0", "cuda:3"))),
        (["-q"], ("verbosity", -1)),
        (["--verbose"], ("verbosity", 1)),
    ],
)
def test_run_hands_on_where_and_how_to_run(
    runner: list[dict[str, Any]], tmp_path: Path, words: list[str], expected: tuple[str, Any]
) -> None:
    main(["run", str(written(EXPERIMENT, tmp_path)), *words])
    assert runner[0][expected[0]] == expected[1]


def test_run_hands_on_which_cells_to_run(runner: list[dict[str, Any]], tmp_path: Path) -> None:
    words = ["--methods", "naive,ber", "--rerun", "ber", "--shard", "2/3"]
    main(["run", str(written(EXPERIMENT, tmp_path)), *words])
    assert vars(runner[0]["selection"]) == {
        "methods": ("naive", "ber"),
        "rerun": ("ber",),
        "shard": (2, 3),
    }


def test_a_dry_run_runs_nothing(
    runner: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(written(EXPERIMENT, tmp_path)), "--dry-run"]) == 0
    assert capsys.readouterr().out == "plan of small in results\n"
    assert not runner


def test_run_leaves_to_the_runner_what_was_not_asked_for(
    runner: list[dict[str, Any]], tmp_path: Path
) -> None:
    main(["run", str(written(EXPERIMENT, tmp_path))])
    (call,) = runner
    assert (call["out"], call["jobs"], call["data_root"]) == (Path("results"), None, None)


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize(("n_failed", "code"), [(0, 0), (1, 1), (7, 1)])
def test_run_reports_and_its_code_says_whether_a_cell_failed(
    n_failed: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = ["--jobs", str(n_failed)] if n_failed else []
    assert main(["run", str(written(EXPERIMENT, tmp_path)), "--out", "o", *jobs]) == code
    assert capsys.readouterr().out.splitlines() == [
        f"1 cell run, {n_failed} failed, 2 already finished",
        "",
        "report of o/small",
        "To send these runs to wandb: wandb sync o/small/*/*/wandb/offline-run-*",
    ]


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("mode", ["online", "disabled"])
def test_only_offline_runs_are_to_be_synchronised(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", str(written(EXPERIMENT, tmp_path)), f"wandb.mode={mode}"])
    assert "wandb" not in capsys.readouterr().out


@pytest.mark.usefixtures("runner")
def test_what_the_machine_lacks_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(written(EXPERIMENT, tmp_path)), "--jobs", "99"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "cuda: there is none\n")


@pytest.mark.usefixtures("runner")
def test_an_interrupted_run_says_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["avalanche_ext.runner"], "run_experiment", interrupted)
    path = str(written(EXPERIMENT, tmp_path))
    assert main(["run", path]) == 130
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "interrupted: run the same command again to continue\n")
    assert main(["run", path, "--rerun", "naive"]) == 130
    told = "interrupted: run the same command again without --rerun to continue\n"
    assert capsys.readouterr().err == told


@pytest.mark.usefixtures("runner")
def test_sigterm_ends_a_run_as_ctrl_c_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminated(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(sys.modules["avalanche_ext.runner"], "run_experiment", terminated)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["run", str(written(EXPERIMENT, tmp_path))]) == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().err == "interrupted: run the same command again to continue\n"
