"""The sections of the YAML with fixed keys, as frozen pydantic models."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from avalanche_ext.config.annotations import Flag, Integer, Number, Text
from avalanche_ext.config.validation import rejection
from avalanche_ext.results.tune import HIGHER_IS_BETTER
from avalanche_ext.words import did_you_mean, shown

DEFAULT_STRATEGY = "avalanche:Naive"

MOST_METHODS = 1000
"""Maximum number of methods of an experiment, including those from sweeps."""
MOST_PLUGINS = 100
"""Maximum number of plugins of a method."""

FOLDER_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
FOLDER_RULE = "use only letters, digits, '_', '-' and '.', and do not begin with '-' or '.'"
LONGEST_NAME = 255
"""Maximum number of characters in a folder's name, as many as file systems allow."""
LONGEST_TAG = 64
"""Maximum number of characters in a wandb tag."""
_DEVICE = r"cpu|cuda(:(0|[1-9][0-9]*))?"

INSIDE = ("AAA", "WC_ACC", "min_ACC", "LCA")
"""Metrics of accuracies inside experiences where higher is better."""
CLAIMED_METRICS = (*(name for name, is_so in HIGHER_IS_BETTER.items() if is_so), *INSIDE)
"""Metrics that a claim may be about: higher is better. The first is the default."""

_METHODS = rf"\s*({FOLDER_NAME})\s*>\s*({FOLDER_NAME})"
_CLAIM = rf"{_METHODS}(?:\s+in\s+(\S+))?\s*"
_RIGHT_CLAIM = rf"^{_METHODS}(\s+in\s+({'|'.join(CLAIMED_METRICS)}))?\s*$"


def _folder_name(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise rejection(f"has {len(name)} characters, but must have at most {LONGEST_NAME}")
    if not re.fullmatch(FOLDER_NAME, name):
        raise rejection(f"is {shown(name)}, but must be a folder name: {FOLDER_RULE}")
    return name


def _tag(tag: str) -> str:
    if not tag:
        raise rejection("is '', but must have at least one character")
    if len(tag) > LONGEST_TAG:
        raise rejection(f"has {len(tag)} characters, but wandb takes at most {LONGEST_TAG}")
    return tag


def _device(device: str) -> str:
    if not re.fullmatch(_DEVICE, device):
        raise rejection(f"is {shown(device)}, but must be 'cpu', 'cuda' or 'cuda:<n>'")
    return device


def claimed(claim: str) -> tuple[str, str, str] | None:
    """Return a claim's better method, the other method and the metric; None if it is malformed.

    >>> claimed("er_gmed > er"), claimed("er_gmed > er in BWT"), claimed("er < er_gmed")
    (('er_gmed', 'er', 'ACC'), ('er_gmed', 'er', 'BWT'), None)
    """
    match = re.fullmatch(_CLAIM, claim)
    return (match[1], match[2], match[3] or CLAIMED_METRICS[0]) if match else None


def _claim(claim: str) -> str:
    found = claimed(claim)
    if found is None:
        form = (
            "'method > other', where the method is claimed to have the higher ACC, "
            "or 'method > other in metric'"
        )
        raise rejection(f"is {shown(claim)}, but must have the form {form}")
    higher, lower, metric = found
    if higher == lower:
        raise rejection(f"is {shown(claim)}, but must compare two different methods")
    if metric not in CLAIMED_METRICS:
        hint = did_you_mean(metric, CLAIMED_METRICS)
        raise rejection(f"'{metric}' is not a metric where higher is better{hint}")
    return f"{higher} > {lower}" + ("" if metric == CLAIMED_METRICS[0] else f" in {metric}")


def _strategys_name(strategy: Any) -> Any:
    if isinstance(strategy, dict):
        wrong = "must be a name: its arguments go into the key 'args'"
        raise rejection(f"is {shown(strategy)}, but {wrong}")
    return strategy


def _listed(plugins: Any) -> Any:
    if isinstance(plugins, str | dict):
        wrong = f"is {shown(plugins)}, but must be a list: write '- ' before each plugin"
        raise rejection(wrong)
    return plugins


def _identity(value: Any) -> tuple[Any, ...]:
    if isinstance(value, list):
        return tuple(map(_identity, value))
    return isinstance(value, bool), value


def _distinct(values: list[Any]) -> list[Any]:
    # In Python, but not in YAML, true equals 1.
    counts = Counter(map(_identity, values))
    first = {_identity(value): value for value in reversed(values)}
    repeated = [shown(first[each]) for each, count in counts.items() if count > 1]
    if repeated:
        raise rejection(f"has {', '.join(repeated)} more than once")
    return values


def _one_path(sweep: dict[str, list[Any]]) -> dict[str, list[Any]]:
    if len(sweep) != 1:
        found = f"the {len(sweep)} paths {', '.join(sweep)}" if sweep else "no path"
        raise rejection(f"has {found}, but must have one path and the list of its values")
    return sweep


PositiveInteger = Annotated[Integer, Gt(0)]
Correlation = Annotated[Number, Ge(-1), Le(1)]
Seed = Annotated[Integer, Ge(0), Lt(2**32)]  # The range of numpy's global generator.
FolderName = Annotated[
    Text, AfterValidator(_folder_name), Field(json_schema_extra={"pattern": f"^{FOLDER_NAME}$"})
]
Seeds = (
    Annotated[PositiveInteger, Le(10_000)]
    | Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)]
)

