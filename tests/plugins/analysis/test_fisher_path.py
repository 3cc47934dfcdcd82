"""Forms of the Fisher along the path of training: what is computed where, and that training is not
changed by it."""

import pickle

import numpy as np
import pytest
import torch

from avalanche_ext.models import MLP
from avalanche_ext.plugins import SpectrumAnalysisPlugin, exhibits
from avalanche_ext.results.exhibits import FisherForms
from tests.cases import digits, make_naive, train, weights
from tests.config.cases import experiment_with, loaded
from tests.plugins.analysis.test_spectrum_analysis import Keeper, dense_fisher, tiny
from tests.plugins.bgd_cases import Growing

SMALL = {"n_experiences": 3, "train_size": 30}
FORMS = ["diagonal", "spectrum", "spectrum with diagonal", "Kronecker"]


class Steps(Keeper):
    """Also keeps the weights after each iteration."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def after_training_iteration(self, strategy, **kwargs):
        self.steps.append(weights(strategy))


@pytest.fixture(scope="module")
def trained():
    plugin = SpectrumAnalysisPlugin(rank=5, kind="true", compare_every=2)
    steps, benchmark = Steps(), digits("permuted", **SMALL)
    strategy = make_naive(plugin, steps, model=tiny())
    train(strategy, benchmark)
    return strategy, steps, benchmark


def shown(strategy):
    return FisherForms.from_arrays(exhibits(strategy.plugins)[FisherForms.NAME])


def top_of(fisher):
    values, vectors = torch.linalg.eigh(fisher)
    return (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T


def test_the_path_is_that_of_the_next_experience(trained):
    strategy, steps, benchmark = trained
    found = shown(strategy)
    assert found.experience.tolist() == [0, 1, 2]
    assert found.form.tolist() == FORMS
    assert found.iteration[:2].tolist() == [[2.0], [2.0]], "three iterations an experience"
    assert np.isnan(found.iteration[2]).all(), "nothing follows the last"
    fishers = []
    for task in range(2):
        fisher = dense_fisher(steps.models[task], benchmark.train_stream[task].dataset.x)
        start, now = steps.steps[3 * task + 2], steps.steps[3 * task + 4]
        delta = (now - start).double()
        assert found.true[task, 0] == pytest.approx(float(delta @ fisher @ delta), rel=1e-4)
        by_diagonal = float(delta.square() @ fisher.diagonal())
        assert found.estimated[task, 0, 0] == pytest.approx(by_diagonal, rel=1e-4)
        values, vectors = torch.linalg.eigh(fisher)
        top = float(values[-5:] @ (vectors[:, -5:].T @ delta).square())
        assert found.estimated[task, 1, 0] == pytest.approx(top, rel=1e-3)
        fishers.append(fisher)
        whole = sum(fishers)
        assert found.true_sum[task, 0] == pytest.approx(float(delta @ whole @ delta), rel=1e-4)
        by_diagonal = float(delta.square() @ whole.diagonal())
        assert found.estimated_sum[task, 0, 0] == pytest.approx(by_diagonal, rel=1e-4)
        values, vectors = torch.linalg.eigh(sum(map(top_of, fishers)))
        top = float(values[-5:] @ (vectors[:, -5:].T @ delta).square())
        assert found.estimated_sum[task, 1, 0] == pytest.approx(top, rel=1e-3)
        values, trace = torch.linalg.eigvalsh(fisher), fisher.trace()
        np.testing.assert_allclose(
            found.trace[task], [1, values[-5:].sum() / trace, 1, found.trace[task, 3]], rtol=1e-3
        )
        assert found.eigenvalue_error[task, 1] < 1e-4


def test_training_is_bitwise_the_same(trained):
    plain = make_naive(model=tiny())
    train(plain, digits("permuted", **SMALL))
    assert torch.equal(weights(plain), weights(trained[0]))


def test_nothing_is_compared_unless_asked():
    plugin = SpectrumAnalysisPlugin(rank=2)
    train(make_naive(plugin), digits(n_experiences=1, train_size=20))
    assert [*plugin.exhibits()] == ["spectrum"]


def test_a_layer_that_grows_has_no_path():
    plugin = SpectrumAnalysisPlugin(rank=2, compare_every=1)
    strategy = make_naive(plugin, model=Growing(), batch_size=15)
    train(strategy, digits(train_size=20))
    found = shown(strategy)
    assert found.trace.shape == (5, 4)
    assert found.true.size == 0


def test_it_can_be_pickled_within_a_path():
    plugin = SpectrumAnalysisPlugin(rank=2, compare_every=1)
    strategy = make_naive(plugin, model=MLP([5], input_shape=(1, 8, 8), n_classes=10))
    train(strategy, digits(n_experiences=1, train_size=20))
    again = pickle.loads(pickle.dumps(plugin))
    for each in (plugin, again):
        each.paths[0].take(strategy.model, 1)
        each.paths[0].finish()
    assert again.exhibits()["fisher_forms"]["true"].tolist() == [[0.0]]


def test_the_default_changes_no_hash(tmp_path):
    def hash_of(**given):
        analyses = {"spectrum_analysis": {"rank": 5, **given}}
        return loaded(experiment_with(analyses=analyses), tmp_path).cells()[0].hash

    assert hash_of() == hash_of(compare_every=None) != hash_of(compare_every=5)
