"""Where the spectrum of X = κ D1 + W1ᵀ D2 W1 lies: the edges of its bands, its atoms, its outliers."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import in_words, pytree_result
from curlflow.random_matrix._arguments import along_axes, law_arguments, not_exactly_one
from curlflow.random_matrix._law import SMALLEST_FRACTION, SpectralMap, readout_spike, spectral_map
from curlflow.random_matrix._roots import falling_root


@pytree_result
class Atoms:
    """The eigenvalues of X that a finite fraction of eigenvectors share.

    Attributes
    ----------
    positions
        −κ and κ, shape (…, 2).
    masses
        The fraction of eigenvalues at each, shape (…, 2); 0 where there is no atom.
    """

    positions: Float[Array, "*laws 2"]
    masses: Float[Array, "*laws 2"]

    def to_xarray(self) -> "xr.Dataset":
        """Positions and masses along `atom`, after the axes of the arguments, `axis0`, `axis1`, …."""
        return xr.Dataset(
            {"position": along_axes(self.positions, "atom"), "mass": along_axes(self.masses, "atom")}
        )

    def __str__(self) -> str:
        return f"Atoms: masses {in_words(self.masses)} at {in_words(self.positions)}"


@pytree_result
class Outlier:
    """The smallest eigenvalue of X when a finite number of units is flipped besides the fractions of the law.

    Attributes
    ----------
    position
        Where the smallest eigenvalue sits, shape (…).
    detached
        Whether it has left the bulk, shape (…); otherwise `position` is the left end of the spectrum.
    """

    position: Float[Array, "*laws"]
    detached: Bool[Array, "*laws"]

    def to_xarray(self) -> "xr.Dataset":
        """Both along the axes of the arguments, `axis0`, `axis1`, …."""
        return xr.Dataset({"position": along_axes(self.position), "detached": along_axes(self.detached)})

    def __str__(self) -> str:
        return f"Outlier: smallest eigenvalue {in_words(self.position)}; detached from the bulk: {in_words(self.detached)}"


def spectral_edges(c: ArrayLike, alpha_h: ArrayLike, alpha_r: ArrayLike, kappa: ArrayLike = 1.0) -> jax.Array:
    r"""Edges of the bands of the limiting spectrum of X = κ D1 + W1ᵀ D2 W1, in ascending order.

    The transverse eigenvalues on the solution manifold of a wide network are those of −X (in units of σ1²). X is
    a sum of free matrices, and its Cauchy transform at x is G(z), the transform of κ D1, where z solves x = z +
    R(G(z)) with R the R-transform of W1ᵀ D2 W1,

    .. math::

        G(z) = \frac{1-\alpha_h}{z-\kappa} + \frac{\alpha_h}{z+\kappa}, \qquad
        R(w) = \frac1c \left[ \frac{1-\alpha_r}{1-w} - \frac{\alpha_r}{1+w} \right].

    Here x(z) = z + R(G(z)) is rational with at most four real poles of positive residue. The edges are its
    critical values: one critical point beyond each of the outermost poles, and two or none between neighbouring
    ones. This makes at most four bands. Atoms (see `spectral_atoms`) are not bands and have no edges.

    Parameters
    ----------
    c
        Ratio M/N of inputs to hidden units, positive.
    alpha_h
        Fraction of −1 among the signs d1 of the hidden layer's rule, between 0 and 1.
    alpha_r
        Fraction of −1 among the signs d2 of the readout layer's rule, between 0 and 1.
    kappa
        Variance ratio σ2²/σ1², where W1 has entries of variance σ1²/M and W2 of variance σ2²/N.

    Returns
    -------
    edges
        For numbers, shape (2b,) where b is the number of bands: [left, right] of the first band, then of the
        next. For arrays, or inside a JAX transformation, shape (…, 8): bands which do not exist have width zero
        and sit at the last edge. So ``edges[..., 0]`` and ``edges[..., -1]`` are the two ends of the bulk in
        every case.

    Raises
    ------
    ValueError
        If `c` or `kappa` is not positive, a fraction lies outside [0, 1], or shapes do not broadcast.

    References
    ----------
    H. Ninou, J. Kadmon, N. A. Cayco-Gajic, "Curl Descent", NeurIPS 2025, arXiv:2510.02765,
    Eqs. 112–125 (hidden flips only). J. W. Silverstein, S.-I. Choi, "Analysis of the limiting spectral
    distribution of large dimensional random matrices", J. Multivariate Analysis 54, 295 (1995). P. Biane, "On the
    free convolution with a semi-circular distribution", Indiana Univ. Math. J. 46, 705 (1997).

    Examples
    --------
    Without flips it is the Marchenko–Pastur law, shifted by κ:

    >>> from curlflow.random_matrix import spectral_edges
    >>> spectral_edges(0.25, 0.0, 0.0)
    Array([ 2., 10.], dtype=float64)

    Flips in both layers split it:

    >>> spectral_edges(3.0, 0.3, 0.2).round(4)
    Array([-1.7355, -1.0239, -0.999 , -0.2668,  0.1912,  0.8217,  1.0986,
            2.9762], dtype=float64)
    """
    arguments = law_arguments(c, alpha_h, alpha_r, kappa)
    edges, has_gap = _edges(*arguments)
    if edges.ndim > 1 or any(_checks.is_traced(argument) for argument in arguments):
        return edges
    return edges[: 2 + 2 * int(has_gap.sum())]


def spectral_atoms(c: ArrayLike, alpha_h: ArrayLike, alpha_r: ArrayLike, kappa: ArrayLike = 1.0) -> Atoms:
    r"""Eigenvalues of X = κ D1 + W1ᵀ D2 W1 that carry a finite fraction of the limiting spectrum.

    When c = M/N > 1 the kernel of W1 has dimension M − N. It meets the eigenspace of κ D1 at ±κ, of dimension
    (1−αh) M or αh M, as soon as the dimensions add up to more than M. Hence the masses

    .. math:: \max(0,\; \alpha_h - 1/c) \text{ at } -\kappa, \qquad \max(0,\; 1 - \alpha_h - 1/c) \text{ at } +\kappa.

    Parameters
    ----------
    c, alpha_h, alpha_r, kappa
        As for `spectral_edges`. The atoms do not depend on `alpha_r`.

    Returns
    -------
    Atoms
        Positions and masses, each of shape (…, 2), the atom at −κ first.

    Raises
    ------
    ValueError
        As for `spectral_edges`.

    References
    ----------
    H. Bercovici, D. Voiculescu, "Regularity questions for free convolution", Operator
    Theory: Advances and Applications 104, 37 (1998): an atom of a free sum needs atoms of the summands with
    masses adding up to more than 1.

    Examples
    --------
    >>> from curlflow.random_matrix import spectral_atoms
    >>> spectral_atoms(2.0, 0.0, 0.0).masses
    Array([0. , 0.5], dtype=float64)
    """
    c, alpha_h, alpha_r, kappa = jnp.broadcast_arrays(*law_arguments(c, alpha_h, alpha_r, kappa))
    positions = jnp.stack([-kappa, kappa], -1)
    return Atoms(positions, jnp.maximum(0, jnp.stack([alpha_h, 1 - alpha_h], -1) - 1 / c[..., None]))


def lowest_outlier(
    c: ArrayLike,
    *,
    alpha_h: ArrayLike | None = None,
    alpha_r: ArrayLike | None = None,
    kappa: ArrayLike = 1.0,
) -> Outlier:
    r"""Smallest eigenvalue of X when a finite number of units of one layer is flipped (Baik–Ben Arous–Péché).

    A fraction of flipped units shapes the bulk of the spectrum; a finite number of them, in a wide network,
    cannot. Each flipped unit instead pulls one eigenvalue towards lower values, and out of the bulk when its pull
    is strong enough:

    * a flipped input adds −2κ e eᵀ to X, and the outlier sits at x(−κ);
    * a flipped hidden unit subtracts 2 u uᵀ from X, u its row of W1, and the outlier sits at x(z) with G(z) = −1,
      z < −κ (z = κ − 1 when αh = 0).

    Here x(z) and G are those of `spectral_edges` without the flipped units. The eigenvalue is detached if x′ > 0
    there. The solution manifold is unstable when it is negative; the ratio c at which this happens is
    `stability_boundary` at fraction 0.

    Parameters
    ----------
    c
        Ratio M/N of inputs to hidden units, positive.
    alpha_h
        Fraction of flipped signs in d1. Giving it means that the finite number is flipped in d2.
    alpha_r
        Fraction of flipped signs in d2. Giving it means that the finite number is flipped in d1.
    kappa
        Variance ratio σ2²/σ1².

    Returns
    -------
    Outlier
        The position, and whether it is detached from the bulk, each of shape (…).

    Raises
    ------
    ValueError
        If both or neither of `alpha_h` and `alpha_r` are given, or as for `spectral_edges`.

    References
    ----------
    J. Baik, G. Ben Arous, S. Péché, "Phase transition of the largest eigenvalue for nonnull
    complex sample covariance matrices", Annals of Probability 33, 1643 (2005). S. T. Belinschi, H. Bercovici, M.
    Capitaine, M. Février, "Outliers in the spectrum of large deformed unitarily invariant models", Annals of
    Probability 45, 3571 (2017).

    Examples
    --------
    A few flipped inputs destabilise the solution manifold from c = 2/3 on; below c = 1/9 they do not even show:

    >>> from curlflow.random_matrix import lowest_outlier
    >>> lowest_outlier([0.1, 0.5, 2 / 3], alpha_r=0.0).position.round(6)
    Array([5.675445, 0.333333, 0.      ], dtype=float64)
    >>> lowest_outlier([0.1, 0.5, 2 / 3], alpha_r=0.0).detached
    Array([False,  True,  True], dtype=bool)
    """
    if alpha_r is not None and alpha_h is None:
        return _lowest_outlier(*law_arguments(c, 0.0, alpha_r, kappa), flips_in_d1=True)
    if alpha_h is not None and alpha_r is None:
        return _lowest_outlier(*law_arguments(c, alpha_h, 0.0, kappa), flips_in_d1=False)
    raise not_exactly_one("alpha_h", "alpha_r", given=alpha_h is not None)


def left_critical_point(x: SpectralMap) -> Array:
    """Where x(z), rising from −∞, turns: x there is the left edge of the bulk. One law at a time."""
    wall = x.walls()[0]
    return falling_root(x.slope, wall - jnp.sqrt(x.total_residue), wall)


def left_end(c: Array, alpha_h: Array, alpha_r: Array, kappa: Array) -> Array:
    """The smallest point of the spectrum, atoms included. One law at a time."""
    x = spectral_map(c, alpha_h, alpha_r, kappa)
    # x(±κ) = ±κ: beyond the smallest eigenvalue of κ D1, the critical point belongs to a band to the right of an atom.
    return x(jnp.minimum(left_critical_point(x), jnp.where(alpha_h >= SMALLEST_FRACTION, -kappa, kappa)))


def _right_critical_point(x: SpectralMap) -> Array:
    wall = jnp.max(jnp.where(x.residues > 0, x.poles, -jnp.inf))
    return falling_root(lambda z: -x.slope(z), wall, wall + jnp.sqrt(x.total_residue))


def _gaps(x: SpectralMap) -> tuple[Array, Array, Array]:
    """Critical points on both sides of the gap between neighbouring walls, and whether there is a gap, each (3,)."""
    walls = x.walls()
    has_walls = jnp.isfinite(walls[1:])
    left, right = jnp.where(has_walls, walls[:-1], 0.0), jnp.where(has_walls, walls[1:], 1.0)
    # Between two walls x′ rises from −∞ and falls back to −∞. There is a gap where its maximum is positive.
    top = falling_root(x.curvature, left, right)
    has_gap = has_walls & (x.slope(top) > 0)
    lower = falling_root(lambda z: jnp.where(has_gap, -x.slope(z), top - z), left, top)
    upper = falling_root(lambda z: jnp.where(has_gap, x.slope(z), top - z), top, right)
    return lower, upper, has_gap


@jax.jit
@partial(jnp.vectorize, signature="(),(),(),()->(8),(3)")
def _edges(c: Array, alpha_h: Array, alpha_r: Array, kappa: Array) -> tuple[Array, Array]:
    """All eight edges, absent bands collapsed to the last edge, and which of the three gaps exist."""
    x = spectral_map(c, alpha_h, alpha_r, kappa)
    left, right = x(left_critical_point(x)), x(_right_critical_point(x))
    lower, upper, has_gap = _gaps(x)
    inner = jnp.where(has_gap, jnp.stack([x(lower), x(upper)]), right)
    return jnp.sort(jnp.concatenate([left[None], inner.ravel(), right[None]])), has_gap


@partial(jax.jit, static_argnames="flips_in_d1")
def _lowest_outlier(c: Array, alpha_h: Array, alpha_r: Array, kappa: Array, flips_in_d1: bool) -> Outlier:
    @partial(jnp.vectorize, signature="(),(),(),()->(),()")
    def one_law(c: Array, alpha_h: Array, alpha_r: Array, kappa: Array) -> tuple[Array, Array]:
        x = spectral_map(c, alpha_h, alpha_r, kappa)
        spike = -kappa if flips_in_d1 else readout_spike(alpha_h, kappa)
        edge = left_critical_point(x)
        end = left_end(c, alpha_h, alpha_r, kappa)
        detached = spike < edge
        return jnp.where(detached, x(spike), end), detached

    return Outlier(*one_law(c, alpha_h, alpha_r, kappa))