Claims = Annotated[
    list[
        Annotated[Text, AfterValidator(_claim), Field(json_schema_extra={"pattern": _RIGHT_CLAIM})]
    ],
    AfterValidator(_distinct),
]

_Plain = Integer | Number | Flag | Text

Values = Annotated[
    list[_Plain | list[_Plain]],
    Field(min_length=1, max_length=MOST_METHODS),
    AfterValidator(_distinct),
]
"""The values that a parameter is tried with."""

SweepValues = Annotated[
    dict[Text, Values],
    AfterValidator(_one_path),
    Field(json_schema_extra={"minProperties": 1, "maxProperties": 1}),
]


_TOP_LEVEL = (
    *("name", "benchmark", "seeds", "methods", "baseline", "claims", "analyses", "evaluate"),
    "wandb",
)
_IN_SECTIONS = {
    "optimizer": ("lr", "learning_rate", "momentum", "weight_decay"),
    "model": ("hidden_sizes", "multi_head", "dropout"),
    "benchmark": ("n_experiences", "scenario", "order_seed", "train_size", "test_size", "dataset"),
}
_HOMES = {key: key for key in _TOP_LEVEL} | {
    key: f"{section}.{key.replace('learning_rate', 'lr')}"
    for section, keys in _IN_SECTIONS.items()
    for key in keys
}
"""The right places of keys that are often misplaced."""


