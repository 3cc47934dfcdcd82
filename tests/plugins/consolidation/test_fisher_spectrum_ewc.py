"""Fisher-spectrum EWC through a strategy."""

import pytest
import torch

from avalanche_ext.functional.fisher.diagonal import diagonal_fisher
from avalanche_ext.functional.fisher.spectrum import fisher_spectrum
from avalanche_ext.plugins import FisherSpectrumEWCPlugin, OnlineEWCPlugin
from tests.cases import weights
from tests.plugins.consolidation.consolidation_cases import dense, naive, run, three_tasks


@pytest.mark.parametrize("update", ["proximal", "gradient"])
@pytest.mark.parametrize("kind", ["true", "sampled", "empirical"])
def test_without_eigenpairs_it_is_online_ewc_bit_for_bit(kind, update):
    given = {"n_samples": 20, "kind": kind, "update": update, "seed": 3}
    spectral = FisherSpectrumEWCPlugin(20.0, rank=0, **given)
    diagonal = OnlineEWCPlugin(20.0, **given)
    assert torch.equal(weights(run(spectral)), weights(run(diagonal)))
    assert torch.equal(spectral.curvature.diagonal, diagonal.curvature.diagonal)


@pytest.mark.parametrize("residual", ["none", "diagonal"])
def test_estimates_are_discounted_merged_and_truncated(residual):
    plugin = FisherSpectrumEWCPlugin(2.0, 0.7, rank=4, residual=residual, n_samples=None)
    strategy, expected = naive(plugin), None
    for experience in three_tasks().train_stream:
        strategy.train(experience, eval_streams=[])
        model, x, y = strategy.model, experience.dataset.x, experience.dataset.y
        top = fisher_spectrum(model, x, y, 4)
        vectors, values = top.eigenvectors.double(), top.eigenvalues.double()
        spectral = vectors.T @ torch.diag(values) @ vectors
        diagonal = torch.cat([f.flatten() for f in diagonal_fisher(model, x, y).values()]).double()
        rest = (diagonal - spectral.diagonal()).clamp(min=0)
        if expected is not None:
            spectral, rest = 0.7 * expected[0] + spectral, 0.7 * expected[1] + rest
        found, directions = torch.linalg.eigh(spectral)
        kept = directions[:, -4:] @ torch.diag(found[-4:]) @ directions[:, -4:].T
        expected = kept, rest + (spectral - kept).diagonal()
    whole = expected[0] + (torch.diag(expected[1]) if residual == "diagonal" else 0)
    assert len(plugin.curvature.eigenvalues) == 4
    assert (dense(plugin.curvature) - whole).norm() < 1e-3 * whole.norm()


def test_with_the_residual_the_trace_is_that_of_the_diagonal_fisher():
    spectral = FisherSpectrumEWCPlugin(0.0, rank=5, n_samples=None)
    diagonal = OnlineEWCPlugin(0.0)
    run(spectral)
    run(diagonal)
    assert spectral.curvature.trace == pytest.approx(diagonal.curvature.trace, rel=1e-3)
    assert spectral.curvature.largest > 2 * diagonal.curvature.largest


def test_it_tells_which_share_of_the_trace_the_eigenpairs_have():
    shares = []
    for rank in (1, 5, 50):
        plugin = FisherSpectrumEWCPlugin(0.0, rank=rank, n_samples=None)
        assert plugin.diagnostics() == {}
        run(plugin, benchmark=three_tasks(n_experiences=1))
        numbers = plugin.diagnostics()
        share = float(plugin.curvature.eigenvalues.sum()) / numbers["spectrum_ewc/trace"]
        assert numbers["spectrum_ewc/kept"] == pytest.approx(share, rel=1e-4)
        shares.append(share)
    assert 0 < shares[0] < shares[1] < shares[2] <= 1.0001


def test_a_rank_above_that_of_the_fisher_is_no_harm():
    plugin = FisherSpectrumEWCPlugin(2.0, rank=400, n_samples=3, kind="sampled")
    strategy = run(plugin)
    assert len(plugin.curvature.eigenvalues) <= 9
    assert torch.isfinite(weights(strategy)).all()


def test_along_directions_it_does_not_see_the_spectrum_alone_leaves_weights_free():
    plugin = FisherSpectrumEWCPlugin(1e8, 1.0, rank=5, residual="none", n_samples=None)
    strategy = naive(plugin)
    first, second, _ = three_tasks().train_stream
    strategy.train(first, eval_streams=[])
    directions, anchor = plugin.curvature.eigenvectors, plugin.anchor
    strategy.train(second, eval_streams=[])
    change = weights(strategy) - anchor
    assert (directions @ change).abs().max() < 1e-3 * change.norm()


@pytest.mark.parametrize(
    "arguments",
    [{"rank": -1}, {"residual": "full"}, {"n_samples": 0}, {"lam": -1.0}, {"kind": "exact"}],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FisherSpectrumEWCPlugin(**arguments)


def test_a_penalty_without_anything_in_it_is_refused():
    with pytest.raises(ValueError, match="rank=0 with residual='none' leaves no penalty"):
        FisherSpectrumEWCPlugin(rank=0, residual="none")


def test_iterations_need_a_number_of_samples():
    with pytest.raises(ValueError, match="n_samples=None: give a number with every=5"):
        FisherSpectrumEWCPlugin(every=5, n_samples=None)
