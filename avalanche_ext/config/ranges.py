"""Ranges of the arguments of Avalanche and torch, which their signatures do not show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from avalanche_ext.config.annotations import Integer, Number
from avalanche_ext.config.errors import Problem, at
from avalanche_ext.config.validation import validate

_COUNT = Annotated[Integer, Gt(0)]
_NOT_NEGATIVE = Annotated[Number, Ge(0)]
_NATURAL = Annotated[Integer, Ge(0)]
_POSITIVE = Annotated[Number, Gt(0)]
_SHARE = Annotated[Number, Ge(0), Le(1)]
_BELOW_ONE = Annotated[Number, Ge(0), Lt(1)]

_AVALANCHE: dict[str, Any] = {
    # Samples, steps and epochs.
    **dict.fromkeys(("mem_size", "memory_size", "max_buffer_size", "replay_size"), _COUNT),
    **dict.fromkeys(("patterns_per_exp", "patterns_per_experience", "mem_strength"), _COUNT),
    **dict.fromkeys(("batch_size", "batch_size_mem", "buffer_mb_size"), _COUNT),
    **dict.fromkeys(("sample_size", "subsample", "n_inner_steps", "n_inner_updates"), _COUNT),
    **dict.fromkeys(("delta_t", "iter_fgsm"), _COUNT),
    **dict.fromkeys(("post_prune_epochs", "stage_2_epochs"), _NATURAL),
    # Weights of terms, and learning rates.
    **dict.fromkeys(("ewc_lambda", "lambda_reg", "lambda_e", "memory_strength"), _NOT_NEGATIVE),
    **dict.fromkeys(("alpha", "beta", "gamma", "lr", "opt_lr"), _NOT_NEGATIVE),
    **dict.fromkeys(("lr_alpha", "alpha_init", "epsilon_fgsm"), _NOT_NEGATIVE),
    **dict.fromkeys(("weight_replay_loss", "weight_replay_loss_factor"), _NOT_NEGATIVE),
    # They divide logits, or bound a norm.
    **dict.fromkeys(("temperature", "T", "grad_clip_norm"), _POSITIVE),
    # Shares.
    **dict.fromkeys(("decay_factor", "ewc_alpha", "beta_coef"), _SHARE),
    "prune_proportion": _BELOW_ONE,
    "val_percentage": Annotated[Number, Gt(0), Lt(1)],
    "mode": Literal["separate", "online"],  # EWC's.
}
_TORCH: dict[str, Any] = {
    # Optimizers. A momentum of 1 or more never decays.
    **dict.fromkeys(("lr", "weight_decay", "eps", "lr_decay", "momentum_decay"), _NOT_NEGATIVE),
    **dict.fromkeys(("initial_accumulator_value", "lambd", "alpha", "t0"), _NOT_NEGATIVE),
    **dict.fromkeys(("momentum", "betas"), _BELOW_ONE),
    **dict.fromkeys(("dampening", "rho"), _SHARE),
    "step_sizes": _POSITIVE,
    "etas": _POSITIVE,
    "beta2_decay": Annotated[Number, Le(0)],
    "d": Annotated[Number, Ge(1)],
    "ns_steps": Annotated[Integer, Gt(0), Lt(100)],
    # Schedulers.
    **dict.fromkeys(("step_size", "milestones", "total_iters", "T_max", "T_0", "T_mult"), _COUNT),
    **dict.fromkeys(("step_size_up", "step_size_down"), _COUNT),
    **dict.fromkeys(("total_steps", "epochs", "steps_per_epoch"), _COUNT),
    **dict.fromkeys(("gamma", "div_factor", "final_div_factor"), _POSITIVE),
    **dict.fromkeys(("eta_min", "base_lr", "max_lr", "power"), _NOT_NEGATIVE),
    **dict.fromkeys(("factor", "end_factor", "pct_start"), _SHARE),
    "start_factor": Annotated[Number, Gt(0), Le(1)],
    **dict.fromkeys(("base_momentum", "max_momentum"), _BELOW_ONE),
    # Criteria.
    "label_smoothing": _SHARE,
    "p": Literal[1, 2],
}
_BY_CLASS: dict[str, dict[str, Any]] = {
    "MAS": {"alpha": _SHARE},
    "MASPlugin": {"alpha": _SHARE},
    "RMSprop": {"alpha": _BELOW_ONE},
}
"""Classes in which a name has a different meaning."""

_MAY_BE_LISTS = (
    *("alpha", "lambda_e"),  # One for each experience.
    *("betas", "etas", "step_sizes", "eps", "milestones"),
    *("base_lr", "max_lr", "base_momentum", "max_momentum"),
)


def check_range(target: str, key: str, value: Any, path: str) -> Iterator[Problem]:
    """Check that an argument of one of Avalanche's or torch's classes is in its valid range.

    Args:
        target: The class, `package.module:Name`. Those of other packages are not checked.
        key: The argument's name.
        value: Its value, which has the type in the signature.
        path: Its path in the YAML.
    """
    module, _, name = target.partition(":")
    package = module.partition(".")[0]
    ranges = {"avalanche": _AVALANCHE, "torch": _TORCH}.get(package, {})
    type_ = _BY_CLASS.get(name, {}).get(key) or ranges.get(key)
    if type_ is None or value is None:
        return
    places = [(path, value)]
    if key in _MAY_BE_LISTS and isinstance(value, list | tuple):
        places = [(at(path, index), item) for index, item in enumerate(value)]
    for where, item in places:
        if item is not None:
            yield from validate(type_, item, where)[1]
