"""The command line: `run`, `check`, `report`, `list`, `schema`, `cache`.

Functions import what they need, so that only `run` waits for torch and avalanche.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from avalanche_ext import __version__
from avalanche_ext.words import closest, count

if TYPE_CHECKING:
    from avalanche_ext.config import Experiment

CELL_FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
TERMINATED = 143

_CUDA = r"cuda:(0|[1-9][0-9]*)"


class _Terminated(KeyboardInterrupt):
    """SIGTERM was received, as from a cluster's scheduler; it ends a run like Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `avalanche-ext`; None takes those of the process.

    Returns:
        The exit code: 0; 1 if a cell failed; 2 if the command or the YAML is wrong or the machine
        cannot run it, with one line for each problem on stderr; 130 if interrupted, 143 if
        terminated.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # Reports must not fail on an ASCII terminal.
        sys.stdout.reconfigure(errors="replace")
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parse(arguments)
        code: int = options.command(options)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        print(f"interrupted: {_how_to_go_on(arguments)}", file=sys.stderr)
        return TERMINATED if isinstance(error, _Terminated) else INTERRUPTED
    except BrokenPipeError:  # The reader, such as `head` or `less`, has quit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from avalanche_ext.config import ConfigError  # Imported late: `report` does not need it.

        if not isinstance(error, ConfigError):
            raise
        print(error, file=sys.stderr)
        return WRONG_USE
    return code


def _run(options: argparse.Namespace) -> int:
    experiment = _load(options)
    from avalanche_ext.runner import PreflightError, Selection, explain, run_experiment

    selection = Selection(methods=options.methods, rerun=options.rerun, shard=options.shard)
    try:
        if options.dry_run:
            from avalanche_ext.runner.devices import on_devices

            placed = on_devices(experiment, options.devices)
            print(explain(placed, options.out, selection))
            return 0
        with _terminable():
            outcome = run_experiment(
                experiment,
                out=options.out,
                jobs=options.jobs,
                data_root=options.data_root,
                selection=selection,
                backend=options.backend,
                scheduler=options.scheduler,
                devices=options.devices,
                verbosity=options.verbose - options.quiet,
                meanwhile=_import_report,
            )
    except PreflightError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    elsewhere = f", {outcome.n_elsewhere} run by other commands" if outcome.n_elsewhere else ""
    unseen = f", {outcome.n_unseen} with results not visible here" if outcome.n_unseen else ""
    print(
        f"{count(outcome.n_completed, 'cell')} run, {outcome.n_failed} failed, "
        f"{outcome.n_done_before} already finished{elsewhere}{unseen}\n"
    )
    of_cells = CELL_FAILED if outcome.n_failed or outcome.n_unseen else 0
    if outcome.waiting:
        print(outcome.waiting)
        return of_cells
    code = _show_report([outcome.directory])
    if experiment.wandb.report and not code:
        _send_report(experiment, outcome.directory)
    if experiment.wandb.mode == "offline" and outcome.n_completed:
        print(
            "To send these runs to wandb: wandb sync "
            f"{shlex.quote(str(outcome.directory))}{'{,-tuning}' if experiment.tuning else ''}"
            "/*/*/wandb/offline-run-*"
        )
    return code or of_cells


