from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import PositiveInt

from avalanche_ext import benchmarks, buffers, functional, metrics, models, plugins, strategies
from avalanche_ext.config import load_experiment
from avalanche_ext.report import write_report
from avalanche_ext.results.record import ResultsError
from avalanche_ext.validation import validated


class Example:
    @validated
    def __init__(self, size: PositiveInt = 3, *, names: list[str] | None = None) -> None:
        self.size, self.names = size, names


class Inherited(Example):
    pass


@validated
def area(width: float, height: float = 1.0) -> float:
    return width * height


def test_right_arguments_pass_unchanged():
    example = Example(5, names=["a"])
    assert (example.size, example.names) == (5, ["a"])
    assert Example().size == 3


@pytest.mark.parametrize("call", [lambda: Example(0), lambda: Example(size=0)])
def test_what_is_wrong_is_named_however_it_is_given(call):
    with pytest.raises(ValueError, match=r"^Example: size is 0, but must be greater than 0$"):
        call()


@pytest.mark.parametrize(
    "call", [lambda: Example(True), lambda: Example("3"), lambda: Example(2.0)]
)
def test_other_types_are_not_converted(call):
    with pytest.raises(ValueError, match="size"):
        call()


def test_unknown_arguments_are_refused_as_python_does():
    with pytest.raises(TypeError, match="sise"):
        Example(sise=3)


@pytest.mark.parametrize("size", [np.int64(4), np.uint8(4)])
def test_a_number_of_numpys_is_taken_as_one_of_pythons(size):
    assert type(Example(size).size) is int
    assert area(np.float32(0.5)) == 0.5


def test_the_class_that_was_called_is_named_not_its_base():
    with pytest.raises(ValueError, match=r"^Inherited: size is 0"):
        Inherited(0)


def test_a_mistake_below_is_named_as_it_is():
    with pytest.raises(ValueError, match=r"^GMEDPlugin"):
        strategies.GMED(model=MODEL, optimizer=OPTIMIZER, stride="far")


EXPERIMENTS = Path(__file__).parents[1] / "experiments"
MODEL = torch.nn.Linear(3, 2)
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.1)
H, Y = torch.eye(4), torch.tensor([0, 0, 1, 1])

