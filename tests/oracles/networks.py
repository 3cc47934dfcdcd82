"""What is done with networks z = W2 tanh(W1 x + b1) + b2, given as [W1, b1, W2, b2]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.oracles.arrays import Array


def bayesian_step_by_loops(
    mu: Sequence[float],
    sigma: Sequence[float],
    draws: Sequence[tuple[Sequence[float], Sequence[float]]],
    eta: float,
) -> tuple[list[float], list[float]]:
    """Zeno et al. (2018): one update of N(mu, sigma^2) from pairs of gradient and noise."""
    new_mu, new_sigma = [], []
    for i, (m, s) in enumerate(zip(mu, sigma, strict=True)):
        g = sum(gradient[i] for gradient, _ in draws) / len(draws)
        g_noise = sum(gradient[i] * noise[i] for gradient, noise in draws) / len(draws)
        new_mu.append(m - eta * s**2 * g)
        new_sigma.append(s * (1 + (s * g_noise / 2) ** 2) ** 0.5 - s**2 * g_noise / 2)
    return new_mu, new_sigma


Network = Sequence[Array]


def hidden_and_outputs(network: Network, x: Array) -> tuple[Array, Array]:
    """The hidden layer (H,) and the outputs (C,) of one sample (D,)."""
    W1, b1, W2, b2 = network
    h = np.tanh(W1 @ x + b1)
    return h, W2 @ h + b2


def cross_entropy_gradients(network: Network, x: Array, y: int) -> tuple[list[Array], Array]:
    """The gradients of one sample's cross-entropy: at the network's arrays, and at x, (D,)."""
    W1, _, W2, _ = network
    h, z = hidden_and_outputs(network, x)
    at_z = np.exp(z - z.max())
    at_z /= at_z.sum()
    at_z[y] -= 1
    at_a = (W2.T @ at_z) * (1 - h**2)
    return [np.outer(at_a, x), at_a, np.outer(at_z, h), at_z], W1.T @ at_a


def cross_entropy_of(network: Network, x: Array, y: int) -> float:
    """The loss of one sample (D,)."""
    _, z = hidden_and_outputs(network, x)
    return float(np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[y])


def sgd_step_by_loops(
    network: Network, x: Array, y: Sequence[int], rates: Sequence[float]
) -> list[Array]:
    """The network after a step on the mean cross-entropy of samples (B, D)."""
    stepped = [array.copy() for array in network]
    for sample, label in zip(x, y, strict=True):
        gradients, _ = cross_entropy_gradients(network, sample, label)
        for array, gradient, rate in zip(stepped, gradients, rates, strict=True):
            array -= rate * gradient / len(y)
    return stepped


def anchoring_loss_by_loops(
    network: Network, anchors: Array, x: Array, y: Sequence[int], rates: Sequence[float]
) -> float:
    """Chaudhry et al. (2021): how far a step on x, y moves the outputs of anchors (E, D)."""
    stepped = sgd_step_by_loops(network, x, y, rates)
    total = 0.0
    for anchor in anchors:
        now, ahead = hidden_and_outputs(network, anchor)[1], hidden_and_outputs(stepped, anchor)[1]
        total += sum((a - b) ** 2 for a, b in zip(now, ahead, strict=True))
    return total / len(anchors)


def anchor_by_loops(
    network: Network,
    hindsight: Network,
    start: Array,
    y: int,
    embedding: Array,
    n_steps: int,
    lr: float,
    embedding_weight: float,
) -> Array:
    """Chaudhry et al. (2021): one anchor (D,), by Kingma and Ba's Adam with its usual settings."""
    anchor, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step in range(1, n_steps + 1):
        h, _ = hidden_and_outputs(network, anchor)
        lengths = np.linalg.norm(h) * np.linalg.norm(embedding)
        cosine = (h @ embedding) / lengths
        at_h = -embedding_weight * (embedding / lengths - cosine * h / (h @ h))
        gradient = network[0].T @ (at_h * (1 - h**2))
        gradient += cross_entropy_gradients(network, anchor, y)[1]
        gradient -= cross_entropy_gradients(hindsight, anchor, y)[1]
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        anchor -= lr * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return anchor


def edits_by_loops(
    network: Network,
    x: Array,
    y: Sequence[int],
    stream: tuple[Array, Sequence[int]],
    rates: Sequence[float],
    strides: Sequence[float],
    reg_strength: float,
    n_steps: int,
) -> Array:
    """Jin, Du and Ren (2021): samples (B, D), each moved on its share 1 / B of the mean loss."""
    ahead = sgd_step_by_loops(network, *stream, rates)
    edited = x.copy()
    for _ in range(n_steps):
        for i, label in enumerate(y):
            _, now = cross_entropy_gradients(network, edited[i], label)
            _, then = cross_entropy_gradients(ahead, edited[i], label)
            edited[i] += strides[i] * (then - now - reg_strength * now) / len(y)
    return edited


def interference_by_loops(
    network: Network,
    x: Array,
    y: Sequence[int],
    stream: tuple[Array, Sequence[int]],
    rates: Sequence[float],
) -> list[float]:
    """Aljundi et al. (2019): by how much a step on the stream increases each sample's loss."""
    ahead = sgd_step_by_loops(network, *stream, rates)
    return [
        cross_entropy_of(ahead, sample, label) - cross_entropy_of(network, sample, label)
        for sample, label in zip(x, y, strict=True)
    ]
