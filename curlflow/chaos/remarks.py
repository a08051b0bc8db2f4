"""What a run's exponents say beyond how it ended: averages over nothing, vanishing derivatives, sums that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float

from curlflow._trees import size
from curlflow.chaos.engine.map_steps import turn
from curlflow.chaos.engine.runner import Run
from curlflow.chaos.engine.tangent_system import RunState, TangentSystem
from curlflow.chaos.saltation import passes_jumps

# Exponents below this, per turn of a cycle, may be those of a derivative that rounding keeps from 0.
SMALLEST_MULTIPLIER = 1e-8
# A state on a cycle is known to so many units in the last place.
ROUNDINGS = 8
LARGEST_MAP = 64
# The sum of all exponents may differ from the mean divergence by this fraction of their sizes, and by so many tolerances.
SUM_RTOL, SUM_TOLERANCES = 1e-3, 100


def remarks(
    run: Run,
    state: RunState,
    exponents: Float[np.ndarray, " k"],
    mean_divergence: float | None,
    intervals: int,
) -> list[str]:
    """Sentences to add to a run's outcome; none where all is as expected."""
    found = []
    if np.isfinite(state.escape):
        nothing = "No interval was averaged before, so there are no exponents."
        found.append("The exponents are averages up to there." if intervals else nothing)
    if intervals and np.isneginf(exponents).any():
        found.append(
            f"{int(np.isneginf(exponents).sum())} of {len(exponents)} exponents is −∞: the derivative in its direction is 0 "
            "on the orbit, or cannot be told from 0 (superstable)."
        )
    if not _sum_fits(exponents, mean_divergence, run.n, float(run.tangent.rtol)):
        found.append(
            f"The exponents add up to {exponents.sum():.6g} and not to the mean divergence {mean_divergence:.6g}: tighten "
            "`rtol`, or, if the system says itself what its `tangent` or `divergence` is, correct that."
        )
    if intervals and passes_jumps(run):
        found.append(
            "The vector field jumps on the orbit's way: what that does to the distance of neighbouring orbits (saltation) is "
            "not in the exponents, which are those of the smooth parts alone. Make the jump a steep smooth function, e.g. "
            "tanh(y / width) for sign(y), and take the limit of small widths."
        )
    return found


def _sum_fits(exponents: Float[np.ndarray, " k"], mean_divergence: float | None, n: int, rtol: float) -> bool:
    """Whether all n exponents add up to the mean divergence; true where one of both is not known."""
    if mean_divergence is None or len(exponents) < n or not np.isfinite([*exponents, mean_divergence]).all():
        return True
    sizes = float(np.abs(exponents).sum()) + abs(mean_divergence)
    return abs(float(exponents.sum()) - mean_divergence) <= SUM_RTOL * sizes + SUM_TOLERANCES * rtol


def superstable(
    tangent: TangentSystem, state: RunState, period: int, local: Float[np.ndarray, "intervals k"]
) -> Bool[np.ndarray, " k"]:
    """Which exponents of a map on a cycle belong to multipliers that cannot be told from 0.

    A superstable cycle has a multiplier 0; rounding puts the state beside it, where the multiplier is some 1e-16. Such a one
    changes by as much as itself when the state changes in its last digits.
    """
    none = np.zeros(local.shape[1], bool)
    if not (tangent.is_map and tangent.generator is None and period and len(local)):
        return none
    tiny = local.mean(axis=0) * period < np.log(SMALLEST_MULTIPLIER)
    if not tiny.any() or size(state.y) > LARGEST_MAP:
        return none
    y = jax.tree.map(jnp.asarray, state.y)
    flat, first = ravel_pytree(y)[0], jnp.round(float(state.time)).astype(jnp.int64)
    several = turn(tangent, y, first, period)
    signs = np.where(np.arange(flat.size) % 2, -1.0, 1.0) * ROUNDINGS * np.finfo(float).eps
    jacobians = [np.asarray(jax.jacfwd(several)(flat * (1 + shift * signs))) for shift in (-1, 0, 1)]
    if not np.isfinite(jacobians).all():
        return none
    below, here, above = (np.sort(np.abs(np.linalg.eigvals(J)))[::-1] for J in jacobians)
    spread = np.maximum(np.abs(below - here), np.abs(above - here))
    return tiny & (here <= spread)[: local.shape[1]]
