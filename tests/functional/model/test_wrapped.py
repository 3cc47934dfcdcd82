import pytest
import torch
from torch import nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import is_samplewise, left_as_it_was, outputs_at
from avalanche_ext.functional.model.wrapped import plain_name, uncompiled, unwrapped


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 2)))


def in_part():
    made = model()
    made[1] = torch.compile(made[1], backend="eager")
    return made


def test_wrappers_within_each_other_are_taken_off():
    own = model()
    assert unwrapped(torch.compile(nn.DataParallel(torch.compile(own)))) is own
    assert unwrapped(own) is own


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("1._orig_mod.1.weight", "1.1.weight"),
        ("_orig_mod.0._orig_mod", "0"),
        ("my_orig_mod.weight", "my_orig_mod.weight"),
        ("", ""),
    ],
)
def test_plain_names(name, plain):
    assert plain_name(name) == plain


def test_a_layout_of_a_model_that_is_compiled_in_part_has_plain_layers_and_true_names():
    found, expected = (
        FlatLayout(made.named_parameters(), ["1.*"]) for made in (in_part(), model())
    )
    assert found.layers == expected.layers == ["0", "0", "1.1", "1.1"]
    assert found.blocks == expected.blocks
    assert found.names[2] == "1._orig_mod.1.weight"


def hooked(made, run):
    """How often a hook on the last layer runs in a model whose compiled part has run before."""
    calls = []
    x = torch.zeros(1, 3)
    made(x)
    with unwrapped(made[1])[1].register_forward_hook(lambda *args: calls.append(args)):
        run(made, x)
    return len(calls)


def through(context):
    def run(made, x):
        with context(made, x):
            made(x)

    return run


@pytest.mark.parametrize(
    "run",
    [
        lambda made, x: outputs_at({}, made, [x]),
        lambda made, x: outputs_at(dict(made.named_parameters()), made, [x]),
        through(left_as_it_was),
        through(lambda made, x: uncompiled()),
    ],
)
def test_hooks_that_come_after_the_compilation_run(run):
    assert hooked(in_part(), run) == 1
    assert is_samplewise(in_part())


def test_compiled_code_runs_again_afterwards():
    made = in_part()
    assert hooked(made, through(lambda made, x: uncompiled())) == 1
    assert hooked(made, lambda made, x: made(x)) == 0
