"""The Lyapunov spectrum of a network from that of its Gram variables, the rank that they lose included."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow.chaos import LyapunovSpectrum, TangentSystem, lyapunov_spectrum
from curlflow.chaos.engine.tangent_system import as_tangent_system
from curlflow.models import Gram, GramFlow
from curlflow.orbits.solvers import SolverChoice
from curlflow.system import Args, Time


@result
class NetworkSpectrum:
    """All Lyapunov exponents of a network, predicted from its Gram variables; made by `network_spectrum`.

    Attributes
    ----------
    exponents
        All N (M + P) of them, descending.
    units
        The exponents β of one hidden unit's weights in every group, descending, shape (groups, n), n = M + P.
    ranks
        How many of them are zero, but at most as many as there are hidden units: the rank that the group's Gram matrix keeps.
    mismatch
        The largest distance between a sum βi + βj that must be among the exponents of the Gram variables and the exponent
        there that was taken for it; 0 if no rank is lost.
    """

    exponents: Float[np.ndarray, " network"]
    units: Float[np.ndarray, "groups n"]
    ranks: tuple[int, ...]
    mismatch: float

    def to_xarray(self) -> "xr.Dataset":
        """The network's exponents along `exponent`, those of hidden units along `group` and `unit`, with the ranks."""
        return xr.Dataset(
            {
                "exponents": ("exponent", self.exponents),
                "units": (("group", "unit"), self.units),
                "ranks": ("group", list(self.ranks)),
            },
            attrs={"mismatch": self.mismatch},
        )

    def __str__(self) -> str:
        shown = f"{self.exponents[0]:.4g} … {self.exponents[-1]:.4g}"
        ranks = ", ".join(map(str, self.ranks))
        return f"NetworkSpectrum: {len(self.exponents)} exponents, {shown}; ranks {ranks}, mismatch {self.mismatch:.1e}"


