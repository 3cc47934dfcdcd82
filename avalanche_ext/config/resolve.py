"""From the plain values of a YAML to a validated experiment, with all problems at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from avalanche_ext.config.catalogue import Kind, entries
from avalanche_ext.config.components import component
from avalanche_ext.config.errors import ConfigError, Problem, at, did_you_mean, shown
from avalanche_ext.config.overrides import apply_overrides
from avalanche_ext.config.reader import read_file
from avalanche_ext.config.schema import Component, Experiment, Method
from avalanche_ext.config.sections import (
    DEFAULT_STRATEGY,
    Document,
    MethodSection,
    Published,
    Training,
    Wandb,
)
from avalanche_ext.config.semantics import (
    check_benchmark,
    check_method,
    check_model,
    check_optimizer,
)
from avalanche_ext.config.validation import validate


def load_experiment(
    path: Path, overrides: Sequence[str] = (), n_seeds: int | None = None
) -> Experiment:
    """Read and check a YAML without importing torch or avalanche.

    Args:
        path: The YAML file.
        overrides: `key=value` texts, written over what the file says.
        n_seeds: Where given, the seeds are 0 … n_seeds - 1 whatever the file says.

    Raises:
        ConfigError: If anything is wrong with the file or the overrides, with all of it.
    """
    document, problems = read_file(path)
    if not isinstance(document, dict):
        found = "is empty" if document is None else f"is {shown(document)}"
        raise ConfigError([Problem(str(path), f"{found}, but must be a mapping of keys to values")])
    problems += apply_overrides(document, overrides)
    if n_seeds is not None:
        document["seeds"] = n_seeds
    resolver = _Resolver(document)
    experiment = resolver.experiment()
    already = {problem.path for problem in problems}
    problems += [problem for problem in resolver.problems if problem.path not in already]
    if problems or experiment is None:
        raise ConfigError(problems)
    return experiment


class _Resolver:
    """Walks the document section by section; what is wrong is noted and the walk goes on."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def experiment(self) -> Experiment | None:
        document = self._validated(Document, self.document, "")
        benchmark = self._component("benchmark", self.document.get("benchmark"), "benchmark")
        if benchmark:
            self.problems += check_benchmark(benchmark)
        model = self._component("model", self.document.get("model"), "model")
        if benchmark and model:
            self.problems += check_model(model, benchmark)
        optimizer = self._component("optimizer", self.document.get("optimizer"), "optimizer")
        if optimizer:
            self.problems += check_optimizer(optimizer, "optimizer")
        training = self._section(Training, "training")
        wandb = self._optional_section(Wandb, "wandb") or Wandb()
        published = self._optional_section(Published, "published")
        methods = self._methods(benchmark)
        self._check_names(published)
        if self.problems or not (document and benchmark and model and optimizer and training):
            return None
        seeds = document.seeds
        return Experiment(
            name=document.name,
            benchmark=benchmark,
            model=model,
            optimizer=optimizer,
            training=training,
            seeds=tuple(range(seeds) if isinstance(seeds, int) else seeds),
            methods=methods,
            baseline=self.document.get("baseline", next(iter(methods))),
            wandb=wandb,
            published=published,
        )

    def _validated(self, type_: Any, value: Any, path: str) -> Any:
        checked, found = validate(type_, value, path)
        self.problems += found
        return checked

    def _section(self, type_: Any, key: str) -> Any:
        return self._validated(type_, self.document[key], key) if key in self.document else None

    def _optional_section(self, type_: Any, key: str) -> Any:
        return None if self.document.get(key) is None else self._section(type_, key)

    def _component(self, kind: Kind, value: Any, path: str) -> Component | None:
        named = self._named(kind, value, path)
        if named is None:
            return None
        name_path = path if isinstance(value, str) else at(path, "name")
        made, found = component(kind, *named, path=path, name_path=name_path)
        self.problems += found
        return made

    def _named(self, kind: Kind, value: Any, path: str) -> tuple[str, dict[str, Any]] | None:
        """Split `{name: …, **arguments}`, or a bare name, into name and arguments."""
        if isinstance(value, str):
            return value, {}
        if isinstance(value, Mapping):
            args = {**value}
            name = args.pop("name", None)
            if isinstance(name, str):
                return name, args
            known = ", ".join(entries(kind))
            wrong = f"is {shown(name)}, but must be" if "name" in value else "missing, must be"
            self.problems.append(Problem(at(path, "name"), f"{wrong} one of {known}"))
        elif path in self.document:
            expected = f"a mapping with the {kind}'s name and arguments"
            self.problems.append(Problem(path, f"is {shown(value)}, but must be {expected}"))
        return None

    def _methods(self, benchmark: Component | None) -> dict[str, Method]:
        sections = self.document.get("methods")
        methods = {}
        for name, section in sections.items() if isinstance(sections, Mapping) else ():
            path = at("methods", name)
            made = self._method({} if section is None else section, path, benchmark)
            if made:
                methods[name] = made
        return methods

    def _method(self, section: Any, path: str, benchmark: Component | None) -> Method | None:
        self._validated(MethodSection, section, path)
        if not isinstance(section, Mapping):
            return None
        name = _of_type(str, section.get("strategy"), DEFAULT_STRATEGY)
        args = _of_type(dict, section.get("args"), {})
        strategy, found = component(
            "strategy", name, args, path=at(path, "args"), name_path=at(path, "strategy")
        )
        self.problems += found
        plugins = [
            self._plugin(item, at(at(path, "plugins"), index))
            for index, item in enumerate(_of_type(list, section.get("plugins"), []))
        ]
        self.problems += check_method(strategy, plugins, path, benchmark)
        optimizer = self._own_optimizer(section.get("optimizer"), at(path, "optimizer"))
        training = self._own_training(section.get("training"), at(path, "training"))
        if not (strategy and optimizer and training):
            return None
        return Method(strategy, tuple(filter(None, plugins)), optimizer, training)

    def _plugin(self, item: Any, path: str) -> Component | None:
        name: Any = item
        args: Any = {}
        if isinstance(item, Mapping) and len(item) == 1:
            ((name, args),) = item.items()
            args = {} if args is None else args
        if not isinstance(name, str):
            self.problems.append(Problem(path, _misshapen_plugin(item)))
            return None
        if not isinstance(args, Mapping):
            wrong = f"is {shown(args)}, but must be a mapping of arguments"
            self.problems.append(Problem(at(path, name), wrong))
            return None
        made, found = component("plugin", name, args, path=at(path, name), name_path=path)
        self.problems += found
        return made

    def _own_optimizer(self, section: Any, path: str) -> Component | None:
        """The method's optimizer: the global one's arguments count unless it names another."""
        shared = self.document.get("optimizer")
        shared = {"name": shared} if isinstance(shared, str) else _of_type(dict, shared, {})
        own = {"name": section} if isinstance(section, str) else _of_type(dict, section, {})
        same = own.get("name", shared.get("name")) == shared.get("name")
        merged = {**shared, **own} if same else own
        if not isinstance(merged.get("name"), str):
            return None
        args = {key: value for key, value in merged.items() if key != "name"}
        made, found = component(
            "optimizer", merged["name"], args, path=path, name_path=at(path, "name")
        )
        if made:
            found = [*check_optimizer(made, path)]
        self.problems += found if not same else _concerning(found, path, own)
        return made

    def _own_training(self, section: Any, path: str) -> Training | None:
        shared = _of_type(dict, self.document.get("training"), {})
        own = _of_type(dict, section, {})
        made, found = validate(Training, {**shared, **own}, path)
        self.problems += _concerning(found, path, own)
        return made if isinstance(made, Training) else None

    def _check_names(self, published: Published | None) -> None:
        """Check that what refers to methods refers to some that there are."""
        methods = _of_type(dict, self.document.get("methods"), {})
        baseline = self.document.get("baseline")
        named = [("baseline", baseline)] if isinstance(baseline, str) else []
        for metric, numbers in published.by_metric().items() if published else ():
            named += [(at(at("published", metric), name), name) for name in numbers]
        for path, name in named:
            if name not in methods:
                wrong = f"unknown method '{name}'{did_you_mean(name, [*methods])}"
                self.problems.append(Problem(path, wrong))


def _of_type(type_: type, value: Any, default: Any) -> Any:
    """What is of another type was reported when its section was validated."""
    return value if isinstance(value, type_) else default


def _concerning(problems: Iterable[Problem], path: str, keys: Iterable[str]) -> list[Problem]:
    """Those of the problems that lie under one of `keys`: the others were reported globally."""
    starts = [at(path, key) for key in keys]
    return [
        problem
        for problem in problems
        if any(
            problem.path == start or problem.path.startswith((f"{start}.", f"{start}["))
            for start in starts
        )
    ]


def _misshapen_plugin(item: Any) -> str:
    if not isinstance(item, Mapping):
        return f"is {shown(item)}, but must be a plugin's name, or its name and arguments"
    keys = ", ".join(f"'{key}'" for key in item)
    if "name" in item:
        return f"has the keys {keys}: write a plugin as its name followed by its arguments"
    if all(key in entries("plugin") for key in item):
        return f"has the keys {keys}: begin each plugin with its own '-'"
    return f"has the keys {keys}: indent a plugin's arguments below its name"
