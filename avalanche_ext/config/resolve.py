"""Resolves a YAML into a validated experiment, and reports all its problems at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from avalanche_ext.config.catalogue import ANALYSES, Kind, entries
from avalanche_ext.config.components import component, sound_part
from avalanche_ext.config.errors import MOST_PROBLEMS, ConfigError, Problem, at, lies_at
from avalanche_ext.config.methods import Shared, resolve_method
from avalanche_ext.config.nested import with_parts
from avalanche_ext.config.open_names import relative_to
from avalanche_ext.config.overrides import apply_overrides
from avalanche_ext.config.reader import read_file
from avalanche_ext.config.recipe import resolve_training
from avalanche_ext.config.recipe_checks import (
    check_momentum,
    check_optimizer,
)
from avalanche_ext.config.rerun import as_experiment, is_resolved
from avalanche_ext.config.schema import Component, Experiment, Method
from avalanche_ext.config.sections import (
    INSIDE,
    MOST_METHODS,
    Document,
    Evaluate,
    Published,
    PublishedCorrelations,
    Validation,
    Wandb,
    claimed,
)
from avalanche_ext.config.semantics import (
    check_analysis,
    check_benchmark,
    check_model,
    check_names,
)
from avalanche_ext.config.sweep import expand, is_swept
from avalanche_ext.config.traits import read_traits
from avalanche_ext.config.tune import (
    Search,
    TuneSection,
    Tuning,
    check_tune,
    check_validation,
    resolve_search,
)
from avalanche_ext.config.validation import of_type, validate
from avalanche_ext.results.record import Claim, Sweep
from avalanche_ext.results.tune import OF_SEVERAL, OF_THE_END
from avalanche_ext.words import alternatives, did_you_mean, shown


def load_experiment(
    path: str | Path, overrides: str | Sequence[str] = (), n_seeds: int | None = None
) -> Experiment:
    """Read and check a YAML without importing torch or avalanche.

    Args:
        path: The YAML file.
        overrides: `key=value` texts, or a single one, that override the file.
        n_seeds: If given, the seeds are 0 … n_seeds - 1 instead of the file's.

    Raises:
        ConfigError: If the file or the overrides have problems; it lists all of them.
    """
    path = Path(path)
    document, problems = read_file(path)
    if not isinstance(document, dict):
        found = "is empty" if document is None else f"is {shown(document)}"
        raise ConfigError([Problem(str(path), f"{found}, but must be a mapping of keys to values")])
    if is_resolved(document):
        document = as_experiment(document)
    problems += apply_overrides(document, [overrides] if isinstance(overrides, str) else overrides)
    if n_seeds is not None:
        document["seeds"] = n_seeds
    resolver = _Resolver(document)
    with relative_to(path.parent):
        experiment = resolver.experiment()
    already = {problem.path for problem in problems}
    problems += [problem for problem in resolver.problems if problem.path not in already]
    if problems or experiment is None:
        raise ConfigError(problems)
    return experiment


class _Resolver:
    """Resolves a document section by section, and collects the problems of all of them."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.names: dict[str, list[str]] = {}
        """The names of the methods that each section of `methods` expands to."""
        self.sweeps: dict[str, Sweep] = {}
        self.searches: dict[str, Search] = {}

    def experiment(self) -> Experiment | None:
        document = self._validated(Document, self.document, "")
        benchmark, sound_benchmark = self._component("benchmark")
        if sound_benchmark:
            self.problems += check_benchmark(sound_benchmark)
        model, sound_model = self._component("model")
        if sound_benchmark and sound_model:
            self.problems += check_model(sound_model, sound_benchmark, "model")
        optimizer, sound_optimizer = self._component("optimizer")
        if sound_optimizer:
            self.problems += check_optimizer(sound_optimizer, "optimizer")
        training = None
        if "training" in self.document:
            recipe, found = resolve_training(self.document["training"], "training", sound_benchmark)
            training = recipe.training
            self.problems += found
            self.problems += check_momentum(recipe.scheduler, sound_optimizer, "training.scheduler")
        analyses = self._analyses()
        wandb = self._optional_section(Wandb, "wandb") or Wandb()
        evaluate = self._optional_section(Evaluate, "evaluate")
        published = self._optional_section(Published, "published")
        tune = self._optional_section(TuneSection, "tune")
        validation = self._validation(sound_benchmark, tune)
        methods = self._methods(benchmark, analyses, tune)
        if evaluate:
            self._check_evaluated(methods)
            self._check_area(evaluate, published)
        elif self.document.get("evaluate") is None:
            self._check_not_measured(published)
        self._check_names(published)
        self._check_defined(methods, sound_benchmark)
        if tune:
            name, seeds = (document.name, _listed(document.seeds)) if document else ("", ())
            sections = of_type(dict, self.document.get("methods"), {})
            self.problems += check_tune(tune, name, sections, seeds, [*self.sweeps])
        is_lacking = _has_correlations(published) and not _has(methods, "rho_spectrum")
        # A method or an analysis with problems may be the one that needs it.
        sections = ("methods", "analyses")
        if is_lacking and not any(lies_at(p.path, key) for p in self.problems for key in sections):
            wrong = "needs ρ of some method: add analyses: {rho_spectrum: {}}"
            self.problems.append(Problem("published.rho_correlation", wrong))
        if self.problems or not (document and benchmark and model and optimizer and training):
            return None
        return Experiment(
            name=document.name,
            benchmark=benchmark,
            model=model,
            optimizer=optimizer,
            training=training,
            seeds=_listed(document.seeds),
            methods=methods,
            sweeps=self.sweeps,
            baseline=self.document.get("baseline", next(iter(methods))),
            claims=tuple(claim for _, claim in self._claims()),
            wandb=wandb,
            evaluate=evaluate,
            published=published,
            validation=validation,
            tuning=self._tuning(tune) if tune else None,
            undecided=tuple(self.searches),
            document=self.document,
        )

    def _validated(self, type_: Any, value: Any, path: str) -> Any:
        checked, found = validate(type_, value, path)
        self.problems += found
        return checked

    def _section(self, type_: Any, key: str) -> Any:
        return self._validated(type_, self.document[key], key) if key in self.document else None

    def _optional_section(self, type_: Any, key: str) -> Any:
        return None if self.document.get(key) is None else self._section(type_, key)

    def _component(self, kind: Kind) -> tuple[Component | None, Component | None]:
        """Return a section's component, None if it has problems, and its correct part."""
        value = self.document.get(kind)
        named = self._named(kind, value)
        if named is None:
            return None, None
        name_path = kind if isinstance(value, str) else at(kind, "name")
        made, found = component(kind, *named, path=kind, name_path=name_path)
        if made:
            made, found = with_parts(made, kind)
            made = None if found else made
        self.problems += found
        return made, made or sound_part(kind, *named, path=kind, problems=found)

    def _named(self, kind: Kind, value: Any) -> tuple[str, dict[str, Any]] | None:
        """Split `{name: …, **arguments}`, or a bare name, into name and arguments."""
        path = kind
        if isinstance(value, str):
            return value, {}
        if isinstance(value, Mapping):
            args = {**value}
            name = args.pop("name", None)
            if isinstance(name, str):
                return name, args
            key = next(iter(value), None)
            if "name" not in value and key in entries(kind):
                wrong = f"has the key '{key}', but must be {{name: {key}, …}}"
                self.problems.append(Problem(path, wrong))
                return None
            known = ", ".join(entries(kind))
            wrong = f"is {shown(name)}, but must be" if "name" in value else "missing, must be"
            self.problems.append(Problem(at(path, "name"), f"{wrong} one of {known}"))
        elif path in self.document:
            expected = f"a mapping with the {kind}'s name and arguments"
            self.problems.append(Problem(path, f"is {shown(value)}, but must be {expected}"))
        return None

    def _analyses(self) -> tuple[Component, ...]:
        """Return the plugins that the section `analyses` adds to every method."""
        section = self.document.get("analyses")
        section = {} if section is None else section
        if not isinstance(section, Mapping):
            expected = f"a mapping of {alternatives(ANALYSES)} to arguments"
            problem = Problem("analyses", f"is {shown(section)}, but must be {expected}")
            self.problems.append(problem)
            return ()
        plugins = []
        for name, args in section.items():
            path = at("analyses", name)
            if name not in ANALYSES:
                wrong = f"unknown analysis '{name}'{did_you_mean(name, ANALYSES)}"
                self.problems.append(Problem(path, wrong))
            elif not isinstance(args, Mapping | None):
                expected = f"a mapping of the arguments of '{name}', which may be empty"
                self.problems.append(Problem(path, f"is {shown(args)}, but must be {expected}"))
            else:
                plugin, found = component("plugin", name, args or {}, path=path, name_path=path)
                self.problems += found
                if plugin:
                    self.problems += check_analysis(plugin, path)
                    plugins.append(plugin)
        return tuple(plugins)

    def _methods(
        self,
        benchmark: Component | None,
        analyses: tuple[Component, ...],
        tune: TuneSection | None,
    ) -> dict[str, Method]:
        """Build all methods, and note the names and the sweep or the search of each section."""
        sections = of_type(dict, self.document.get("methods"), {})
        shared = Shared(
            self.document.get("model"),
            self.document.get("optimizer"),
            self.document.get("training"),
            benchmark,
            analyses,
        )
        methods: dict[str, Method] = {}
        settings: set[str] = set()
        for name, section in sections.items():
            if len(self.problems) >= MOST_PROBLEMS:
                break
            if len(methods) > MOST_METHODS:
                wrong = f"has more than {MOST_METHODS:,} methods, counting each setting of a sweep"
                self.problems.append(Problem("methods", wrong))
                break
            if is_swept(section):
                taken = {*sections, *chain(*self.names.values())}
                swept = expand(name, section, shared, taken)
                self.names[name] = [*swept.sweep.values] if swept.sweep else []
                if swept.sweep:
                    self.sweeps[name] = swept.sweep
                methods |= swept.methods
                self.problems += swept.problems
            elif tune and name in tune.search:
                search, found = resolve_search(name, section, shared, tune, settings)
                self.names[name] = [name]
                if search:
                    self.searches[name] = search
                    methods[name] = next(iter(search.settings.values())).method
                self.problems += found
            else:
                method, found = resolve_method(section, at("methods", name), shared)
                self.names[name] = [name]
                if method:
                    methods[name] = method
                self.problems += found
        return methods

    def _validation(
        self, benchmark: Component | None, tune: TuneSection | None
    ) -> Validation | None:
        """Return the section `validation`, checked like `tune`'s."""
        validation: Validation | None = self._optional_section(Validation, "validation")
        if validation and self.document.get("tune") is not None:
            wrong = "has no effect with 'tune', which has held-out samples of its own"
            self.problems.append(Problem("validation", wrong))
        for section, path in ((validation, "validation"), (tune and tune.validation, "tune")):
            if section and benchmark:
                self.problems += check_validation(section, benchmark, path)
        return validation

    def _tuning(self, tune: TuneSection) -> Tuning:
        return Tuning(
            validation=tune.validation,
            seeds=tune.seed_list,
            metric=tune.metric,
            sampler=tune.sampler,
            trials=tune.trials,
            searches=self.searches,
        )

    def _claims(self) -> list[tuple[str, Claim]]:
        """Return the well-formed claims, each with its path."""
        texts = of_type(list, self.document.get("claims"), [])
        return [
            (at("claims", index), Claim(*found))
            for index, text in enumerate(texts)
            if isinstance(text, str) and (found := claimed(text))
        ]

    def _check_evaluated(self, methods: Mapping[str, Method]) -> None:
        """Check that all methods can be evaluated inside experiences."""
        for section, names in self.names.items():
            strategies = [methods[name].strategy for name in names if name in methods]
            for strategy in strategies[:1]:
                if any(each.packs_weights for each in read_traits(strategy.target, strategy.args)):
                    wrong = (
                        f"'{strategy.name}' cannot be evaluated inside experiences, because it "
                        "cannot go back to earlier tasks before a task has ended: leave out "
                        "'evaluate', or the method"
                    )
                    self.problems.append(Problem(at(at("methods", section), "strategy"), wrong))

    def _check_area(self, evaluate: Evaluate, published: Published | None) -> None:
        """Check the number of mini-batches of LCA, which must match the paper's."""
        if evaluate.beta and evaluate.beta % evaluate.every:
            wrong = f"is {evaluate.beta}, but must be a multiple of every, which is "
            self.problems.append(Problem("evaluate.beta", f"{wrong}{evaluate.every}"))
        if evaluate.beta is None and published and published.LCA:
            self.problems.append(
                Problem(
                    "published.LCA",
                    "needs evaluate.beta, the number of mini-batches that the paper's LCA averages "
                    "over (10 in A-GEM), a multiple of evaluate.every",
                )
            )

    def _check_not_measured(self, published: Published | None) -> None:
        """Check that no claim or published number needs accuracies inside experiences."""
        named = [(path, claim.metric) for path, claim in self._claims()]
        named += (
            [(at("published", metric), metric) for metric in published.by_metric()]
            if published
            else []
        )
        for path, metric in named:
            if metric in INSIDE:
                wrong = f"'{metric}' is measured inside experiences: add evaluate: {{every: 50}}"
                self.problems.append(Problem(path, wrong))

    def _check_defined(self, methods: Mapping[str, Method], benchmark: Component | None) -> None:
        """Check that the metrics of claims are defined for their methods."""
        is_single = benchmark is not None and benchmark.args.get("n_experiences") == 1
        for path, claim in self._claims():
            wrong = f"'{claim.metric}' is undefined for "
            if is_single and claim.metric in OF_SEVERAL:
                remedy = "set benchmark.n_experiences to 2 or more"
                self.problems.append(Problem(path, f"{wrong}a single experience: {remedy}"))
                continue
            for name in (claim.higher, claim.lower):
                reason = methods[name].at_once if name in methods else ""
                if reason and claim.metric not in (*OF_THE_END, "AAA"):
                    remedy = f"use {alternatives(OF_THE_END)}"
                    self.problems.append(Problem(path, f"{wrong}{name} ({reason}): {remedy}"))

    def _check_names(self, published: Published | None) -> None:
        """Check methods' names, and that baseline, claims and published numbers name methods."""
        baseline = self.document.get("baseline")
        named = [("baseline", baseline)] if isinstance(baseline, str) else []
        for path, claim in self._claims():
            named += [(path, name) for name in dict.fromkeys((claim.higher, claim.lower))]
        for metric, numbers in published.by_metric().items() if published else ():
            named += [(at(at("published", metric), name), name) for name in numbers]
        known = [*chain(*self.names.values())]
        self.problems += check_names(self.names)
        for path, name in named:
            if len(self.problems) >= MOST_PROBLEMS:
                return
            if name in known or self._may_be_swept(name):
                continue
            if name in self.names:
                wrong = f"'{name}' is swept: name one of {', '.join(self.names[name])}"
            else:
                wrong = f"unknown method '{name}'{did_you_mean(name, known)}"
            self.problems.append(Problem(path, wrong))

    def _may_be_swept(self, name: str) -> bool:
        """Return whether the name may refer to a setting of a faulty sweep."""
        return any(not names and name.startswith(method) for method, names in self.names.items())


def _listed(seeds: int | list[int]) -> tuple[int, ...]:
    """Return the list of seeds."""
    return tuple(range(seeds) if isinstance(seeds, int) else seeds)


def _has_correlations(published: Published | None) -> bool:
    return published is not None and published.rho_correlation != PublishedCorrelations()


def _has(methods: Mapping[str, Method], plugin: str) -> bool:
    return any(plugin == each.name for method in methods.values() for each in method.plugins)
