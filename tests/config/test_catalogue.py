from __future__ import annotations

from importlib import import_module

import pytest

from avalanche_ext.config.catalogue import INJECTED, KINDS, OURS, Kind, entries
from avalanche_ext.config.errors import ConfigError
from avalanche_ext.config.listing import list_catalogue
from avalanche_ext.config.signatures import read_signature
from avalanche_ext.config.traits import read_traits
from avalanche_ext.plugins import MethodPlugin


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [
        ("strategy", "avalanche:Naive", "avalanche.training.supervised.strategy_wrappers:Naive"),
        ("strategy", "avalanche:DER", "avalanche.training.supervised.der:DER"),
        (
            "strategy",
            "avalanche:JointTraining",
            "avalanche.training.supervised.joint_training:JointTraining",
        ),
        ("plugin", "avalanche:EWCPlugin", "avalanche.training.plugins.ewc:EWCPlugin"),
        ("optimizer", "SGD", "torch.optim.sgd:SGD"),
        ("optimizer", "AdamW", "torch.optim.adamw:AdamW"),
    ],
)
def test_avalanche_and_torch_are_found_by_name(kind: Kind, name: str, target: str) -> None:
    assert entries(kind)[name].target == target


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("strategy", "avalanche:EWCPlugin"),
        ("strategy", "avalanche:ObjectDetectionTemplate"),
        ("strategy", "avalanche:CheckpointPlugin"),
        ("plugin", "avalanche:Naive"),
        ("plugin", "avalanche:_ICaRLPlugin"),
        ("plugin", "avalanche:PPPloss"),
        ("optimizer", "Optimizer"),
        ("optimizer", "AveragedModel"),
        ("optimizer", "LBFGS"),
        ("optimizer", "SparseAdam"),
    ],
)
def test_what_is_of_another_kind_or_cannot_be_used_is_not_found(kind: Kind, name: str) -> None:
    assert name not in entries(kind)


def test_every_signature_can_be_read_and_every_one_of_ours_says_what_it_is() -> None:
    for kind in KINDS:
        for name, entry in entries(kind).items():
            signature = read_signature(entry.target)
            assert signature.summary or not entry.is_ours, name


def test_ours_can_all_be_built_without_a_python_object() -> None:
    for kind in KINDS:
        for entry in OURS[kind].values():
            for parameter in read_signature(entry.target).parameters:
                given = not parameter.required or parameter.name in INJECTED[kind]
                assert given or parameter.type is not None, (entry.target, parameter.name)


@pytest.mark.parametrize("name", OURS["plugin"])
def test_analyses_are_the_plugins_that_change_nothing(name: str) -> None:
    module, _, class_name = OURS["plugin"][name].target.partition(":")
    plugin = getattr(import_module(module), class_name)
    assert OURS["plugin"][name].analyses == (not issubclass(plugin, MethodPlugin))
    (traits,) = read_traits(OURS["plugin"][name].target, {})
    assert OURS["plugin"][name].analyses == (traits.phase is None)


def test_the_list_has_every_name_with_arguments_defaults_and_paper() -> None:
    text = list_catalogue()
    for kind in KINDS:
        for name in entries(kind):
            assert name in text
    block = text[text.index("  balanced_replay\n") : text.index("  drl\n")]
    assert "mem_size: 300" in block
    assert "integer > 0" in block
    assert "arXiv:2006.11234" in block
    assert "seed" not in block  # It is the runner's, not the YAML's.


def test_the_list_of_one_name_shows_avalanches_arguments() -> None:
    text = list_catalogue(["avalanche:EWCPlugin"])
    assert "ewc_lambda:" in text
    assert "mode: 'separate'" in text
    assert "balanced_replay" not in text


def test_the_list_of_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'avalanche:EWC'"):
        list_catalogue(["EWC"])