def _import_report() -> None:
    """Import the modules that a report with new figures needs."""
    for name in (
        "avalanche_ext.report.formats",
        "avalanche_ext.report.plots",
        "matplotlib.backends.backend_agg",
        "matplotlib.figure",
        "scipy.special",
    ):
        import_module(name)


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first SIGTERM, so that workers end properly.

    After that or after Ctrl-C, another SIGTERM has no effect: workers are writing their
    checkpoints. Ctrl-C then ends the wait for them.
    """
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}

    def end(number: int, _: object) -> NoReturn:
        signal.signal(signal.SIGTERM, lambda *_: None)  # SIG_IGN would be inherited.
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    if before[signal.SIGINT] is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _how_to_go_on(arguments: Sequence[str]) -> str:
    again = "run the same command again"
    if any(word.startswith("--rerun") for word in arguments):
        # With it, cells that have already been rerun would run once more.
        again += " without --rerun"
    return f"{again} to continue"


def _check(options: argparse.Namespace) -> int:
    experiment = _load(options)
    from avalanche_ext.runner.preflight import PreflightError, check_here, missing_here

    try:
        if options.build:
            check_here(experiment, options.data_root)
        else:
            _note(missing_here(experiment, options.data_root))
    except PreflightError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    n_methods, n_seeds = len(experiment.methods), len(experiment.seeds)
    built = "; benchmark and methods can be built" if options.build else ""
    print(
        f"{options.file.name}: {_search(experiment)}{count(n_methods, 'method')} x "
        f"{count(n_seeds, 'seed')} = {count(n_methods * n_seeds, 'cell')}, no problems{built}"
    )
    return 0


def _search(experiment: Experiment) -> str:
    """Return the size of the search before the experiment; empty if there is none."""
    if not experiment.tuning:
        return ""
    n = experiment.tuning.n_settings
    n_seeds = len(experiment.tuning.seeds)
    return (
        f"a search of {count(n, 'setting')} x {count(n_seeds, 'seed')} = "
        f"{count(n * n_seeds, 'cell')}, then "
    )


def _report(options: argparse.Namespace) -> int:
    if options.figures and options.format != "text":
        options.parser.error(f"--figures {options.figures} works only with --format text")
    return _show_report(options.directories, options.format, options.figures or "png")


def _show_report(directories: Sequence[Path], form: str = "text", figures: str = "png") -> int:
    from avalanche_ext.report.formats import report_on
    from avalanche_ext.results.record import ResultsError

    try:
        print(report_on(directories, form, figures), end="\n" if form == "text" else "")
    except ResultsError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    return 0


def _send_report(experiment: Experiment, directory: Path) -> None:
    from avalanche_ext.report.writer import CSV, PICTURES, TEXT
    from avalanche_ext.results.key import key_of
    from avalanche_ext.tracking.wandb_report import log_report

    files = [directory / name for name in (TEXT, CSV, *PICTURES)]
    sent = log_report(
        [file for file in files if file.exists()],
        experiment.name,
        directory,
        key=key_of(directory),
        **experiment.wandb.model_dump(exclude={"report"}),
    )
    if sent:
        print(f"To send this report to wandb: wandb sync {shlex.quote(str(sent))}")


def _list(options: argparse.Namespace) -> int:
    from avalanche_ext.config import list_catalogue

    print(list_catalogue(options.names))
    return 0


def _schema(_: argparse.Namespace) -> int:
    import json

    from avalanche_ext.config import experiment_json_schema

    print(json.dumps(experiment_json_schema(), indent=2))
    return 0


def _cache(options: argparse.Namespace) -> int:
    from avalanche_ext.cache import cache_folder, clear, entries
    from avalanche_ext.results.files import reason_of

    folder = cache_folder()
    try:
        found = clear() if options.clear else entries()
    except OSError as error:
        print(f"{folder}: {reason_of(error)}", file=sys.stderr)
        return WRONG_USE
    whole = f"{count(len(found), 'data set')}, {sum(each.n_bytes for each in found) / 1e6:.1f} MB"
    print(f"{folder}: {'removed ' if options.clear else ''}{whole}")
    for each in found:
        used = datetime.fromtimestamp(each.used).strftime("%Y-%m-%d")
        print(f"{each.n_bytes / 1e6:10.1f} MB  {each.name}, last used {used}")
    return 0


def _load(options: argparse.Namespace) -> Experiment:
    from avalanche_ext.config import load_experiment, notes

    experiment = load_experiment(options.file, options.overrides, options.seeds)
    _note(notes(experiment))
    return experiment


def _note(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """An argument parser with one-line errors that suggest the most similar valid word.

    Attributes:
        siblings: The parsers of all commands by name.
    """

    siblings: Mapping[str, _Parser] = {}

    def error(self, message: str) -> NoReturn:

        mistyped = re.search(r"invalid choice: '([^']*)'|unrecognized arguments: (\S+)", message)
        words = [
            str(word)
            for action in self._actions
            for word in (*action.option_strings, *(action.choices or ()))
        ]
        near = closest(mistyped[1] or mistyped[2], words) if mistyped else None
        hint = f"did you mean '{near}'?" if near else self._hint(mistyped)
        message = re.sub(r" \(choose from .*\)", "", message)
        message = message.replace("argument command: invalid choice:", "unknown command")
        message = message.removesuffix(", key=value")  # It is optional.
        self.exit(WRONG_USE, f"{self.prog}: {message} ({hint})\n")

    def _hint(self, mistyped: re.Match[str] | None) -> str:
        command, option = mistyped.groups() if mistyped else (None, None)
        if command and command.endswith((".yaml", ".yml")):
            return f"did you mean 'run {command}'?"
        if option and re.fullmatch(r"--[\w\[\]]+\.[^=]+=.+", option):
            return f"did you mean '{option.removeprefix('--')}'?"
        others = [
            name
            for name, parser in self.siblings.items()
            if option and option.partition("=")[0] in parser._option_string_actions
        ]
        return f"only '{others[0]}' has it" if others else f"see {self.prog} --help"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    options, rest = _parser().parse_known_args(arguments)
    # argparse fills `overrides` only with the words directly after the file.
    if "overrides" in options:
        options.overrides += [word for word in rest if _is_override(word)]
        rest = [word for word in rest if not _is_override(word)]
    if rest:
        options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def _parser() -> _Parser:
    parser = _Parser(
        prog="avalanche-ext",
        description="Compare continual-learning methods as described in a YAML file.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], help: str) -> _Parser:
        added: _Parser = commands.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False
        )
        added.set_defaults(command=command, parser=added)
        added.siblings = commands.choices
        return added

    run = add("run", _run, "run the unfinished cells of a YAML, then show the report")
    check = add("check", _check, "list all problems in a YAML without running it")
    for reader in (run, check):
        reader.add_argument("file", type=Path, metavar="FILE", help="the experiment's YAML")
        reader.add_argument(
            "overrides",
            nargs="*",
            metavar="key=value",
            help="replace values in the YAML, such as optimizer.lr=0.1 or seeds=[0,3]",
        )
        reader.add_argument(
            "--seeds", type=_positive, metavar="N", help="use seeds 0 to N-1 instead of the YAML's"
        )
        reader.add_argument(
            "--data-root",
            type=Path,
            metavar="DIR",
            help="folder of the data sets (default: $AVALANCHE_EXT_DATA, or Avalanche's own)",
        )
    check.add_argument(
        "--build",
        action="store_true",
        help="also load the data, and build the benchmark and all methods with their models",
    )
    run.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="number of workers (default: one per GPU in --devices, otherwise one per GPU in the "
        "YAML, otherwise one per core)",
    )
    run.add_argument(
        "--out",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder of the results (default: results)",
    )
    _add_grid_options(run)
    report = add("report", _report, "show the results of a finished or running experiment")
    report.add_argument(
        "directories",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="<out>/<experiment>; several are shown side by side",
    )
    report.add_argument(
        "--format",
        choices=("text", "markdown", "latex", "html", "csv"),
        default="text",
        help="output format; html writes a page, report.html in DIR, or side_by_side.html in the "
        "first of several (default: text)",
    )
    report.add_argument(
        "--figures",
        choices=("png", "pdf", "svg"),
        help="format of the figures, which go into the first DIR (default: png)",
    )
    listing = add(
        "list", _list, "list methods, benchmarks and models with their arguments and papers"
    )
    listing.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="show only these, or names from Avalanche, such as avalanche:EWCPlugin",
    )
    add("schema", _schema, "print the YAML's JSON schema, for editors")
    cache = add("cache", _cache, "show the cache of decoded data sets and its size")
    cache.add_argument("--clear", action="store_true", help="empty the cache")
    return parser


def _add_grid_options(run: _Parser) -> None:
    """Add the options of `run` for its cells and their workers."""
    run.add_argument(
        "--methods",
        type=_names,
        default=(),
        metavar="A,B",
        help="run only the cells of these methods",
    )
    run.add_argument(
        "--rerun",
        type=_names,
        default=(),
        metavar="A,B",
        help="run the cells of these methods again; old results are kept under other names",
    )
    run.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="I/N",
        help="run only part I of N of the cells, for job arrays",
    )
    run.add_argument(
        "--dry-run", action="store_true", help="only print which cells would run, and why"
    )
    run.add_argument(
        "--backend",
        choices=("local", "dask", "ray"),
        default="local",
        help="where the workers run (default: local)",
    )
    run.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="the scheduler of a Dask or Ray cluster (default: start one on this machine)",
    )
    run.add_argument(
        "--devices",
        type=_devices,
        default=(),
        metavar="cuda:0,cuda:1",
        help="GPUs that the workers use in turn, overriding the YAML",
    )
    loudness = run.add_mutually_exclusive_group()
    loudness.add_argument(
        "-q", "--quiet", action="store_true", help="show only the report and errors"
    )
    loudness.add_argument(
        "-v", "--verbose", action="store_true", help="print a line when a cell starts and finishes"
    )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if not names:
        raise argparse.ArgumentTypeError(f"is '{text}', but must be names, separated by commas")
    return names


def _shard(text: str) -> tuple[int, int]:
    index, _, n = text.partition("/")
    if not (index.isdecimal() and n.isdecimal() and 1 <= int(index) <= int(n)):
        raise argparse.ArgumentTypeError(f"is '{text}', but must be I/N with 1 ≤ I ≤ N")
    return int(index), int(n)


def _devices(text: str) -> tuple[str, ...]:
    devices = text.split(",")
    if not all(re.fullmatch(_CUDA, device) for device in devices):
        raise argparse.ArgumentTypeError(
            f"is '{text}', but must be GPUs such as cuda:0, separated by commas"
        )
    if len({*devices}) < len(devices):
        raise argparse.ArgumentTypeError(
            f"is '{text}', but must name each GPU once; --jobs 4 gives two of them two workers each"
        )
    return tuple(devices)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"is '{text}', but must be a positive integer")
    return int(text)
