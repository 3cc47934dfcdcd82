"""Avalanche's classic benchmarks by name: from a YAML to a trained model."""

from pathlib import Path

from avalanche_ext.data.dataset import fetch_all
from avalanche_ext.runner.components import build
from tests.cases import DATA_ROOT, needs_mnist
from tests.runner.cases import cell


@needs_mnist
def test_an_experience_of_split_mnist_is_learned(tmp_path: Path) -> None:
    one = cell(
        tmp_path,
        benchmark={"name": "avalanche:SplitMNIST", "n_experiences": 5},
        training={"batch_size": 10, "iterations": 100},
    )
    made = build(one, data_root=DATA_ROOT)
    assert sum(len(e.dataset) for e in made.benchmark.train_stream) == 60_000
    first, second, *_ = made.benchmark.train_stream
    assert not {*first.classes_in_this_experience} & {*second.classes_in_this_experience}
    made.strategy.train(first, eval_streams=[])
    model = made.strategy.model.eval()
    x, y, *_ = fetch_all(made.benchmark.test_stream[0].dataset)
    assert (model(x).argmax(1) == y).float().mean() > 0.9
