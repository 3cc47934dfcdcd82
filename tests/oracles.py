"""Slow, plain answers that the tests compare the package with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import scipy.optimize

Array = npt.NDArray[np.float64]

# ---- metrics: R[i][j] is the accuracy on experience j after training on i; the last row is now --


def accuracy_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Lopez-Paz and Ranzato (2017), equation 2, over the experiences seen so far."""
    total = 0.0
    for j in range(len(R)):
        total += R[len(R) - 1][j]
    return total / len(R)


def instance_accuracy_by_loops(R: Sequence[Sequence[float]], sizes: Sequence[int]) -> float:
    """Right answers over answers, sample by sample of the experiences seen so far."""
    right = 0.0
    answers = 0
    for j in range(len(R)):
        for _ in range(sizes[j]):
            right += R[len(R) - 1][j]
            answers += 1
    return right / answers


def backward_transfer_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Lopez-Paz and Ranzato (2017), equation 3; at least two rows."""
    last = len(R) - 1
    total = 0.0
    for j in range(last):
        total += R[last][j] - R[j][j]
    return total / last


def forward_transfer_by_loops(R: Sequence[Sequence[float]], b: Sequence[float]) -> float:
    """Lopez-Paz and Ranzato (2017), equation 4; at least two rows."""
    total = 0.0
    for j in range(1, len(R)):
        total += R[j - 1][j] - b[j]
    return total / (len(R) - 1)


def forgetting_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Forgetting as Chen et al. (2020) state it; at least two rows."""
    last = len(R) - 1
    total = 0.0
    for i in range(last):
        best = R[i][i]
        for j in range(i, last):
            if R[j][i] > best:
                best = R[j][i]
        total += best - R[last][i]
    return total / last


def intransigence_by_loops(R: Sequence[Sequence[float]], best: Sequence[float]) -> float:
    """Chaudhry et al. (2018), against given reference accuracies."""
    total = 0.0
    for i in range(len(R)):
        total += best[i] - R[i][i]
    return total / len(R)


def learning_accuracy_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Riemer et al. (2019)."""
    total = 0.0
    for i in range(len(R)):
        total += R[i][i]
    return total / len(R)


# ---- losses on representations: float64, loops over listed pairs --------------------------------


def discriminative_representation_loss_by_loops(
    h: Sequence[Sequence[float]], y: Sequence[int], alpha: float, normalisation: str
) -> float:
    """Chen, Diethe and Flach (2020): between-class and within-class inner products."""
    pairs = [(i, j) for i in range(len(y)) for j in range(len(y)) if i != j]
    sums, counts = {"between": 0.0, "within": 0.0}, {"between": 0, "within": 0}
    for i, j in pairs:
        kind = "within" if y[i] == y[j] else "between"
        sums[kind] += sum(a * b for a, b in zip(h[i], h[j], strict=True))
        counts[kind] += 1
    if normalisation == "batch":
        return (sums["between"] + alpha * sums["within"]) / len(y) ** 2
    return sums["between"] / max(1, counts["between"]) + alpha * sums["within"] / max(
        1, counts["within"]
    )


# ---- buffers: which arrivals are held, by plain lists -------------------------------------------


def ring_by_lists(groups: Sequence[int], max_size: int) -> list[int]:
    """Arrival numbers held by DRL's Algorithm 1: insert, then the oldest of the largest leaves."""
    held: list[int] = []
    for arrival, _ in enumerate(groups):
        held.append(arrival)
        if len(held) > max_size:
            sizes = {g: sum(groups[a] == g for a in held) for g in {groups[a] for a in held}}
            largest = max(sizes.values())
            # `held` is in order of arrival: the first member of any largest group leaves.
            held.remove(next(a for a in held if sizes[groups[a]] == largest))
    return held


def last_of_each_group(groups: Sequence[int], size: int) -> list[int]:
    """Arrival numbers held by GEM's memory: the last `size` of each group."""
    return [
        arrival
        for arrival, group in enumerate(groups)
        if sum(later == group for later in groups[arrival + 1 :]) < size
    ]


# ---- GEM's projection: argmin 1/2 ||g + G'v||^2 over v >= gamma, as z = g + G'v -----------------
#
# With v = gamma + w, z is the projection of g + gamma * (sum of G's rows) onto {z : G z >= 0}, and
# neither that set nor the cone of the rows changes when the rows are divided by their lengths.


def _lower_bound_and_directions(g: Array, G: Array, gamma: float) -> tuple[Array, Array]:
    lengths = np.linalg.norm(G, axis=1)
    return g + gamma * G.sum(axis=0), G[lengths > 0] / lengths[lengths > 0, None]


def gem_projection_by_active_sets(g: Array, G: Array, gamma: float) -> Array:
    """Lopez-Paz and Ranzato (2017), equation 11, by trying every set of positive w; T <= 8."""
    if np.all(G @ g >= 0):
        return g.copy()
    start, directions = _lower_bound_and_directions(g, G, gamma)
    scale = max(float(np.linalg.norm(start)), np.finfo(np.float64).tiny)
    best, least = start, np.inf
    for size in range(len(directions) + 1):
        for active in combinations(range(len(directions)), size):
            A = directions[list(active)].T
            w, _, rank, _ = np.linalg.lstsq(A, -start)
            if rank < size:  # some linearly independent set gives the same answer
                continue
            Q, _ = np.linalg.qr(A)
            z = start - Q @ (Q.T @ start)
            z -= Q @ (Q.T @ z)
            violation = max(0.0, -min(w, default=0.0), -min(directions @ z)) / scale
            if violation < least:
                best, least = z, violation
    assert least < 1e-9, f"no set of active variables meets the optimality conditions: {least}"
    return best


def gem_projection_by_nnls(g: Array, G: Array, gamma: float) -> Array:
    """The same by Lawson and Hanson's non-negative least squares on the vectors themselves."""
    if np.all(G @ g >= 0):
        return g.copy()
    start, directions = _lower_bound_and_directions(g, G, gamma)
    scale = max(float(np.linalg.norm(start)), np.finfo(np.float64).tiny)
    w, _ = scipy.optimize.nnls(directions.T, -start / scale, maxiter=30 * len(directions))
    z: Array = start + scale * (w @ directions)
    violation = -min(directions @ z) / scale
    assert violation < 1e-9, f"the answer leaves the cone: {violation}"
    return z


def diagonal_projection_by_loops(
    g: Sequence[float], G: Sequence[Sequence[float]], gamma: float
) -> list[float]:
    """Off-diagonal products of the references ignored: v_k = max(gamma, -<g, g_k> / ||g_k||^2)."""

    def inner(a: Sequence[float], b: Sequence[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    z = list(g)
    if all(inner(g, reference) >= 0 for reference in G):
        return z
    for reference in G:
        if any(reference):
            v = max(gamma, -inner(g, reference) / inner(reference, reference))
            for i, x in enumerate(reference):
                z[i] += v * x
    return z


# ---- Bayesian gradient descent ----


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


# ---- hindsight anchors: networks z = W2 tanh(W1 x + b1) + b2, as [W1, b1, W2, b2] ---------------

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


# ---- memory editing and maximally interfered retrieval, of the same networks --------------------


def cross_entropy_of(network: Network, x: Array, y: int) -> float:
    """The loss of one sample (D,)."""
    _, z = hidden_and_outputs(network, x)
    return float(np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[y])


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
