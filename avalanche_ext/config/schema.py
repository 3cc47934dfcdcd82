"""The validated experiment and its cells: frozen, plain data that can be pickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from avalanche_ext.config.rerun import renamed
from avalanche_ext.config.sections import Evaluate, Published, Training, Validation, Wandb
from avalanche_ext.results.copies import copies_folder
from avalanche_ext.results.files import as_yaml
from avalanche_ext.results.record import UNDECIDED, Claim, ExperimentRecord, Sweep
from avalanche_ext.results.store import CellFiles
from avalanche_ext.results.tune import Choice

if TYPE_CHECKING:
    from avalanche_ext.config.tune import Tuning


def _put_part(args: dict[str, Any], path: tuple[str | int, ...], name: str) -> None:
    """Rename a part of a component, changing the component's arguments in place.

    Args:
        args: The component's arguments.
        path: The place of the part: a name, or a mapping with a name.
        name: The new name.
    """
    *outer, last = path
    place: Any = args
    for key in outer:
        place = place[key]
    if isinstance(place[last], dict):
        place, last = place[last], "name"
    place[last] = name


@dataclass(frozen=True)
class Component:
    """A class or function and the keyword arguments it is called with.

    Attributes:
        name: What the YAML calls it.
        target: Its location, `package.module:Name` or `/folder/file.py:Name`.
        args: The arguments in the YAML; for components of this package, the defaults too.
        files: For a user's component, the files that determine its behaviour, with a digest of each
            one's content: paths relative to the folder of its file, or names of modules.
        parts: The data sets and transforms that its arguments name, by their keys within `args`.
    """

    name: str
    target: str
    args: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    parts: dict[tuple[str | int, ...], Component] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The folder of the user's file that defines it; None for an installed package."""
        module = Path(self.target.rpartition(":")[0])
        return module.parent if module.suffix == ".py" else None

    def identity(self) -> list[Any]:
        """Return everything that affects the numbers: name, arguments, and the user's files.

        The name of a user's file counts without its folder, so that it can be moved.
        """
        files = [each.files for each in (self, *self.parts.values()) if each.files]
        name = Path(self.target).name if self.folder else self.name
        return [name, self._renamed(lambda part: Path(part.target).name), *files]

    def plain(self) -> dict[str, Any]:
        """Return the component as plain data, without its parts, which its arguments name."""
        plain = {key: value for key, value in asdict(self).items() if key != "files" or value}
        plain.pop("parts")
        return plain

    def kept(self) -> dict[str, Any]:
        """Return the component as plain data that names the copies among the results."""
        plain = {**self.plain(), "args": self._renamed(Component.copy_name)}
        return {**plain, "name": self.copy_name()} if self.folder else plain

    def copy_name(self) -> str:
        """Return the name of its copy among the results, if it comes from a user's file."""
        return f"./{copies_folder(self.files)}/{Path(self.target).name}"

    def _renamed(self, name_of: Callable[[Component], str]) -> dict[str, Any]:
        """Return the arguments with new names for parts from the user's files."""
        args = deepcopy(self.args)
        for path, part in self.parts.items():
            if part.folder:
                _put_part(args, path, name_of(part))
        return args


Split = Literal["test", "validation"]
"""The samples that accuracies are measured on: the test stream, or held-out training samples."""


def split_of(benchmark: Component, validation: Validation | None) -> Split:
    """Return the samples that accuracies on a benchmark are measured on."""
    is_ours = benchmark.target.startswith("avalanche_ext.")
    holds_out = is_ours and benchmark.args.get("validation_size") is not None
    return "validation" if validation or holds_out else "test"


@dataclass(frozen=True)
class Method:
    """A strategy with its plugins, and how it trains.

    Attributes:
        strategy: The strategy.
        plugins: Its plugins, in order.
        model: The model; each cell gets a new one.
        optimizer: The optimizer; its key `reset` is for the runner.
        training: The training section.
        criterion: Its loss function; None for the cross-entropy.
        scheduler: The schedule of its learning rates, whose keys `by` and `reset` are for the
            runner; None for none.
    """

    strategy: Component
    plugins: tuple[Component, ...]
    model: Component
    optimizer: Component
    training: Training
    criterion: Component | None = None
    scheduler: Component | None = None

    @property
    def at_once(self) -> str:
        """Why it has one accuracy for all experiences at once; "" if it learns one by one."""
        if self.strategy.name == "avalanche:JointTraining":
            return "'avalanche:JointTraining' trains once"
        return "training.iid is true" if self.training.iid else ""


