"""All names that a YAML may use: ours in tables, Avalanche's and torch's from their sources."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from avalanche_ext.config.sources import package_directory

Kind = Literal[
    "benchmark",
    "criterion",
    "dataset",
    "model",
    "optimizer",
    "plugin",
    "scheduler",
    "strategy",
    "transform",
]
KINDS: tuple[Kind, ...] = (
    "plugin",
    "strategy",
    "benchmark",
    "model",
    "optimizer",
    "criterion",
    "scheduler",
    "dataset",
    "transform",
)

AVALANCHE = "avalanche:"
"""Prefix of names that are looked up in Avalanche."""


@dataclass(frozen=True)
class Entry:
    """The class or function behind a name.

    Attributes:
        target: The class or function, `package.module:Name`.
        paper: Its publication; empty for Avalanche's and torch's.
        n_classes: The number of classes of a benchmark, if it is known without the data.
        analyses: Whether it is a plugin that only observes and does not change training.
        later: Arguments that were added after results had been stored. A component leaves them out
            if they have their defaults, so the hashes of older results stay valid.
    """

    target: str
    paper: str = ""
    n_classes: int | None = None
    analyses: bool = False
    later: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether it belongs to this package."""
        return self.target.startswith("avalanche_ext.")


_AGEM = (
    "Chaudhry, Ranzato, Rohrbach, Elhoseiny 2019, Efficient Lifelong Learning with A-GEM, "
    "arXiv:1812.00420"
)
_ER = "Chaudhry et al. 2019, On Tiny Episodic Memories in Continual Learning, arXiv:1902.10486"
_DRL = "Chen, Diethe, Flach 2020, Discriminative Representation Loss, arXiv:2006.11234"
_BGD = (
    "Zeno, Golan, Hoffer, Soudry 2018, Task Agnostic Continual Learning Using Online Variational "
    "Bayes, arXiv:1803.10123"
)
_EWC = (
    "Kirkpatrick et al. 2017, Overcoming Catastrophic Forgetting, arXiv:1612.00796; Schwarz et al. "
    "2018, Progress and Compress, arXiv:1805.06370; Huszár 2018, On Quadratic Penalties in Elastic "
    "Weight Consolidation, arXiv:1712.03847"
)
_EWC_DR = (
    "Liu, Chang 2026, Elastic Weight Consolidation Done Right for Continual Learning, "
    "arXiv:2603.18596"
)
_GEM = "Lopez-Paz, Ranzato 2017, Gradient Episodic Memory, arXiv:1706.08840"
_HAL = (
    "Chaudhry, Gordo, Dokania, Torr, Lopez-Paz 2021, Using Hindsight to Anchor Past Knowledge, "
    "arXiv:2002.08165"
)
_KRONECKER = (
    "Ritter, Botev, Barber 2018, Online Structured Laplace Approximations for Overcoming "
    "Catastrophic Forgetting, arXiv:1805.07810"
)
_MAS = "Aljundi et al. 2018, Memory Aware Synapses, arXiv:1711.09601"
_MGEM = f"{_GEM}; Liu, Ye, Stone, Liu 2024, modular GEM, arXiv:2410.00868"
_GSS = (
    "Aljundi, Lin, Goujaud, Bengio 2019, Gradient Based Sample Selection for Online Continual "
    "Learning, arXiv:1903.08671, Algorithm 2"
)
_GMED = "Jin, Du, Ren 2021, Gradient-based Memory Editing, arXiv:2006.15294"
_OGD = (
    "Farajtabar, Azizan, Mott, Li 2020, Orthogonal Gradient Descent for Continual Learning, "
    "arXiv:1910.07104"
)
_METRIC_LOSS = "Musgrave, Belongie, Lim 2020, PyTorch Metric Learning, arXiv:2008.09164"
_MIR = "Aljundi et al. 2019, Maximally Interfered Retrieval, arXiv:1908.04742"
_ROTH = (
    "Roth et al. 2020, Revisiting Training Strategies and Generalization Performance in Deep "
    "Metric Learning, arXiv:2002.08473"
)
_MULTI_SIMILARITY = (
    "Wang, Han, Huang, Dong, Scott 2019, Multi-Similarity Loss with General Pair Weighting, "
    "arXiv:1904.06627"
)
_SPECTRUM = (
    "Karakida, Akaho, Amari 2019, Universal Statistics of Fisher Information in Deep Neural "
    "Networks, arXiv:1806.01316"
)
_SUPSUP = "Wortsman et al. 2020, Supermasks in Superposition, arXiv:2006.14769"
_SPLIT = "Zenke, Poole, Ganguli 2017, Continual Learning Through Synaptic Intelligence"
_SI = f"{_SPLIT}, arXiv:1703.04200"
_PERMUTED = "Goodfellow et al. 2013, An Empirical Investigation of Catastrophic Forgetting"
_DIGITS = "Alpaydin, Kaynak 1998, Optical Recognition of Handwritten Digits (UCI)"
_MNIST = "LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition"
_FASHION = "Xiao, Rasul, Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747"
_CIFAR = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images"


