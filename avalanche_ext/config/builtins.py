"""Whether each of Avalanche's strategies and plugins works in a YAML, for avalanche-lib 0.6.0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

State = Literal["works", "adapted", "wrong", "refused"]

SCENARIOS = ("class", "domain", "task")
"""The values of a benchmark's `scenario`."""


@dataclass(frozen=True)
class BuiltIn:
    """The state of one of Avalanche's strategies or plugins.

    Attributes:
        state: "works"; "adapted": works, but only with a model or a repair from this package;
            "wrong": runs, but has an error in Avalanche; "refused": cannot run, or has no effect,
            and is refused.
        remark: What is adapted or wrong, and an alternative, as a sentence without the name.
        heads: "one" if it fails with a multi-head model, "many" if it needs one.
        scenarios: The scenarios of the benchmark with which it works.
        needs: Arguments whose defaults in Avalanche fail, with a description of each.
        ignores_criterion: Whether `training.criterion` has no effect on its loss, or on part of it.
        counts_epochs: Whether it changes its behaviour after some epochs, so that `iterations` have
            no meaning.
    """

    state: State
    remark: str = ""
    heads: Literal["one", "many"] | None = None
    scenarios: tuple[str, ...] = SCENARIOS
    needs: tuple[tuple[str, str], ...] = ()
    ignores_criterion: bool = False
    counts_epochs: bool = False


_ONE_TASK = ("class", "domain")
_WORKS = BuiltIn("works")
_ONE_HEAD = BuiltIn("works", heads="one")
_EWC = BuiltIn(
    "wrong",
    "squares the gradient of each mini-batch's mean, so that its Fisher information shrinks as the "
    "batch grows and ewc_lambda depends on training.batch_size; 'online_ewc' squares the gradients "
    "of single samples",
)
_GEM = BuiltIn(
    "wrong",
    "adds 1e-3 to the diagonal of its quadratic programme whatever the size of the gradients, so "
    "that small ones break the constraints, and leaves out the heads that a mini-batch does not "
    "use; 'mgem' does neither",
)
_MIR = BuiltIn(
    "adapted",
    "replays from all earlier experiences, whereas Avalanche's leaves out the classes of the last "
    "mini-batch",
)
_SI = BuiltIn(
    "refused",
    "is the same as avalanche:Naive bit for bit on a CPU: it stores views of the weights instead "
    "of copies, so that all importances are 0; use 'synaptic_intelligence'",
)
_GSS = BuiltIn(
    "wrong",
    "stores replayed samples again as new ones, and replays what its memory held when the "
    "experience began; 'gss' does as the paper says",
    heads="one",
    needs=(("input_size", "the shape of a sample, such as [1, 28, 28]"),),
)
_COPE = BuiltIn(
    "refused",
    "trains on one mini-batch of each experience by default, and stays near chance if it is given "
    "more; use 'balanced_replay'",
)
_BIC = BuiltIn(
    "adapted",
    "divides an experience's samples without setting its dataset, which Avalanche 0.6 made "
    "read-only",
    heads="one",
    scenarios=_ONE_TASK,
)
_LFL = BuiltIn(
    "adapted",
    "gets the features of the YAML's model, and leaves the model in training mode; made for "
    "benchmark.scenario domain, since it freezes the last layer after the first experience",
    heads="one",
)
_GENERATIVE_REPLAY = BuiltIn(
    "refused",
    "needs a generator, which a YAML cannot give; use strategy 'avalanche:GenerativeReplay'",
)
_GENERATOR = BuiltIn(
    "refused",
    "trains an auto-encoder, which predicts no classes; there is no accuracy to measure",
)
_NCM = BuiltIn(
    "refused",
    "needs a model that ends in Avalanche's NCMClassifier, which a YAML cannot build; use a script",
)
_FECAM = BuiltIn(
    "refused",
    "needs a model that ends in Avalanche's FeCAMClassifier, which a YAML cannot build; use a "
    "script",
)
_PRETRAINED = BuiltIn(
    "refused",
    "needs a pre-trained model of its own, which it downloads; use a script",
)
_OWN_MODEL = BuiltIn(
    "refused",
    "needs a special model, which a YAML cannot build; use a script",
)

