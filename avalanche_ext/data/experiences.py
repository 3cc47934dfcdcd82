"""Which experience of the original stream an experience belongs to."""

from __future__ import annotations

from typing import Any

from avalanche.benchmarks import OnlineCLExperience


def origin_experience(experience: Any) -> Any:
    """Return the experience that `experience` was cut from, or itself on a plain stream.

    Streams made by `split_online_stream` turn every mini-batch into an experience of its own;
    what belongs to a task must be keyed by the experience those were cut from. The result is in
    logging mode, so that all its attributes can be read.
    """
    experience = experience.logging()
    if isinstance(experience, OnlineCLExperience):
        return experience.origin_experience.logging()
    return experience


def origin_index(experience: Any) -> int:
    """Return the position in the original stream of the experience `experience` belongs to."""
    return int(origin_experience(experience).current_experience)
