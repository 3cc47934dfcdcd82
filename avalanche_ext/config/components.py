"""Checks a name and arguments from the YAML against a signature, and builds a component."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge

from avalanche_ext.config.annotations import Flag, Integer, describe
from avalanche_ext.config.catalogue import (
    AVALANCHE,
    INJECTED,
    KINDS,
    OURS,
    Entry,
    Kind,
    entries,
    fixed,
    why_not,
)
from avalanche_ext.config.errors import ConfigError, Problem, at, lies_at
from avalanche_ext.config.open_names import (
    TORCHVISION,
    digests,
    is_open_name,
    kind_of,
    open_entry,
    registered,
)
from avalanche_ext.config.ranges import check_range
from avalanche_ext.config.schema import Component
from avalanche_ext.config.sections import Document
from avalanche_ext.config.signatures import (
    NO_DEFAULT,
    Parameter,
    Signature,
    keywords,
    locate,
    read_signature,
)
from avalanche_ext.config.sources import SourceError
from avalanche_ext.config.validation import adapter, elsewhere, validate
from avalanche_ext.words import did_you_mean, shown, suggestion

ORDER_SEED = "order_seed"
"""The YAML's name for a benchmark's seed of the class order, which is the same in all runs."""

_NUMBERS_OF_CLASSES = {"n_classes", "num_classes"}

_OrderSeed = Annotated[Integer, Ge(0)]

OF_THE_RUN: dict[Kind, tuple[Parameter, ...]] = {
    "model": (Parameter("multi_head", "bool", Flag, required=False, default=False),),
    "optimizer": (Parameter("reset", "bool", Flag, required=False, default=False),),
    "scheduler": (
        Parameter("by", "str", Literal["epoch", "iteration"], required=False, default="epoch"),
        Parameter("reset", "bool", Flag, required=False, default=True),
    ),
}
"""Keys for the runner next to a component's arguments, unless it has an argument of that name."""

_ADVICE: dict[Kind, str] = {
    "plugin": "plugins go into the method's list 'plugins'",
    "strategy": "strategies go into the method's key 'strategy'",
    "benchmark": "it goes into 'benchmark'",
    "model": "it goes into 'model'",
    "optimizer": "it goes into 'optimizer'",
    "criterion": "it goes into 'training.criterion'",
    "scheduler": "it goes into 'training.scheduler'",
    "dataset": "it goes into the key 'dataset' of the benchmark split, permuted or rotated",
    "transform": "it goes into 'benchmark.train_transforms' or 'benchmark.test_transforms'",
}


def settable(kind: Kind, entry: Entry, signature: Signature) -> Iterator[Parameter]:
    """Yield the parameters that a YAML may set; none that the runner fills is required."""
    for parameter in signature.parameters:
        if parameter.name in fixed(kind, entry) or parameter.type is None:
            continue
        is_filled = parameter.name in INJECTED[kind]
        yield replace(parameter, required=parameter.required and not is_filled)


def find_entry(kind: Kind, name: str, path: str) -> tuple[Entry | None, list[Problem]]:
    """Return the entry of a name, or None and the problem with the name at `path`."""
    known = entries(kind)
    if name in known:
        return known[name], []
    for other in KINDS:
        if name in entries(other):
            return None, [Problem(path, _misplaced(name, other, kind))]
    try:
        if name in registered():
            entry = Entry(registered()[name])
        elif is_open_name(name) and not _is_listed(kind, name):
            entry = open_entry(kind, name)
            module, definition = locate(entry.target)
            reason = why_not(kind, getattr(definition, "name", "")) if module.is_of("torch") else ""
            if reason:
                raise LookupError(reason)
        else:
            return None, [Problem(path, f"unknown {kind} {shown(name)} ({_nearest(kind, name)})")]
        other_kind = kind_of(entry.target)
        read_signature(entry.target)  # Its file may not be readable.
    except (LookupError, SourceError) as error:
        reason = str(error.args[0])
        is_plain = reason.startswith("unknown ")  # The reason already quotes the name.
        wrong = reason if is_plain else f"{shown(name)} cannot be used: {reason}"
        return None, [Problem(path, wrong)]
    # Any module can transform images, or be a loss.
    is_module = other_kind in ("model", "criterion", "transform")
    may_be_module = kind in ("transform", "criterion")
    if other_kind not in (kind, None) and not (may_be_module and is_module):
        return None, [Problem(path, _misplaced(name, other_kind, kind))]
    return entry, []


