"""GPUs that the workers of one machine use in turn."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from avalanche_ext.config import Experiment, Method, Training
from avalanche_ext.config.tune import Setting, Tuning
from avalanche_ext.runner.preflight import PreflightError, n_cuda_devices

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible(devices: Sequence[str]) -> list[str]:
    """Return the CUDA_VISIBLE_DEVICES of workers that each use one of these devices.

    If this process has a CUDA_VISIBLE_DEVICES, `cuda:<n>` is its n-th entry: an index, or the name
    of a GPU or of a part of one (MIG).

    Raises:
        PreflightError: If there is no such device.
    """
    if not devices:
        return []
    named = os.environ.get(_VISIBLE)
    if named is None:
        entries = [str(index) for index in range(n_cuda_devices())]
    else:
        entries = [entry.strip() for entry in named.split(",") if entry.strip()]
    for device in devices:
        if int(device.partition(":")[2]) >= len(entries):
            shown = "" if named is None else f" in {_VISIBLE}={named}"
            raise PreflightError(
                f"--devices {device}: this machine has {len(entries)} usable CUDA devices{shown}"
            )
    return [entries[int(device.partition(":")[2])] for device in devices]


def on_devices(experiment: Experiment, devices: Sequence[str]) -> Experiment:
    """Return the experiment with all its methods on CUDA, if there are any devices."""
    if not devices:
        return experiment
    methods = {name: _moved(method) for name, method in experiment.methods.items()}
    return replace(
        experiment,
        training=_on_cuda(experiment.training),
        methods=methods,
        tuning=experiment.tuning and _searched_on_cuda(experiment.tuning),
        document=_document_on_cuda(experiment.document),
    )


def _document_on_cuda(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the YAML's document with all methods on CUDA."""
    methods = {name: _section_on_cuda(section) for name, section in document["methods"].items()}
    return {
        **document,
        "training": {**document["training"], "device": "cuda"},
        "methods": methods,
    }


def _section_on_cuda(section: Any) -> Any:
    if not (section and section.get("training")):
        return section
    return {**section, "training": {**section["training"], "device": "cuda"}}


def _searched_on_cuda(tuning: Tuning) -> Tuning:
    def moved(setting: Setting) -> Setting:
        return replace(
            setting,
            method=_moved(setting.method),
            tuned=_moved(setting.tuned),
            section=_section_on_cuda(setting.section),
        )

    searches = {
        method: replace(
            search, settings={name: moved(each) for name, each in search.settings.items()}
        )
        for method, search in tuning.searches.items()
    }
    return replace(tuning, searches=searches)


def _moved(method: Method) -> Method:
    return replace(method, training=_on_cuda(method.training))


def _on_cuda(training: Training) -> Training:
    # A worker sees only its own device, so it is always the first.
    return training.model_copy(update={"device": "cuda"})