class Section(BaseModel):
    """A part of the YAML with fixed keys.

    Attributes:
        elsewhere: Paths of keys that belong elsewhere, by name, for hints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    elsewhere: ClassVar[dict[str, str]] = _HOMES


class Training(Section):
    """How each cell trains and evaluates.

    `iterations` per experience replace `epochs`; `repeats` is the number of steps on each
    mini-batch. With `iid`, the samples of all experiences come in random order. `precision` is that
    of the model's forward and backward pass, and `channels_last` the memory layout of its image
    convolutions. With `compile`, the loss and its gradients come from compiled code. A key counts
    in a cell's hash only if it differs from its default, so a default must never change.
    """

    batch_size: PositiveInteger
    epochs: PositiveInteger = 1
    iterations: PositiveInteger | None = None
    repeats: PositiveInteger = 1
    criterion: Text | dict[Text, Any] | None = None
    scheduler: Text | dict[Text, Any] | None = None
    clip_grad_norm: Annotated[Number, Gt(0)] | None = None
    eval_batch_size: PositiveInteger = 512
    shuffle: Flag = True
    iid: Flag = False
    threads: PositiveInteger = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: Flag = False
    compile: Flag = False
    checkpoint_minutes: Annotated[Number, Gt(0)] = 10
    device: Annotated[
        Text, AfterValidator(_device), Field(json_schema_extra={"pattern": f"^({_DEVICE})$"})
    ] = "cpu"


class Evaluate(Section):
    """Evaluation inside experiences, after every n-th mini-batch.

    Attributes:
        every: n, the number of mini-batches between two evaluations.
        test_size: Number of samples of each test experience to evaluate; None for all.
        beta: Number of mini-batches of each experience that LCA averages over; None for as many as
            all experiences have.
    """

    elsewhere = _HOMES | {"test_size": "evaluate.test_size"}

    every: PositiveInteger
    test_size: PositiveInteger | None = None
    beta: PositiveInteger | None = None


class Wandb(Section):
    """Whether runs are sent to Weights & Biases, and where.

    Attributes:
        mode: "offline" keeps wandb's files for `wandb sync`.
        project: The project in wandb.
        entity: The user or team; None for the account's default.
        tags: Tags of every run, in addition to experiment, method and benchmark.
        report: Whether `run` also sends the report, as a wandb run of the experiment.
    """

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: Text = "avalanche-ext"
    entity: Text | None = None
    tags: tuple[Annotated[Text, AfterValidator(_tag)], ...] = ()
    report: Flag = False


class Validation(Section):
    """Held-out training samples that are evaluated instead of the test stream.

    Attributes:
        experiences: Number of experiences to learn, the first ones.
        per_experience: Number of samples of each to hold out, drawn with the run's seed.
    """

    experiences: PositiveInteger
    per_experience: PositiveInteger


class PublishedValue(Section):
    """A paper's number, as a fraction (0.93, not 93)."""

    mean: Annotated[Number, Ge(-1), Le(1)]
    std: Annotated[Number, Ge(0), Le(1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, value: Any) -> Any:
        if isinstance(value, float | int):
            raise rejection(f"is {shown(value)}, but must be a mapping: {{mean: {shown(value)}}}")
        return value


class PublishedCorrelations(Section):
    """A paper's correlations between the ρ-spectrum and metrics, over all its runs."""

    ACC: Correlation | None = None
    forgetting: Correlation | None = None
    intransigence: Correlation | None = None


class Published(Section):
    """A paper's numbers per metric and method, which the report shows next to ours."""

    reference: Text
    ACC: dict[Text, PublishedValue] = {}
    average_incremental_accuracy: dict[Text, PublishedValue] = {}
    instance_accuracy: dict[Text, PublishedValue] = {}
    BWT: dict[Text, PublishedValue] = {}
    FWT: dict[Text, PublishedValue] = {}
    forgetting: dict[Text, PublishedValue] = {}
    intransigence: dict[Text, PublishedValue] = {}
    learning_accuracy: dict[Text, PublishedValue] = {}
    AAA: dict[Text, PublishedValue] = {}
    WC_ACC: dict[Text, PublishedValue] = {}
    min_ACC: dict[Text, PublishedValue] = {}
    LCA: dict[Text, PublishedValue] = {}
    rho_correlation: PublishedCorrelations = PublishedCorrelations()

    def by_metric(self) -> dict[str, dict[str, PublishedValue]]:
        """Return the given numbers of methods: metric → method → value."""
        others = ("reference", "rho_correlation")
        fields = (name for name in type(self).model_fields if name not in others)
        return {name: numbers for name in fields if (numbers := getattr(self, name))}


class Document(Section):
    """The keys of an experiment; sections of type `Any` are checked later, one by one."""

    elsewhere = (
        _HOMES
        | {key: f"training.{key}" for key in Training.model_fields}
        | {"every": "evaluate.every"}
        | {key: f"methods.NAME.{key}" for key in ("strategy", "args", "plugins", "sweep")}
    )

    name: FolderName
    benchmark: Any
    model: Any
    optimizer: Any
    training: Any
    seeds: Seeds
    methods: Annotated[dict[FolderName, Any], Field(min_length=1)]
    baseline: Text | None = None
    claims: Claims | None = None
    analyses: Any = None
    tune: Any = None
    validation: Any = None
    evaluate: Any = None
    wandb: Any = None
    published: Any = None


class MethodSection(Section):
    """The keys of a method."""

    elsewhere = _HOMES | {key: f"training.{key}" for key in Training.model_fields}

    strategy: Annotated[Text, BeforeValidator(_strategys_name)] = DEFAULT_STRATEGY
    args: dict[Text, Any] | None = None
    plugins: (
        Annotated[list[Any], BeforeValidator(_listed), Field(max_length=MOST_PLUGINS)] | None
    ) = None
    model: Text | dict[Text, Any] | None = None
    optimizer: Text | dict[Text, Any] | None = None
    training: dict[Text, Any] | None = None
    sweep: SweepValues | None = None