_LATER = ("skip", "image_size", "channels", "train_transforms", "test_transforms", "online")
_LATER_BY_NAME = {"split": _LATER, "permuted": ("standardise", *_LATER)}
_LATER_BY_NAME["rotated"] = _LATER_BY_NAME["permuted"]
_LATER_BY_NAME["image"] = tuple(name for name in _LATER if name != "image_size")


def _benchmark(name: str, n_classes: int | None, paper: str) -> Entry:
    prefix, underscore, _ = name.partition("_")
    later = _LATER_BY_NAME.get(prefix, ()) if underscore else ()
    return Entry(f"avalanche_ext.benchmarks:{name}", paper, n_classes, later=later)


OURS: dict[Kind, dict[str, Entry]] = {
    "plugin": {
        "online_replay": Entry("avalanche_ext.plugins:OnlineReplayPlugin", _ER),
        "balanced_replay": Entry(
            "avalanche_ext.plugins:BalancedReplayPlugin",
            f"{_DRL}, Algorithms 1-3",
        ),
        "drl": Entry("avalanche_ext.plugins:DRLPlugin", _DRL),
        "multi_similarity": Entry(
            "avalanche_ext.plugins:MultiSimilarityPlugin",
            f"{_MULTI_SIMILARITY}; {_DRL}",
        ),
        "r_margin": Entry("avalanche_ext.plugins:RMarginPlugin", f"{_ROTH}; {_DRL}"),
        "metric_loss": Entry("avalanche_ext.plugins:MetricLossPlugin", _METRIC_LOSS),
        "gradient_diversity": Entry(
            "avalanche_ext.plugins:GradientDiversityPlugin",
            f"{_DRL}, Figures 2 and 3",
            analyses=True,
        ),
        "hal": Entry(
            "avalanche_ext.plugins:HALPlugin",
            _HAL,
            later=(
                "size_per_class",
                "replayed",
                "n_anchors",
                "first_anchors",
                "rescale",
                "means",
                "embedding_decay",
            ),
        ),
        "bgd": Entry("avalanche_ext.plugins:BGDPlugin", _BGD),
        "gmed": Entry("avalanche_ext.plugins:GMEDPlugin", _GMED),
        "gss": Entry("avalanche_ext.plugins:GSSPlugin", _GSS),
        "mir": Entry("avalanche_ext.plugins:MIRPlugin", _MIR),
        "agem": Entry("avalanche_ext.plugins:AGEMPlugin", _AGEM),
        "mgem": Entry("avalanche_ext.plugins:MGEMPlugin", _MGEM),
        "ogd": Entry("avalanche_ext.plugins:OGDPlugin", _OGD),
        "online_ewc": Entry(
            "avalanche_ext.plugins:OnlineEWCPlugin", f"{_EWC}; {_EWC_DR}", later=("interval",)
        ),
        "fisher_spectrum_ewc": Entry(
            "avalanche_ext.plugins:FisherSpectrumEWCPlugin", _EWC, later=("interval",)
        ),
        "kronecker_ewc": Entry("avalanche_ext.plugins:KroneckerEWCPlugin", _KRONECKER),
        "mas": Entry("avalanche_ext.plugins:MASPlugin", _MAS, later=("interval",)),
        "synaptic_intelligence": Entry(
            "avalanche_ext.plugins:SynapticIntelligencePlugin", _SI, later=("interval",)
        ),
        "rho_spectrum": Entry(
            "avalanche_ext.plugins:RhoSpectrumPlugin",
            f"{_ROTH}; {_DRL}, Table 4",
            analyses=True,
        ),
        "spectrum_analysis": Entry(
            "avalanche_ext.plugins:SpectrumAnalysisPlugin",
            _SPECTRUM,
            analyses=True,
            later=("compare_every",),
        ),
    },
    "strategy": {
        "BER": Entry(
            "avalanche_ext.strategies:BER",
            f"{_DRL}, Algorithms 1-3",
        ),
        "DRL": Entry("avalanche_ext.strategies:DRL", _DRL),
        "GMED": Entry("avalanche_ext.strategies:GMED", _GMED),
        "MGEM": Entry("avalanche_ext.strategies:MGEM", _MGEM),
        "OnlineEWC": Entry("avalanche_ext.strategies:OnlineEWC", _EWC, later=("interval",)),
        "FisherSpectrumEWC": Entry(
            "avalanche_ext.strategies:FisherSpectrumEWC", _EWC, later=("interval",)
        ),
        "KroneckerEWC": Entry("avalanche_ext.strategies:KroneckerEWC", _KRONECKER),
    },
    "benchmark": {
        name: _benchmark(name, n_classes, paper)
        for name, n_classes, paper in (
            ("split_digits", 10, f"{_DIGITS}; split as {_SPLIT}"),
            ("permuted_digits", 10, f"{_DIGITS}; permuted as {_PERMUTED}"),
            ("rotated_digits", 10, f"{_DIGITS}; rotated as {_GEM}"),
            ("split_mnist", 10, f"{_MNIST}; split as {_SPLIT}"),
            ("permuted_mnist", 10, f"{_MNIST}; permuted as {_PERMUTED}"),
            ("rotated_mnist", 10, f"{_MNIST}; rotated as {_GEM}"),
            ("split_fmnist", 10, f"{_FASHION}; split as {_SPLIT}"),
            ("split_cifar10", 10, f"{_CIFAR}; split as {_SPLIT}"),
            ("split_cifar100", 100, f"{_CIFAR}; split as {_SPLIT}"),
            ("image_folder", None, ""),
            ("split", None, _SPLIT),
            ("permuted", None, _PERMUTED),
            ("rotated", None, _GEM),
            ("domains", None, ""),
        )
    },
    "model": {
        "mlp": Entry("avalanche_ext.models.catalogue:mlp", _GEM, later=("dropout",)),
        "slim_resnet18": Entry("avalanche_ext.models.catalogue:slim_resnet18", _GEM),
        "simple_cnn": Entry("avalanche_ext.models.catalogue:simple_cnn"),
        "supsup": Entry("avalanche_ext.models.catalogue:supsup", _SUPSUP),
    },
    "optimizer": {},
    "criterion": {},
    "scheduler": {},
    "dataset": {
        name: Entry(f"avalanche_ext.benchmarks.datasets:{name}", paper)
        for name, paper in (
            ("digits", _DIGITS),
            ("mnist", _MNIST),
            ("fmnist", _FASHION),
            ("cifar10", _CIFAR),
            ("cifar100", _CIFAR),
            ("image_folder", ""),
        )
    },
    "transform": {},
}