BUILT_INS: dict[str, BuiltIn] = {
    "AETraining": _GENERATOR,
    "AGEM": _WORKS,
    "AGEMPlugin": _WORKS,
    "AR1": _PRETRAINED,
    "BiC": _BIC,
    "BiCPlugin": _BIC,
    "CWRStar": _ONE_HEAD,
    "CWRStarPlugin": BuiltIn("refused", "needs the model itself; use strategy 'avalanche:CWRStar'"),
    "CheckpointPlugin": BuiltIn(
        "refused",
        "needs a storage object, and fails to pickle optimizers; a repeated run continues with "
        "the unfinished cells",
    ),
    "Clock": BuiltIn("refused", "is part of every strategy already; leave it out"),
    "CoPE": _COPE,
    "CoPEPlugin": _COPE,
    "Cumulative": _WORKS,
    "CurrentDataFeCAMUpdate": _FECAM,
    "CurrentDataNCMUpdate": _NCM,
    "DER": replace(_ONE_HEAD, ignores_criterion=True),
    "ER_ACE": replace(_WORKS, ignores_criterion=True),
    "ER_AML": _OWN_MODEL,
    "EWC": _EWC,
    "EWCPlugin": _EWC,
    "EarlyStoppingPlugin": BuiltIn(
        "refused",
        "does nothing without a validation stream that is evaluated while training, which a YAML "
        "cannot give; set training.epochs",
    ),
    "ExpertGateStrategy": BuiltIn(
        "refused",
        "trains an AlexNet for each task in place of the YAML's model; use a script",
    ),
    "FeCAMOracle": _FECAM,
    "FeatureDistillationPlugin": BuiltIn(
        "refused",
        "needs a model that keeps its last features as an attribute, which no model of a YAML "
        "does; use 'avalanche:LwFPlugin'",
    ),
    "FeatureReplay": BuiltIn(
        "adapted",
        "masks the classes of other experiences in the loss, as its paper does; Avalanche's masks "
        "none",
        heads="one",
        ignores_criterion=True,
    ),
    "FromScratchTraining": _WORKS,
    "FromScratchTrainingPlugin": _WORKS,
    "GDumb": _WORKS,
    "GDumbPlugin": _WORKS,
    "GEM": _GEM,
    "GEMPlugin": _GEM,
    "GSS_greedy": _GSS,
    "GSS_greedyPlugin": _GSS,
    "GenerativeReplay": BuiltIn(
        "adapted",
        "gets a generator of the shape of the benchmark's samples",
        heads="one",
        scenarios=_ONE_TASK,
        counts_epochs=True,
    ),
    "GenerativeReplayPlugin": _GENERATIVE_REPLAY,
    "ICaRL": BuiltIn(
        "adapted",
        "gets the YAML's model split before its last layer",
        heads="one",
        scenarios=("class",),
        ignores_criterion=True,
    ),
    "JointTraining": BuiltIn(
        "adapted",
        "is trained once, on the samples of all experiences, so that only ACC and "
        "instance_accuracy are defined",
    ),
    "LFL": _LFL,
    "LFLPlugin": BuiltIn(
        "refused",
        "needs a model with a method get_features, which only the strategy 'avalanche:LFL' gives "
        "it",
    ),
    "LRSchedulerPlugin": BuiltIn("refused", "needs a scheduler object, which a YAML cannot give"),
    "LaMAML": BuiltIn("works", heads="many"),
    "LearningToPrompt": _PRETRAINED,
    "LwF": _WORKS,
    "LwFPlugin": _WORKS,
    "MAS": _WORKS,
    "MASPlugin": _WORKS,
    "MER": _WORKS,
    "MIR": _MIR,
    "MIRPlugin": _MIR,
    "MemoryFeCAMUpdate": _FECAM,
    "MemoryNCMUpdate": _NCM,
    "NCMOracle": _NCM,
    "Naive": _WORKS,
    "OnlineNaive": BuiltIn("refused", "cannot be built; use 'avalanche:Naive'"),
    "PNNStrategy": BuiltIn(
        "adapted",
        "gets a column like the YAML's model for each experience",
        scenarios=("task",),
    ),
    "PackNet": BuiltIn(
        "adapted",
        "gets the YAML's model with weights that are packed, and with BatchNorm layers for each "
        "task",
        scenarios=("task",),
        counts_epochs=True,
    ),
    "RARPlugin": _ONE_HEAD,
    "RWalkPlugin": BuiltIn(
        "adapted",
        "leaves the model in training mode, and takes experiences of fewer than delta_t steps",
    ),
    "Replay": _WORKS,
    "ReplayPlugin": _WORKS,
    "SCR": BuiltIn(
        "adapted",
        "gets a projection of the features of the YAML's model to 128 outputs",
        scenarios=_ONE_TASK,
        ignores_criterion=True,
    ),
    "StreamingLDA": _PRETRAINED,
    "SynapticIntelligence": _SI,
    "SynapticIntelligencePlugin": _SI,
    "TrainGeneratorAfterExpPlugin": _GENERATIVE_REPLAY,
    "VAETraining": _GENERATOR,
}
"""Avalanche's strategies and plugins by class name."""


def built_in(target: str) -> BuiltIn | None:
    """Return the state of Avalanche's class `package.module:Name`; None for other classes."""
    module, _, name = target.partition(":")
    return BUILT_INS.get(name) if module.startswith("avalanche.") else None