MISTAKES = [
    # Unknown, missing and misplaced arguments.
    (
        lambda: plugins.OnlineEWCPlugin(ewc_lambda=1),
        "OnlineEWCPlugin has no argument 'ewc_lambda': did you mean 'lam'?",
    ),
    (
        lambda: plugins.SynapticIntelligencePlugin(si_lambda=1),
        "SynapticIntelligencePlugin has no argument 'si_lambda': did you mean 'lam'?",
    ),
    (
        lambda: plugins.MASPlugin(lambda_reg=1),
        "MASPlugin has no argument 'lambda_reg': did you mean 'lam'?",
    ),
    (
        lambda: plugins.OnlineEWCPlugin(lambda_=1),
        "OnlineEWCPlugin has no argument 'lambda_': did you mean 'lam'?",
    ),
    (
        lambda: plugins.MGEMPlugin(patterns_per_exp=100),
        "MGEMPlugin has no argument 'patterns_per_exp': did you mean 'size_per_task'?",
    ),
    (
        lambda: plugins.MIRPlugin(batch_size_mem=10),
        "MIRPlugin has no argument 'batch_size_mem': did you mean 'batch_size'?",
    ),
    (
        lambda: plugins.OnlineReplayPlugin(memory_size=100),
        "OnlineReplayPlugin has no argument 'memory_size': did you mean 'mem_size'?",
    ),
    (
        lambda: plugins.OnlineReplayPlugin(storage_policy=None),
        "OnlineReplayPlugin has no argument 'storage_policy': did you mean 'buffer'?",
    ),
    (
        lambda: plugins.DRLPlugin(aplha=1.0),
        "DRLPlugin has no argument 'aplha': did you mean 'alpha'?",
    ),
    (
        lambda: plugins.DRLPlugin(verbose=True),
        "DRLPlugin has no argument 'verbose': it takes alpha, lam, layers and normalisation",
    ),
    (
        lambda: plugins.OnlineReplayPlugin(100, 10, "ring"),
        "OnlineReplayPlugin takes at most 2 arguments by position, but was given 3: write the "
        "others as name=value",
    ),
    (
        lambda: plugins.OnlineReplayPlugin(100, mem_size=10),
        "OnlineReplayPlugin was given 'mem_size' twice, by position and by name",
    ),
    (lambda: models.MLP([3]), "MLP needs the arguments 'input_shape' and 'n_classes'"),
    (lambda: buffers.ReservoirBuffer(), "ReservoirBuffer needs the argument 'max_size'"),
    (
        lambda: buffers.TaskBuffer(mem_size=3),
        "TaskBuffer has no argument 'mem_size': did you mean 'size_per_task'?",
    ),
    (
        lambda: metrics.TransferMatrix(streem="test"),
        "TransferMatrix has no argument 'streem': did you mean 'stream'?",
    ),
    (
        lambda: strategies.BER(model=MODEL, optimizer=OPTIMIZER, batch_size=3),
        "BER has no argument 'batch_size': did you mean 'batch_size_mem'?",
    ),
    (lambda: strategies.BER(mem_size=3), "BER needs the arguments 'model' and 'optimizer'"),
    (
        lambda: strategies.BER(MODEL, OPTIMIZER),
        "BER takes arguments by name only: write BER(model=…, optimizer=…)",
    ),
    (
        lambda: strategies.BER(model=MODEL, optimizer=OPTIMIZER, plugins=[plugins.DRLPlugin]),
        "plugins has the class DRLPlugin: create one, DRLPlugin(…)",
    ),
    # Wrong types and classes.
    (
        lambda: plugins.OnlineEWCPlugin(lam="1"),
        "OnlineEWCPlugin: lam is '1', but must be a number (remove the quotes)",
    ),
    (
        lambda: plugins.OnlineEWCPlugin(lam=None),
        "OnlineEWCPlugin: lam is None, but must be a number",
    ),
    (
        lambda: plugins.OnlineReplayPlugin(mem_size=torch.tensor(3)),
        "OnlineReplayPlugin: mem_size is tensor(3), but must be an integer (convert it with "
        ".item())",
    ),
    (
        lambda: plugins.OnlineReplayPlugin(mem_size=2.0),
        "OnlineReplayPlugin: mem_size is 2.0, but must be an integer",
    ),
    (
        lambda: plugins.MGEMPlugin(statistics="yes"),
        "MGEMPlugin: statistics is 'yes', but must be True or False",
    ),
    (
        lambda: plugins.MGEMPlugin(memory_strength=(0.1, 0.2)),
        "MGEMPlugin: memory_strength is (0.1, 0.2), but must be a number or a list "
        "(convert it with list(…))",
    ),
    (
        lambda: plugins.DRLPlugin(layers=[3]),
        "DRLPlugin: layers[0] is 3, but must be a string",
    ),
    (
        lambda: plugins.OnlineReplayPlugin(buffer=3),
        "OnlineReplayPlugin: buffer is 3, but must be 'reservoir', 'ring' or an ExemplarsBuffer",
    ),
    (
        lambda: plugins.OnlineReplayPlugin(buffer=buffers.ReservoirBuffer),
        "OnlineReplayPlugin: buffer is the class ReservoirBuffer, but must be 'reservoir', 'ring' "
        "or an ExemplarsBuffer (create one: ReservoirBuffer(…))",
    ),
    (
        lambda: plugins.OnlineReplayPlugin(buffer=torch.nn.Sequential(MODEL, MODEL)),
        "OnlineReplayPlugin: buffer is a Sequential, but must be 'reservoir', 'ring' or an "
        "ExemplarsBuffer",
    ),
    # Values out of range.
    (
        lambda: plugins.OnlineEWCPlugin(lam=-1),
        "OnlineEWCPlugin: lam is -1, but must be at least 0",
    ),
    (
        lambda: plugins.OnlineEWCPlugin(lam=-1, decay=3),
        "OnlineEWCPlugin: lam is -1, but must be at least 0; decay is 3, but must be at most 1",
    ),
    (
        lambda: plugins.OnlineEWCPlugin(lam=float("nan")),
        "OnlineEWCPlugin: lam is nan, but must be a finite number",
    ),
    (
        lambda: plugins.MGEMPlugin(memory_strength=[0.1, -1]),
        "MGEMPlugin: memory_strength[1] is -1, but must be at least 0",
    ),
    (
        lambda: buffers.ReservoirBuffer(0),
        "ReservoirBuffer: max_size is 0, but must be greater than 0",
    ),
    (
        lambda: plugins.OnlineEWCPlugin(update="proximl"),
        "OnlineEWCPlugin: update is 'proximl', but must be 'proximal' or 'gradient' "
        "(did you mean 'proximal'?)",
    ),
    (
        lambda: buffers.RingBuffer(3, "clas"),
        "RingBuffer: balance is 'clas', but must be 'class' or 'task' (did you mean 'class'?)",
    ),
    # Results, metrics and functions of tensors.
    (
        lambda: metrics.TransferMatrix().summary(),
        "R has no rows yet: train a strategy that has it, and evaluate the test stream after "
        "training on each experience",
    ),
    (
        lambda: metrics.TransferMatrix("train").R,
        "R has no rows yet: train a strategy that has it, and evaluate the train stream after "
        "training on each experience",
    ),
    (
        lambda: metrics.average_accuracy([[0.1], [0.2, 0.3]]),
        "R must hold only numbers, equally many in each row",
    ),
    (
        lambda: metrics.average_accuracy([[93.0]]),
        "R must hold accuracies in [0, 1], but R[0, 0] is 93.0 (write percentages as fractions)",
    ),
    (
        lambda: functional.multi_similarity_loss(H, Y, form="row"),
        "form is 'row', but must be one of 'rows', 'matrix', 'pairs'",
    ),
    (
        lambda: functional.discriminative_representation_loss(H, Y[:2], 1.0),
        "representations must be (B, H) and labels (B,), but have the shapes (4, 4) and (2,)",
    ),
]


@pytest.mark.parametrize(("call", "message"), MISTAKES, ids=[text[:60] for _, text in MISTAKES])
def test_a_typical_mistake_in_a_script_gets_one_sentence(call, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(("call", "message"), MISTAKES, ids=[text[:60] for _, text in MISTAKES])
def test_the_error_is_of_the_class_that_python_users_expect(call, message):
    is_about_value = " but " in message or " must " in message or "no rows" in message
    is_about_value &= "by position" not in message
    with pytest.raises(ValueError if is_about_value else TypeError):
        call()


def test_a_folder_or_file_may_be_given_as_text(tmp_path):
    root = tmp_path / "nowhere"
    with pytest.raises(ResultsError, match="no such file; give the folder of an experiment"):
        write_report(str(root))
    path = str(EXPERIMENTS / "quickstart.yaml")
    assert load_experiment(path, "name=b").name == "b"


def test_a_data_root_given_as_text_is_refused_with_what_to_write():
    with pytest.raises(ValueError, match=r"data_root is '/x', but must be a Path \(write Path"):
        benchmarks.split_mnist(data_root="/x")