ANALYSES = tuple(name for name, entry in OURS["plugin"].items() if entry.analyses)
"""The plugins that an experiment's section `analyses` can add to every method."""

INJECTED: dict[Kind, dict[str, str]] = {
    "plugin": {"seed": "seeds"},
    "strategy": {
        "seed": "seeds",
        "model": "model",
        "optimizer": "optimizer",
        "train_mb_size": "training.batch_size",
        "train_epochs": "training.epochs",
        "eval_mb_size": "training.eval_batch_size",
        "device": "training.device",
        "plugins": "plugins",
        **dict.fromkeys(("criterion", "evaluator", "eval_every", "peval_mode", "base_kwargs"), ""),
        **dict.fromkeys(("feature_extractor", "classifier"), "model"),
        "buffer_transform": "",
    },
    "benchmark": {
        "seed": "seeds",
        **dict.fromkeys(("data_root", "dataset_root", "root"), "--data-root"),
    },
    "model": dict.fromkeys(("input_shape", "n_classes", "num_classes"), "benchmark"),
    "optimizer": {"params": "model"},
    "criterion": {"size_average": "", "reduce": ""},
    "scheduler": {"optimizer": "optimizer", "last_epoch": ""},
    "dataset": {
        "seed": "seeds",
        **dict.fromkeys(("data_root", "dataset_root", "root"), "--data-root"),
        **dict.fromkeys(("transform", "target_transform", "transforms"), "train_transforms"),
        "download": "",
    },
    "transform": {},
}
"""Per kind, the parameters that the runner fills, and the key that sets them (may be none)."""

