"""The best constant diagonal metric, and the units in which it is looked for."""

import numpy as np
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

# Two coordinates whose influences on each other differ by more than this are taken to interact one way only.
LARGEST_RATIO = 1e12


def asymmetry(Js: Float[np.ndarray, "points state state"]) -> float:
    """‖J − Jᵀ‖ / ‖J‖ over all points together."""
    size = float(np.linalg.norm(Js))
    return float(np.linalg.norm(Js - Js.swapaxes(1, 2))) / size if size > 0 else 0.0


def balancing_units(
    Js: Float[np.ndarray, "points state state"], tolerance: float
) -> tuple[Float[np.ndarray, " state"], list[np.ndarray]]:
    """Units t of the coordinates in which J_ij and J_ji are of equal size, and the groups of coordinates that interact.

    In a diagonal metric g every pair has J_ji / J_ij = g_i / g_j, so that these units are its square roots: whatever its
    condition number, what is left to find in them are signs. A tree of the strongest interactions fixes them.
    """
    sizes = np.sqrt((Js**2).sum(0))
    n, mutual = len(sizes), np.sqrt(sizes * sizes.T)
    both = np.maximum(sizes, sizes.T) <= LARGEST_RATIO * np.minimum(sizes, sizes.T)
    linked = both & (mutual > tolerance * mutual.max(initial=0.0)) & ~np.eye(n, dtype=bool)
    # Weights from 1 up, the strongest interaction the lightest.
    weights = np.zeros((n, n))
    weights[linked] = 1 + np.log(mutual.max() / mutual[linked])
    tree = minimum_spanning_tree(weights)
    count, labels = connected_components(tree, directed=False)
    log_t = _from_tree(tree.toarray() + tree.toarray().T > 0, sizes)
    return np.exp(log_t), [np.flatnonzero(labels == label) for label in range(count)]


def in_units(
    Js: Float[np.ndarray, "points state state"], t: Float[np.ndarray, " state"]
) -> Float[np.ndarray, "points state state"]:
    """The Jacobians for coordinates measured in units of t."""
    return Js * t / t[:, None]


def best_signs(
    Js: Float[np.ndarray, "points state state"], groups: list[np.ndarray]
) -> Float[np.ndarray, " state"]:
    """The g that minimises Σ (g_i J_ij − g_j J_ji)² among those of length 1 in every group of coordinates that interact."""
    squares = (Js**2).sum(0)
    Q = np.diag(squares.sum(1)) - (Js * Js.swapaxes(1, 2)).sum(0)
    g = np.zeros(len(Q))
    for group in groups:
        # Within a group any two numbers have a fixed ratio, so the minimum is unique up to a factor.
        g[group] = np.linalg.eigh(Q[np.ix_(group, group)])[1][:, 0]
    return g


def scaled(g: Float[np.ndarray, " group"]) -> Float[np.ndarray, " group"]:
    """Scaled so that the largest magnitude is 1, and most of it, or the first number, is positive."""
    g = g / np.abs(g).max()
    total = g.sum()
    return g if total > 1e-9 or (abs(total) <= 1e-9 and g[0] > 0) else -g


def _from_tree(edges: np.ndarray, sizes: Float[np.ndarray, "state state"]) -> Float[np.ndarray, " state"]:
    """Logarithms of the units, walking along the tree's edges: (t_i / t_j)² = ‖J_ij‖ / ‖J_ji‖."""
    log_t = np.full(len(edges), np.nan)
    for root in range(len(edges)):
        if not np.isnan(log_t[root]):
            continue
        log_t[root], waiting = 0.0, [root]
        while waiting:
            j = waiting.pop()
            for i in np.flatnonzero(edges[j] & np.isnan(log_t)):
                log_t[i] = log_t[j] + np.log(sizes[i, j] / sizes[j, i]) / 2
                waiting.append(int(i))
    return log_t
