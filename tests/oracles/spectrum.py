"""Fisher information matrices, dense, from one backward pass for each sample and label."""

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracles.arrays import Array


def fisher_by_loops(model: nn.Module, x: Tensor, weights: Tensor, t: Tensor | None = None) -> Array:
    """(P, P): the mean over samples of sum_c weights[n, c] g_nc g_nc', g_nc = d log p_c / d theta.

    Kunstner, Balles, Hennig (2019), equations 3 and 4, with weights p_c or one for the label.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    size = sum(p.numel() for p in trained)
    fisher = np.zeros((size, size))
    modes = [module.training for module in model.modules()]
    model.eval()
    for n in range(len(x)):
        for c in range(weights.shape[1]):
            inputs = (x[n : n + 1],) if t is None else (x[n : n + 1], t[n : n + 1])
            log_p = model(*inputs).log_softmax(1)[0, c]
            gradients = torch.autograd.grad(log_p, trained, allow_unused=True)
            g = np.concatenate(
                [
                    (np.zeros(p.numel()) if g is None else g.double().numpy().ravel())
                    for g, p in zip(gradients, trained, strict=True)
                ]
            )
            fisher += float(weights[n, c]) * np.outer(g, g) / len(x)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return fisher


def top_eigenpairs(matrix: Array, rank: int) -> tuple[Array, Array]:
    """The largest eigenvalues, descending, and their eigenvectors as rows."""
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1][:rank].copy(), vectors.T[::-1][:rank].copy()