_OFFERED: dict[Kind, tuple[str, ...]] = {"dataset": ("seed", "data_root", "dataset_root", "root")}
"""Per kind, those of them that a YAML may set too, for classes that are not ours."""


def fixed(kind: Kind, entry: Entry) -> dict[str, str]:
    """Return the parameters that only the runner fills, and the key that sets each."""
    offered = () if entry.is_ours else _OFFERED.get(kind, ())
    return {name: key for name, key in INJECTED[kind].items() if name not in offered}


_OF_LOGITS = ("CrossEntropyLoss", "MultiMarginLoss")
"""Torch's criteria for logits (B, C) and labels (B,); others need probabilities or targets."""

_REFUSED: dict[Kind, dict[str, str]] = {
    "optimizer": {
        "LBFGS": "it evaluates the loss itself, which Avalanche's strategies do not allow",
        "SparseAdam": "it takes sparse gradients only, and models have dense ones",
    },
    "scheduler": {
        **dict.fromkeys(
            ("LambdaLR", "MultiplicativeLR"), "it needs a Python function; use StepLR, or a script"
        ),
        **dict.fromkeys(
            ("SequentialLR", "ChainedScheduler"), "it needs other schedulers as Python objects"
        ),
        "ReduceLROnPlateau": "it needs a metric at each step, and gets none",
        "SWALR": "it needs averaged weights, and nothing averages them",
    },
}
"""Torch's classes that a YAML cannot use, and why."""


def known_classes(benchmark: str) -> int | None:
    """Return the number of classes of a benchmark; None if it depends on the data."""
    entry = OURS["benchmark"].get(benchmark)
    return entry.n_classes if entry else None


def entries(kind: Kind) -> dict[str, Entry]:
    """Return every entry of one kind by its name, ours first."""
    return {**OURS[kind], **_installed(kind)}


def why_not(kind: Kind, name: str) -> str:
    """Return why a YAML cannot use one of torch's classes for a purpose; empty if it can."""
    if kind == "criterion" and name not in _OF_LOGITS:
        return f"it is not a loss of logits and labels; torch's are {' and '.join(_OF_LOGITS)}"
    return _REFUSED.get(kind, {}).get(name, "")


_TORCHS: dict[Kind, tuple[str, str]] = {
    "optimizer": ("torch.optim", "Optimizer"),
    "criterion": ("torch.nn.modules", "Loss"),
    "scheduler": ("torch.optim", "LRScheduler"),
}
"""The package with torch's classes of a kind, and the ending of their base class's name."""


@cache
def _installed(kind: Kind) -> dict[str, Entry]:
    if kind in _TORCHS:
        found = _classes(*_TORCHS[kind])
        return {name: entry for name, entry in found.items() if not why_not(kind, name)}
    if kind in ("plugin", "strategy"):
        root = "Plugin" if kind == "plugin" else "Template"
        found = {
            **_classes("avalanche.training.plugins", root),
            **_classes("avalanche.training.supervised", root),
        }
        return {f"{AVALANCHE}{name}": entry for name, entry in found.items()}
    return {}


def _classes(package: str, root: str) -> dict[str, Entry]:
    """Return the public classes in a package's modules that inherit from a class named `…root`."""
    top, *below = package.split(".")
    directory = package_directory(top)
    if directory is None:
        return {}
    found: dict[str, Entry] = {}
    for file in sorted(directory.joinpath(*below).glob("*.py")):
        for match in re.finditer(r"^class (\w+)\(([^)]*)\)", file.read_text("utf-8"), re.MULTILINE):
            name, bases = match[1], re.sub(r"\[.*?\]", "", match[2]).split(", ")
            inherits = any(base.endswith(root) or base in found for base in bases)
            if inherits and not name.startswith("_") and not name.endswith("Template"):
                found[name] = Entry(f"{package}.{file.stem}:{name}")
    return found