@dataclass(frozen=True)
class Cell:
    """One method with one seed: the unit that is run, stored, and skipped once it is done.

    With a `validation` section, held-out training samples replace the test stream.
    """

    experiment: str
    method_name: str
    method: Method
    seed: int
    benchmark: Component
    wandb: Wandb
    validation: Validation | None = None
    evaluate: Evaluate | None = None

    @property
    def model(self) -> Component:
        """The method's model."""
        return self.method.model

    @property
    def optimizer(self) -> Component:
        """The method's optimizer."""
        return self.method.optimizer

    @property
    def training(self) -> Training:
        """The method's training section."""
        return self.method.training

    @property
    def split(self) -> Split:
        """What its accuracies are measured on."""
        return split_of(self.benchmark, self.validation)

    @property
    def components(self) -> tuple[Component, ...]:
        """All components of the cell."""
        method = self.method
        chosen = filter(None, (method.criterion, method.scheduler))
        return (
            *(self.benchmark, self.model, self.optimizer, method.strategy),
            *method.plugins,
            *chosen,
        )

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with everything that affects the numbers.

        Names of experiments and methods, wandb's settings, the index of a device, the batch size of
        evaluation and the time between checkpoints do not count. Components count by their names in
        the YAML, so moving code does not change the hash. Keys of `training` count only if they
        differ from their defaults, so a new key does not change it. `evaluate` counts only if it is
        set.
        """
        # The last two are components.
        not_here = {"eval_batch_size", "checkpoint_minutes", "criterion", "scheduler"}
        training = self.training.model_dump(exclude=not_here, exclude_defaults=True)
        if "device" in training:
            training["device"] = self.training.device.partition(":")[0]
        decisive = {
            "seed": self.seed,
            "training": training,
            "components": [component.identity() for component in self.components],
        }
        if self.evaluate:
            decisive["evaluate"] = self.evaluate.model_dump(exclude_defaults=True)
        if self.validation:
            decisive["validation"] = self.validation.model_dump()
        canonical = json.dumps(decisive, sort_keys=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def resolved(self) -> dict[str, Any]:
        """Return everything about this cell as plain data, for `config.yaml` and wandb."""
        return self._described(Component.plain)

    def directory(self, out: Path) -> Path:
        """Return the folder of this cell's files below `out`."""
        return self.files(out).folder

    def files(self, out: Path) -> CellFiles:
        """Return this cell's files below `out`; config.yaml names copies of the user's files."""
        return CellFiles(out, self._described(Component.kept))

    def _described(self, plain: Callable[[Component], dict[str, Any]]) -> dict[str, Any]:
        return {
            "experiment": self.experiment,
            "method": self.method_name,
            "seed": self.seed,
            "hash": self.hash,
            **self._validation(),
            "benchmark": plain(self.benchmark),
            "model": plain(self.model),
            "optimizer": plain(self.optimizer),
            "training": self._training(plain),
            "strategy": plain(self.method.strategy),
            "plugins": [plain(plugin) for plugin in self.method.plugins],
            **({"evaluate": self.evaluate.model_dump()} if self.evaluate else {}),
            "wandb": self.wandb.model_dump(mode="json"),
        }

    def _validation(self) -> dict[str, Any]:
        """Return what distinguishes a run on validation samples from one on the test stream."""
        held_out = {"validation": self.validation.model_dump()} if self.validation else {}
        return {} if self.split == "test" else {"split": self.split, **held_out}

    def _training(self, plain: Callable[[Component], dict[str, Any]]) -> dict[str, Any]:
        """Return the section `training` as plain data, in the form of a YAML."""
        needless = {"epochs"} if self.training.iterations is not None else set()
        section = self.training.model_dump(exclude=needless)
        for key in ("criterion", "scheduler"):
            component = getattr(self.method, key)
            if component:
                named = plain(component)
                section[key] = {"name": named["name"], **named["args"]}
        return section


