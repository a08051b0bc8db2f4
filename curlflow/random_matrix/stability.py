"""When flipped units destabilise the solution manifold of a wide network."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import in_words, pytree_result
from curlflow.random_matrix._arguments import (
    along_axes,
    fraction_array,
    law_arguments,
    not_exactly_one,
    positive_array,
    require_broadcastable,
)
from curlflow.random_matrix._law import SMALLEST_FRACTION, SpectralMap, readout_spike, spectral_map
from curlflow.random_matrix._roots import falling_root
from curlflow.random_matrix.edges import left_end


@pytree_result
class InstabilityWindow:
    """The ratios c = M/N at which the solution manifold is unstable: lower < c < upper.

    Attributes
    ----------
    lower
        Stable below, shape (…): the boundary surface in (c, αh, αr). Infinite where no ratio is unstable.
    upper
        Stable above, shape (…). Infinite unless αh = 0 and κ > 1.
    """

    lower: Float[Array, "*laws"]
    upper: Float[Array, "*laws"]

    def to_xarray(self) -> "xr.Dataset":
        """Both ends along the axes of the arguments, `axis0`, `axis1`, …."""
        return xr.Dataset({"lower": along_axes(self.lower), "upper": along_axes(self.upper)})

    def __str__(self) -> str:
        return f"InstabilityWindow: unstable for {in_words(self.lower)} < c < {in_words(self.upper)}"


def stability_boundary(
    *, alpha_h: ArrayLike | None = None, alpha_r: ArrayLike | None = None, kappa: ArrayLike = 1.0
) -> jax.Array:
    r"""Ratio c = M/N at which flips in one layer destabilise the solution manifold of a wide network.

    The manifold is stable while X = κ D1 + W1ᵀ D2 W1 is positive definite, and so for every c below the boundary.
    With x(z) as in `spectral_edges`, the left edge of X is the maximum of z + ρ(z)/c, where ρ = c R(G(z)) does
    not depend on c; it crosses zero at

    .. math:: c = \max_{z < 0} \; \rho(z) / (-z),

    to the left of all poles of ρ and atoms of κ D1. There the function has one maximum. Flips in the hidden layer
    alone give a curve in closed form, for z from −κ (αh → 0) to −κ − √κ (αh = 1),

    .. math::

        \kappa (1 - 2\alpha_h) = -\frac{(z^2 - \kappa^2)^2 + 2 \kappa^2 z}{z^2 + \kappa^2}, \qquad
        2 c z^3 + (1 - c) z^2 + \kappa^2 = 0.

    The boundary does not depend on the input covariance C as long as C is nonsingular.

    Parameters
    ----------
    alpha_h
        Fraction of −1 among the signs d1 of the hidden layer's rule; the readout layer has no flips. At 0 this is
        the limit αh → 0, which is also the boundary for any finite number of flipped inputs: c = 2/(1 + 2κ).
    alpha_r
        Fraction of −1 among the signs d2 of the readout layer's rule; the hidden layer has no flips. At 0 this is
        the limit αr → 0, also that of any finite number of flipped hidden units: c = 1/(2(1−κ)), or ∞ for κ ≥ 1.
    kappa
        Variance ratio σ2²/σ1², where W1 has entries of variance σ1²/M and W2 of variance σ2²/N.

    Returns
    -------
    c
        The boundary, shape (…). 0 where no ratio is stable (αr ≥ 1/2), ∞ where every ratio is. For αr and κ > 1
        the manifold becomes stable again at a larger ratio: see `instability_window`.

    Raises
    ------
    ValueError
        If both or neither of `alpha_h` and `alpha_r` are given, a fraction lies outside [0, 1], `kappa` is not
        positive, or shapes do not broadcast.

    References
    ----------
    H. Ninou, J. Kadmon, N. A. Cayco-Gajic, "Curl Descent", NeurIPS 2025, arXiv:2510.02765,
    Fig. 2 and Appendix B.4, where the boundary is found numerically.

    Examples
    --------
    >>> from curlflow.random_matrix import stability_boundary
    >>> stability_boundary(alpha_h=[0.0, 0.5, 1.0]).round(6)
    Array([0.666667, 0.309722, 0.25    ], dtype=float64)
    >>> stability_boundary(alpha_r=[0.0, 0.0551, 0.5]).round(3)
    Array([  inf, 0.999, 0.   ], dtype=float64)
    """
    kappa = positive_array("kappa", kappa)
    if alpha_h is not None and alpha_r is None:
        alpha_h = fraction_array("alpha_h", alpha_h)
        require_broadcastable(("alpha_h", "kappa"), (alpha_h, kappa))
        return _window(alpha_h, jnp.zeros(()), kappa, some_hidden=True).lower
    if alpha_r is not None and alpha_h is None:
        alpha_r = fraction_array("alpha_r", alpha_r)
        require_broadcastable(("alpha_r", "kappa"), (alpha_r, kappa))
        return _window(jnp.zeros(()), alpha_r, kappa, some_readout=True).lower
    raise not_exactly_one("alpha_h", "alpha_r", given=alpha_h is not None)


def instability_window(alpha_h: ArrayLike, alpha_r: ArrayLike, kappa: ArrayLike = 1.0) -> InstabilityWindow:
    r"""Ratios c = M/N at which flips in both layers destabilise the solution manifold of a wide network.

    The left edge of X = κ D1 + W1ᵀ D2 W1 is a maximum of functions z + ρ(z)/c, hence convex in 1/c. So the
    unstable ratios form one interval. With any flips in the hidden layer, or κ ≤ 1, it is unbounded and its lower
    end is the stability boundary, as a surface in (c, αh, αr). Without them, and with κ > 1, very compressive
    networks are stable again: for c → ∞ the spectrum of W1ᵀ D2 W1 shrinks to {−1, 0, 1}, and the readout weights'
    κ outweighs it.

    Parameters
    ----------
    alpha_h
        Fraction of −1 among the signs d1. Exactly 0 means that not a single input is flipped.
    alpha_r
        Fraction of −1 among the signs d2. Exactly 0 means that not a single hidden unit is flipped.
    kappa
        Variance ratio σ2²/σ1².

    Returns
    -------
    InstabilityWindow
        `lower` and `upper`, each of shape (…): unstable exactly for lower < c < upper. Both are infinite where no
        ratio is unstable.

    Raises
    ------
    ValueError
        As for `stability_boundary`.

    References
    ----------
    H. Ninou, J. Kadmon, N. A. Cayco-Gajic, "Curl Descent", NeurIPS 2025, arXiv:2510.02765,
    Appendix B.4 (one layer at a time).

    Examples
    --------
    >>> from curlflow.random_matrix import instability_window
    >>> instability_window(0.2, 0.1).lower.round(6)
    Array(0.213122, dtype=float64)
    >>> instability_window(0.0, 1.0, kappa=4.0)  # X = 4 − W1ᵀ W1
    InstabilityWindow: unstable for 0 < c < 1
    """
    alpha_h, alpha_r = fraction_array("alpha_h", alpha_h), fraction_array("alpha_r", alpha_r)
    kappa = positive_array("kappa", kappa)
    require_broadcastable(("alpha_h", "alpha_r", "kappa"), (alpha_h, alpha_r, kappa))
    return _window(alpha_h, alpha_r, kappa)


def critical_alpha(
    c: ArrayLike,
    *,
    layer: Literal["hidden", "readout"],
    other: ArrayLike = 0.0,
    kappa: ArrayLike = 1.0,
) -> jax.Array:
    r"""Fraction of flipped units of one layer at which the solution manifold of a wide network loses its stability.

    Every further flip lowers every eigenvalue of X = κ D1 + W1ᵀ D2 W1, so the manifold is stable below the
    critical fraction and unstable above it.

    Parameters
    ----------
    c
        Ratio M/N of inputs to hidden units, positive.
    layer
        Which layer's rule is flipped: "hidden" for the fraction αh of −1 in d1, "readout" for αr in d2.
    other
        The fraction of flipped units in the other layer.
    kappa
        Variance ratio σ2²/σ1².

    Returns
    -------
    alpha
        The critical fraction, shape (…), from 0 (already a few flipped units destabilise) to 1 (no number of them
        does).

    Raises
    ------
    ValueError
        If `c` or `kappa` is not positive, `other` lies outside [0, 1], `layer` is unknown, or shapes do not
        broadcast.

    References
    ----------
    H. Ninou, J. Kadmon, N. A. Cayco-Gajic, "Curl Descent", NeurIPS 2025, arXiv:2510.02765, Fig. 2.

    Examples
    --------
    >>> from curlflow.random_matrix import critical_alpha
    >>> critical_alpha([0.2, 0.309722, 0.7], layer="hidden").round(4)
    Array([1. , 0.5, 0. ], dtype=float64)
    >>> critical_alpha([0.1, 1.0], layer="readout").round(4)
    Array([0.2446, 0.0551], dtype=float64)
    """
    _checks.require_one_of("layer", layer, ("hidden", "readout"))
    c, kappa = positive_array("c", c), positive_array("kappa", kappa)
    other = fraction_array("other", other)
    require_broadcastable(("c", "other", "kappa"), (c, other, kappa))
    return _critical_alpha(c, other, kappa, layer == "hidden")


def stability_margin(
    c: ArrayLike, alpha_h: ArrayLike, alpha_r: ArrayLike, kappa: ArrayLike = 1.0
) -> jax.Array:
    r"""Smallest point of the limiting spectrum of X = κ D1 + W1ᵀ D2 W1, its atoms included.

    In units of σ1², and for C = I, it is the slowest rate at which a wide network returns to the solution
    manifold; where it is negative, minus the fastest rate at which it leaves. The manifold is stable where it is
    positive.

    Parameters
    ----------
    c, alpha_h, alpha_r, kappa
        As for `spectral_edges`.

    Returns
    -------
    margin
        Shape (…).

    Raises
    ------
    ValueError
        As for `spectral_edges`.

    References
    ----------
    H. Ninou, J. Kadmon, N. A. Cayco-Gajic, "Curl Descent", NeurIPS 2025, arXiv:2510.02765, Eq. 101.

    Examples
    --------
    >>> from curlflow.random_matrix import stability_margin
    >>> stability_margin(0.25, 0.0, 0.0)  # gradient flow: κ + (1 − √c)²/c
    Array(2., dtype=float64)
    """
    return _margin(*law_arguments(c, alpha_h, alpha_r, kappa))


def is_stable(c: ArrayLike, alpha_h: ArrayLike, alpha_r: ArrayLike, kappa: ArrayLike = 1.0) -> jax.Array:
    r"""Whether the solution manifold of a wide network is stable: whether X = κ D1 + W1ᵀ D2 W1 is positive definite.

    Parameters
    ----------
    c, alpha_h, alpha_r, kappa
        As for `spectral_edges`. A fraction of exactly 0 means that not a single unit is flipped.

    Returns
    -------
    Array
        Booleans, shape (…). On the boundary itself the answer is False, up to rounding.

    Raises
    ------
    ValueError
        As for `spectral_edges`.

    References
    ----------
    H. Ninou, J. Kadmon, N. A. Cayco-Gajic, "Curl Descent", NeurIPS 2025, arXiv:2510.02765, Fig. 2.

    Examples
    --------
    >>> from curlflow.random_matrix import is_stable
    >>> is_stable([0.2, 0.5], alpha_h=0.4, alpha_r=0.0)
    Array([ True, False], dtype=bool)
    """
    return stability_margin(c, alpha_h, alpha_r, kappa) > 0


_margin = jax.jit(jnp.vectorize(left_end, signature="(),(),(),()->()"))


@partial(jax.jit, static_argnames="in_hidden_layer")
def _critical_alpha(c: Array, other: Array, kappa: Array, in_hidden_layer: bool) -> Array:
    @partial(jnp.vectorize, signature="(),(),()->()")
    def one_ratio(c: Array, other: Array, kappa: Array) -> Array:
        def margin(alpha: Array) -> Array:
            fractions = (alpha, other) if in_hidden_layer else (other, alpha)
            return left_end(c, *fractions, kappa)

        few_do_harm = margin(jnp.asarray(SMALLEST_FRACTION)) <= 0
        all_do_no_harm = margin(jnp.ones(())) >= 0
        between = ~few_do_harm & ~all_do_no_harm
        root = falling_root(
            lambda alpha: jnp.where(between, margin(alpha), 0.5 - alpha), jnp.zeros(()), jnp.ones(())
        )
        return jnp.where(all_do_no_harm, 1.0, jnp.where(few_do_harm, 0.0, root))

    return one_ratio(c, other, kappa)


@partial(jax.jit, static_argnames=("some_hidden", "some_readout"))
def _window(
    alpha_h: Array, alpha_r: Array, kappa: Array, some_hidden: bool = False, some_readout: bool = False
) -> InstabilityWindow:
    """The window of unstable ratios; `some_…` reads a fraction of 0 as a finite number of flipped units."""

    @partial(jnp.vectorize, signature="(),(),()->(),()")
    def one_law(alpha_h: Array, alpha_r: Array, kappa: Array) -> tuple[Array, Array]:
        # At c = 1, what the map adds to z is ρ(z).
        unit = spectral_map(jnp.ones(()), alpha_h, alpha_r, kappa)
        wall = unit.walls()[0]
        end = jnp.minimum(wall, 0.0)
        end = jnp.where((alpha_h >= SMALLEST_FRACTION) | some_hidden, jnp.minimum(end, -kappa), end)
        if some_readout:
            end = jnp.minimum(end, readout_spike(alpha_h, kappa))
        # With wall > 0 the end is z = 0 (unless there are hidden flips), where z + ρ/c > 0 as soon as ρ > 0.
        past_zero = (end == 0) & (wall > 0)
        always_stable = past_zero & (unit.correction(end) > 0)
        lower = jnp.where(always_stable, jnp.inf, _lower_end(unit, wall, end, 1 - 2 * alpha_r))
        has_upper = past_zero & ~always_stable
        return lower, jnp.where(has_upper, _upper_end(unit, wall, has_upper), jnp.inf)

    return InstabilityWindow(*one_law(alpha_h, alpha_r, kappa))


def _lower_end(unit: SpectralMap, wall: Array, end: Array, remote: Array) -> Array:
    """The maximum of ρ(z)/(−z) over z ≤ end ≤ 0, where `remote` = ρ(−∞)."""
    positive = remote > 0
    safe_remote = jnp.where(positive, remote, 1.0)
    reach = (1 + jnp.sqrt(1 + safe_remote * jnp.abs(wall))) / safe_remote
    # The maximum lies at the end only if no wall stands there: a finite number of flipped units.
    at_end = (end < wall) & (_steepness(unit, end) > 0)
    inside = positive & ~at_end
    z = falling_root(
        lambda z: jnp.where(inside, _steepness(unit, z), wall - 1 - z),
        jnp.minimum(wall, end) - reach,
        jnp.where(inside, end, wall),
    )
    z = jnp.where(at_end, end, z)
    # Where ρ/(−z) is largest it equals −ρ′: better where z may tend to 0, worse where it may tend to a wall.
    away_from_zero = end < 0
    quotient = unit.correction(z) / jnp.where(away_from_zero, -z, 1.0)
    largest = jnp.where(away_from_zero, quotient, -unit.correction_slope(z))
    return jnp.where(positive, largest, 0.0)


def _upper_end(unit: SpectralMap, wall: Array, exists: Array) -> Array:
    """The minimum of −ρ(z)/z over 0 < z < wall, where ρ(0) ≤ 0; it equals −ρ′ there."""
    wall = jnp.where(exists, wall, 1.0)
    z = falling_root(lambda z: jnp.where(exists, -_steepness(unit, z), wall / 2 - z), jnp.zeros(()), wall)
    return -unit.correction_slope(z)


def _steepness(unit: SpectralMap, z: Array) -> Array:
    """ρ − z ρ′, which has the sign of the derivative of ρ/(−z); it falls for z < 0 and rises for z > 0."""
    return unit.correction(z) - z * unit.correction_slope(z)