def _nearest(kind: Kind, name: str) -> str:
    """Return advice on an unknown name."""
    if ".py." in name:
        return f"for a class in a file write '{name.replace('.py.', '.py:')}'"
    spellings = {each.lower(): (other, each) for other in KINDS for each in OURS[other]}
    other, namesake = spellings.get(name.lower(), (kind, ""))
    return (
        suggestion(name, [*entries(kind), *registered()])
        or (f"did you mean the {other} '{namesake}'?" if namesake else "")
        or f"known: {', '.join(_shown_names(kind))}"
    )


def may_be_found(name: str) -> bool:
    """Return whether a name that is not in the catalogue may still be found elsewhere."""
    return name in registered() or is_open_name(name)


def find_open(name: str) -> tuple[Kind, Entry]:
    """Return the entry and the kind of a name that is not in the catalogue.

    A function is a model if it takes arguments that only models get, otherwise a benchmark.

    Raises:
        ConfigError: If the name is unknown.
    """
    problems: list[Problem] = []
    listed: list[str] = []
    first: tuple[Kind, ...] = ("model", "benchmark", "optimizer", "strategy", "plugin")
    for kind in (*first, *(kind for kind in KINDS if kind not in first)):
        listed += entries(kind)
        entry, problems = find_entry(kind, name, name)
        if entry is None:
            continue
        names = {parameter.name for parameter in read_signature(entry.target).parameters}
        is_certain = kind_of(entry.target) or name.startswith((AVALANCHE, TORCHVISION))
        if kind != "model" or is_certain or names & {*INJECTED["model"]}:
            return kind, entry
    advice = suggestion(name, listed)
    raise ConfigError([Problem(name, f"unknown name ({advice})")] if advice else problems)


def _is_listed(kind: Kind, name: str) -> bool:
    """Return whether the catalogue has all names of this kind with the name's prefix."""
    return name.startswith(AVALANCHE) and any(each.startswith(AVALANCHE) for each in entries(kind))


def _misplaced(name: str, is_: Kind, must_be: Kind) -> str:
    return f"'{name}' is {_a(is_)}, not {_a(must_be)}: {_ADVICE[is_]}"


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind == "optimizer" else f"a {kind}"


def _shown_names(kind: Kind) -> list[str]:
    if kind in ("plugin", "strategy"):
        return [*OURS[kind], f"{AVALANCHE}<class name>"]
    return [*entries(kind)]


def component(
    kind: Kind, name: str, args: Mapping[str, Any], path: str, name_path: str
) -> tuple[Component | None, list[Problem]]:
    """Check a component's name and arguments.

    Args:
        kind: What it must be.
        name: What the YAML calls it.
        args: The arguments the YAML gives.
        path: The path of the arguments in the YAML.
        name_path: The path of the name in the YAML.

    Returns:
        The component and no problem, or None and all problems with it.
    """
    entry, problems = find_entry(kind, name, name_path)
    if entry is None:
        return None, problems
    try:
        signature = signature_of(kind, entry)
        files = digests(entry.target)
    except (LookupError, SourceError) as error:
        return None, [Problem(name_path, f"'{name}' cannot be used: {error}")]
    parameters = {parameter.name: parameter for parameter in settable(kind, entry, signature)}
    values: dict[str, Any] = {}
    for key, value in args.items():
        where = at(path, key)
        if key not in parameters and _may_be_passed(kind, key, signature, entry):
            values[key] = value
            continue
        if key not in parameters:
            problems.append(Problem(where, _refusal(kind, key, signature, [*parameters], entry)))
            continue
        type_ = parameters[key].type
        checked, found = validate(type_, value, where)
        found = found or [*check_range(entry.target, key, value, where)]
        problems += found
        if not found:
            values[key] = adapter(type_).dump_python(checked, mode="json")
    meant = " ".join(suggestion(key, [*parameters]) for key in args if key not in parameters)
    missing = [
        parameter
        for parameter in signature.parameters
        if parameter.required
        and parameter.name not in (*INJECTED[kind], *args)
        and f"'{parameter.name}'" not in meant  # Its misspelt key was already reported.
    ]
    problems += _missing(missing, name, path, name_path)
    if problems:
        return None, [_placed(problem, entry, signature) for problem in problems]
    if entry.is_ours:
        defaults = _defaults(parameters)
    elif _orders_by_seed(kind, entry):
        defaults = _defaults({ORDER_SEED: parameters[ORDER_SEED]})
    else:
        defaults = {}
    # Settings of the runner do not change the hash if a YAML sets the default.
    own = {parameter.name for parameter in read_signature(entry.target).parameters}
    later = {*entry.later, *(each.name for each in OF_THE_RUN.get(kind, ()))} - (
        own - {*entry.later}
    )
    given = {
        key: value
        for key, value in {**defaults, **values}.items()
        if key not in later or value != parameters[key].default
    }
    return Component(name, entry.target, given, files), []