@dataclass(frozen=True)
class Experiment:
    """A validated YAML: methods and seeds to be compared on one benchmark.

    Attributes:
        name: The folder of its results.
        benchmark: The benchmark.
        model: The model, unless a method overrides it.
        optimizer: The optimizer, unless a method overrides it.
        training: The training section, unless a method overrides it.
        seeds: One cell per method and seed.
        methods: Methods by name, in the YAML's order; a swept one under the names of its settings.
        sweeps: Sweeps by the name of the swept method, which is not in `methods`.
        baseline: The method that all others are tested against; None for no tests.
        claims: Claims that the report tests one-sidedly, in the YAML's order.
        wandb: Where runs are logged.
        evaluate: How every method is evaluated inside experiences; None for not at all.
        published: A paper's numbers for some of the methods, if the YAML gives any.
        validation: The samples evaluated instead of the test stream; None for the test stream.
        tuning: The search for hyper-parameters that comes first; None for none.
        undecided: Names of methods that have no cells before their search has ended.
        choices: The settings that searches have chosen.
        document: The YAML's content, with changes from the command line.
    """

    name: str
    benchmark: Component
    model: Component
    optimizer: Component
    training: Training
    seeds: tuple[int, ...]
    methods: dict[str, Method]
    sweeps: dict[str, Sweep]
    baseline: str | None
    claims: tuple[Claim, ...]
    wandb: Wandb
    evaluate: Evaluate | None
    published: Published | None
    validation: Validation | None = None
    tuning: Tuning | None = None
    undecided: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def split(self) -> Split:
        """What its accuracies are measured on."""
        return split_of(self.benchmark, self.validation)

    def cells(self) -> list[Cell]:
        """Return all cells, seed by seed, so that every method has its first seed early."""
        return [
            Cell(
                experiment=self.name,
                method_name=name,
                method=method,
                seed=seed,
                benchmark=self.benchmark,
                wandb=self.wandb,
                validation=self.validation,
                evaluate=self.evaluate,
            )
            for seed in self.seeds
            for name, method in self.methods.items()
            if name not in self.undecided
        ]

    def own_components(self) -> list[Component]:
        """Return the components from the user's files, each name once, with parts and settings."""
        methods = [*self.methods.values()]
        for search in self.tuning.searches.values() if self.tuning else ():
            methods += [setting.method for setting in search.settings.values()]
        found = [self.benchmark, self.model, self.optimizer]
        for method in methods:
            chosen = filter(None, (method.criterion, method.scheduler))
            found += [method.model, method.optimizer, method.strategy, *method.plugins, *chosen]
        found += [part for component in found for part in component.parts.values()]
        return [*{each.name: each for each in found if each.folder}.values()]

    def yaml(self) -> str:
        """Return a YAML that gives the same cells when run from the experiment's folder.

        It names the copies of the user's files in that folder.
        """
        names = {each.name: each.copy_name() for each in self.own_components()}
        document = renamed(self.document, names)
        given = document["seeds"]
        seeds = [*self.seeds]
        is_same = seeds == ([*range(given)] if isinstance(given, int) else given)
        return as_yaml(document if is_same else {**document, "seeds": seeds})

    def summary(self) -> dict[str, Any]:
        """Return what the report needs besides the results, as plain data, for `record.yaml`."""
        hashes: dict[str, dict[int, str]] = {name: {} for name in self.methods}
        for cell in self.cells():
            hashes[cell.method_name][cell.seed] = cell.hash
        for name in self.undecided:
            hashes[name] = dict.fromkeys(self.seeds, UNDECIDED)
        record = ExperimentRecord(
            name=self.name,
            baseline=self.baseline,
            claims=[*self.claims],
            methods=[*self.methods],
            sweeps=self.sweeps,
            seeds=[*self.seeds],
            hashes=hashes,
            published=(
                self.published.model_dump(exclude_defaults=True) if self.published else None
            ),
            split=self.split,
            choices=[*self.choices],
        )
        return asdict(record)