def network_spectrum(
    spectrum: LyapunovSpectrum,
    *,
    widths: Sequence[int] | None = None,
    T: float | None = None,
    tolerance: float | None = None,
) -> NetworkSpectrum:
    r"""All Lyapunov exponents of a network from those of its Gram variables.

    The weights q of a hidden unit obey q̇ = q Bσ(t), a linear equation with n = M + P exponents β1 ≥ β2 ≥ … along the orbit.
    On a bounded orbit β1 = … = βm = 0, with m the rank that Γσ keeps. The spectrum of N hidden units in the group is that of
    Γσ, but

    * without the sums βi + βj, m < i ≤ j ≤ n, at which the lost block of Γσ decays;
    * with every βj, j > m, N − m times: hidden units decay at half the rate of their squares;
    * with m (m − 1)/2 + m (N − m) zeros, for the rotations of those hidden units that do not decay.

    With full rank (m = n) that is N (M + P) − dim Γ zeros more. Where N < n the rank is m ≤ N, the other β may have any sign,
    and their sums belong to directions that no network of this width has.

    Parameters
    ----------
    spectrum
        All exponents of a `GramFlow`, on a bounded orbit that is stationary.
    widths
        Hidden units in every group, in the order of `signs`; None means those of the network that the flow was made from.
    T
        Time over which to average the exponents β, onwards from the spectrum's final state; None means the spectrum's own.
    tolerance
        How far from zero an exponent β must be not to count as zero; None means the spectrum's largest resolution.

    Returns
    -------
    NetworkSpectrum
        The exponents, with the β and the ranks they were made of, and how well the sums were found.

    Raises
    ------
    ValueError
        If the spectrum is not that of a `GramFlow`, has not all exponents, or the widths do not fit the flow's groups.

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> full, student, _ = cf.ensembles.student_teacher(jax.random.key(0), N=5, M=2)
    >>> flow = cf.GramFlow.from_flow(full)
    >>> ls = cf.lyapunov_spectrum(flow, flow.reduce(student), T=200.0, Ttr=200.0)
    >>> len(ls.exponents), len(cf.manifold.network_spectrum(ls).exponents)
    (6, 15)
    """
    _checks.require_made("spectrum", spectrum, LyapunovSpectrum, "lyapunov_spectrum of one orbit")
    tangent = spectrum.tangent_system
    flow = tangent.system
    if not isinstance(flow, GramFlow):
        raise ValueError(f"`spectrum` must be that of a GramFlow, but its system is {type(flow).__name__}.")
    if len(spectrum.exponents) != spectrum.n:
        raise ValueError(
            f"`spectrum` must have all {spectrum.n} exponents, but has {len(spectrum.exponents)}: leave out k."
        )
    tolerance = float(np.max(spectrum.resolution)) if tolerance is None else tolerance
    tolerance = _checks.non_negative_number("tolerance", tolerance)
    T = _checks.positive_number("T", spectrum.T if T is None else T)
    units = unit_exponents(tangent, spectrum.final_state, T=T)
    counts = _widths(flow, widths)
    lost = [_lost(beta, count, tolerance) for beta, count in zip(units, counts, strict=True)]
    ranks = tuple(len(beta) - len(own) for beta, own in zip(units, lost, strict=True))
    left, mismatch = _without(spectrum.exponents, np.concatenate([_pair_sums(own) for own in lost]))
    exponents = [left]
    for own, rank, count in zip(lost, ranks, counts, strict=True):
        exponents.append(np.zeros(rank * (rank - 1) // 2 + rank * (count - rank)))
        exponents.append(np.repeat(own, count - rank))
    return NetworkSpectrum(np.sort(np.concatenate(exponents))[::-1], units, ranks, mismatch)


def unit_exponents(
    flow: GramFlow | TangentSystem,
    y: Gram,
    *,
    T: float,
    dt: float = 1.0,
    solver: SolverChoice | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> Float[np.ndarray, "groups n"]:
    """The Lyapunov exponents β of one hidden unit's weights, q̇ = q Bσ(t), in every group, along the orbit from y.

    Parameters
    ----------
    flow
        The reduced flow, or a `TangentSystem` of it, which has its own `dt`, solver and tolerances.
    y
        Gram matrices on the orbit, after its transient.
    T
        Time over which to average, rounded up to a multiple of `dt`.
    dt, solver, rtol, atol
        As for `lyapunov_spectrum`.

    Returns
    -------
    Array
        Shape (groups, M + P), descending, per unit time. A third of T is spent before on aligning the vectors.

    Raises
    ------
    ValueError
        If the flow is no `GramFlow`, or as `lyapunov_spectrum` does.

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> full, student, _ = cf.ensembles.student_teacher(jax.random.key(0), N=5, M=2)
    >>> flow = cf.GramFlow.from_flow(full)
    >>> cf.manifold.unit_exponents(flow, flow.reduce(student), T=50.0).shape
    (1, 3)
    """
    tangent = as_tangent_system(flow, dt=dt, solver=solver, rtol=rtol, atol=atol)
    reduced = tangent.system
    if not isinstance(reduced, GramFlow):
        raise ValueError(f"`flow` must be a GramFlow, but is {type(reduced).__name__}.")
    T = _checks.positive_number("T", T)
    units = [HiddenUnit(reduced, jnp.asarray(group)) for group in range(len(reduced.signs))]
    spectra = [lyapunov_spectrum(tangent.with_generator(unit), y, T=T, Ttr=T / 3) for unit in units]
    return np.stack([spectrum.exponents for spectrum in spectra])


@final
class HiddenUnit(eqx.Module):
    """What moves the weights q of a hidden unit in a group, as a column: q̇ = Bσᵀ q along an orbit of the reduced flow."""

    flow: GramFlow
    group: Int[Array, ""]

    def __call__(self, t: Time, y: Gram, args: Args) -> Float[Array, "n n"]:
        """The matrix Bσᵀ at the Gram matrices y."""
        return self.flow.unit_generators(y)[self.group].T


def _widths(flow: GramFlow, widths: Sequence[int] | None) -> list[int]:
    if widths is None and flow.d2 is None:
        raise ValueError("`widths` must be given for a flow without a width, but is None.")
    counted = [int((flow.d2 == sign).sum()) for sign in flow.signs] if widths is None else widths
    if (
        not isinstance(counted, Sequence)
        or len(counted) != len(flow.signs)
        or not all(map(_is_width, counted))
    ):
        raise ValueError(
            f"`widths` must give each of the {len(flow.signs)} groups at least one hidden unit, but is {counted}."
        )
    return list(counted)


def _is_width(count: int) -> bool:
    return isinstance(count, (int, np.integer)) and count >= 1


def _lost(beta: np.ndarray, width: int, tolerance: float) -> np.ndarray:
    """The exponents of the directions that Γ does not keep: all but its zeros, at most as many as there are hidden units."""
    rank = min(int(np.sum(np.abs(beta) <= tolerance)), width)
    kept = np.argsort(np.abs(beta), kind="stable")[:rank]
    return np.delete(beta, kept)


def _pair_sums(beta: np.ndarray) -> np.ndarray:
    """βi + βj for i ≤ j."""
    i, j = np.triu_indices(len(beta))
    return beta[i] + beta[j]


def _without(exponents: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """The exponents but for those nearest to the values, and the largest distance between the two."""
    if not len(values):
        return exponents, 0.0
    distances = np.abs(exponents[None, :] - values[:, None])
    rows, columns = scipy.optimize.linear_sum_assignment(distances)
    return np.delete(exponents, columns), float(distances[rows, columns].max())