def signature_of(kind: Kind, entry: Entry) -> Signature:
    """Return the signature by which a YAML calls an entry's class or function.

    It differs from the source in two ways: arguments in `OF_THE_RUN`, and the `seed` of a benchmark
    that is not ours and has no other seed: it orders the classes, and is called `order_seed` in a
    YAML.

    Raises:
        LookupError: If it is not installed, or not in its file.
        SourceError: If its file cannot be read.
    """
    signature = read_signature(entry.target)
    if kind in OF_THE_RUN:
        own = {parameter.name for parameter in signature.parameters}
        added = [parameter for parameter in OF_THE_RUN[kind] if parameter.name not in own]
        return replace(signature, parameters=(*signature.parameters, *added))
    if not _orders_by_seed(kind, entry):
        return signature
    renamed = [
        replace(each, name=ORDER_SEED, type=_OrderSeed, required=False, default=_seed(each.default))
        if each.name == "seed"
        else each
        for each in signature.parameters
    ]
    return replace(signature, parameters=tuple(renamed))


def _seed(default: Any) -> int:
    """Return a seed's default; zero instead of None, which would vary the order between runs."""
    return default if isinstance(default, int) else 0


def _orders_by_seed(kind: Kind, entry: Entry) -> bool:
    if kind != "benchmark" or entry.is_ours:
        return False
    names = [parameter.name for parameter in read_signature(entry.target).parameters]
    return "seed" in names and ORDER_SEED not in names


def _may_be_passed(kind: Kind, key: str, signature: Signature, entry: Entry) -> bool:
    """Return whether only a call can show whether a keyword is accepted."""
    known = {*fixed(kind, entry), *(parameter.name for parameter in signature.parameters)}
    if kind == "model":
        known -= _NUMBERS_OF_CLASSES - keywords(entry.target)  # Nothing else passes these to it.
    return signature.is_open and key not in known


def _placed(problem: Problem, entry: Entry, signature: Signature) -> Problem:
    """Add the place of a user's class to a problem with its arguments."""
    if not signature.place:
        return problem
    definition = entry.target.rpartition(":")[2]
    return Problem(problem.path, f"{problem.message}; {definition} is at {signature.place}")


def sound_part(
    kind: Kind, name: str, args: Mapping[str, Any], path: str, problems: Sequence[Problem]
) -> Component | None:
    """Return the correct part of a component with problems, for checks that need no more.

    It has the YAML's arguments without problems, and no defaults.

    Args:
        kind: What it is.
        name: What the YAML calls it.
        args: The arguments the YAML gives.
        path: The path of the arguments in the YAML.
        problems: Its problems.
    """
    entry, _ = find_entry(kind, name, path)
    wrong = {key for key in args for each in problems if lies_at(each.path, at(path, key))}
    sound = {key: value for key, value in args.items() if key not in wrong}
    return Component(name, entry.target, sound) if entry else None


def _refusal(kind: Kind, key: str, signature: Signature, known: list[str], entry: Entry) -> str:
    if key in fixed(kind, entry) and key in keywords(entry.target):
        source = fixed(kind, entry)[key]
        return f"'{key}' cannot be set here{f': it comes from {source}' if source else ''}"
    for parameter in signature.parameters:
        if parameter.name == key:
            advice = "leave it out, or use a script"
            return f"'{key}' takes a Python object ({parameter.annotation}): {advice}"
    place = Document.elsewhere.get(key, "")
    if suggestion(key, known) or not place or place.startswith(f"{kind}."):
        return f"unknown key '{key}'{did_you_mean(key, known) or ' (it takes none)'}"
    return f"unknown key '{key}'{elsewhere(key, Document.elsewhere)}"


def _missing(
    parameters: Sequence[Parameter], name: str, path: str, name_path: str
) -> Iterator[Problem]:
    objects = [f"'{parameter.name}'" for parameter in parameters if parameter.type is None]
    if objects:
        needs = f"it needs Python objects for {', '.join(objects)}"
        yield Problem(name_path, f"'{name}' cannot be built from a YAML: {needs}")
        return
    for parameter in parameters:
        needs = f"missing, but '{name}' needs it"
        values = "" if parameter.type is Any else f" ({describe(parameter.type)})"
        yield Problem(at(path, parameter.name), needs + values)


def _defaults(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the plain defaults, converted like values from a YAML (a float's 2 becomes 2.0)."""
    plain: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.default is not NO_DEFAULT:
            of_default = adapter(parameter.type)
            checked = of_default.validate_python(parameter.default)
            plain[name] = of_default.dump_python(checked, mode="json")
    return plain
