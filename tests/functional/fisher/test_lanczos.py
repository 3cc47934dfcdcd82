"""Block Lanczos against a dense eigendecomposition."""

import pytest
import torch
from torch import Tensor

from avalanche_ext.functional.fisher import lanczos
from avalanche_ext.functional.fisher.lanczos import largest_eigenpairs
from avalanche_ext.functional.fisher.spectrum import fisher_spectrum
from avalanche_ext.models import MLP

SIZE = 150


def rotated(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(eigenvalues), len(eigenvalues), generator=rng, dtype=torch.float64)
    turn = torch.linalg.qr(noise).Q
    return (turn * eigenvalues) @ turn.T


def padded(*eigenvalues: float) -> Tensor:
    values = torch.zeros(SIZE, dtype=torch.float64)
    values[: len(eigenvalues)] = torch.tensor(eigenvalues)
    return values


SPECTRA = {
    "a power law": 1 / torch.arange(1, SIZE + 1, dtype=torch.float64) ** 2,
    "nearly flat": torch.linspace(1, 0.9, SIZE, dtype=torch.float64),
    "one value alone": torch.ones(SIZE, dtype=torch.float64),
    "repeated more often than a block is wide": torch.cat(
        [torch.full((11,), 3.0), torch.full((13,), 2.0), torch.linspace(1, 0, SIZE - 24)]
    ).double(),
    "repeated far above the rest": torch.cat(
        [torch.tensor([5.0, 5, 5, 5, 4, 3, 2, 1]), torch.linspace(0.1, 0, SIZE - 8)]
    ).double(),
    "two values": torch.cat([torch.full((9,), 2.0), torch.ones(SIZE - 9)]).double(),
    "of rank three": padded(5, 4, 3),
    "of rank one": padded(1),
    "over sixteen orders of magnitude": 10.0 ** -torch.linspace(0, 16, SIZE, dtype=torch.float64),
    "zero": padded(),
}


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA.keys())
@pytest.mark.parametrize("rank", [1, 6, 20])
@pytest.mark.parametrize("block_size", [1, 4])
def test_eigenpairs_are_those_of_the_matrix(spectrum, rank, block_size):
    matrix = rotated(spectrum)
    values, vectors = largest_eigenpairs(lambda v: v @ matrix, matrix[0], rank, block_size)
    assert (values - spectrum[:rank]).abs().max() < 1e-12
    assert (vectors @ vectors.T - torch.eye(rank, dtype=torch.float64)).abs().max() < 1e-12
    assert (vectors @ matrix - values[:, None] * vectors).abs().max() < 1e-12


def test_more_eigenpairs_than_there_are_come_as_all_of_them():
    matrix = rotated(SPECTRA["a power law"][:7])
    values, vectors = largest_eigenpairs(lambda v: v @ matrix, matrix[0], 20)
    torch.testing.assert_close(values, SPECTRA["a power law"][:7])
    torch.testing.assert_close((vectors.T * values) @ vectors, matrix)


def test_single_precision_reaches_its_rounding():
    spectrum = SPECTRA["a power law"]
    matrix = rotated(spectrum).float()
    values, vectors = largest_eigenpairs(lambda v: v @ matrix, matrix[0], 8)
    assert vectors.dtype == torch.float32
    assert (values - spectrum[:8]).abs().max() < 2e-6
    assert (vectors @ vectors.T - torch.eye(8)).abs().max() < 2e-6


def test_the_same_call_gives_the_same_bits_and_draws_from_no_global_generator():
    matrix = rotated(SPECTRA["two values"])
    state = torch.random.get_rng_state()
    first, again = (largest_eigenpairs(lambda v: v @ matrix, matrix[0], 12) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_products_that_are_no_linear_operator_end_with_a_warning(monkeypatch):
    monkeypatch.setattr(lanczos, "_MOST_CYCLES", 3)
    rng, like = torch.Generator().manual_seed(0), torch.ones(SIZE, dtype=torch.float64)

    def product(vectors: Tensor) -> Tensor:
        return torch.randn(vectors.shape, generator=rng, dtype=torch.float64)

    with pytest.warns(UserWarning, match="the 2 largest eigenpairs have not converged after 3"):
        largest_eigenpairs(product, like, 2)


def test_many_more_eigenpairs_than_samples_are_asked_of_a_model_in_single_precision():
    """What is left of images is rounding then, and must not be taken for new directions."""
    torch.manual_seed(0)
    model = MLP([100, 100], input_shape=(1, 28, 28), n_classes=10)
    x, y = torch.rand(5, 1, 28, 28), torch.randint(0, 10, (5,))
    expected = fisher_spectrum(model, x, y, 20, "sampled", method="kernel").eigenvalues
    found = fisher_spectrum(model, x, y, 20, "sampled", method="lanczos").eigenvalues
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
