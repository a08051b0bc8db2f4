"""How far a network of finite size strays from the law of infinitely wide ones."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow._later import xr
from curlflow._results import in_words, pytree_result
from curlflow.random_matrix._arguments import (
    along_axes,
    at_least_one_array,
    law_arguments,
    positive_array,
    require_broadcastable,
)
from curlflow.random_matrix._law import SpectralMap, spectral_map
from curlflow.random_matrix.edges import left_critical_point, left_end

# The Tracy–Widom law of real symmetric matrices (β = 1) by its mean, variance and skewness. A shifted gamma law with the same
# three differs from it by less than 0.001 everywhere.
TRACY_WIDOM_MEAN = -1.2065335745820
TRACY_WIDOM_VARIANCE = 1.6077810345810
TRACY_WIDOM_SKEWNESS = 0.2934645240800
GAMMA_SHAPE = 4 / TRACY_WIDOM_SKEWNESS**2
GAMMA_SCALE = np.sqrt(TRACY_WIDOM_VARIANCE) * TRACY_WIDOM_SKEWNESS / 2
GAMMA_SHIFT = GAMMA_SHAPE * GAMMA_SCALE - TRACY_WIDOM_MEAN
# Where both fluctuations are averaged over: the norm's, as a normal variable, and the edge's.
NORM_NODES = np.linspace(-6, 6, 49)
NORM_WEIGHTS = np.exp(-(NORM_NODES**2) / 2) / np.exp(-(NORM_NODES**2) / 2).sum()
EDGE_NODES, EDGE_WEIGHTS = scipy.special.roots_genlaguerre(12, GAMMA_SHAPE - 1)
EDGE_NODES, EDGE_WEIGHTS = GAMMA_SCALE * EDGE_NODES - GAMMA_SHIFT, EDGE_WEIGHTS / EDGE_WEIGHTS.sum()
# The norm stays above this part of its mean, far below where weights of two units would take it.
SMALLEST_NORM = 0.05


@pytree_result
class FiniteSizeMargin:
    """The smallest eigenvalue of X over random networks of one size.

    Attributes
    ----------
    mean, standard_deviation
        In units of σ1², shape (…).
    """

    mean: Float[Array, "*laws"]
    standard_deviation: Float[Array, "*laws"]

    def to_xarray(self) -> "xr.Dataset":
        """Both along the axes of the arguments, `axis0`, `axis1`, …."""
        return xr.Dataset(
            {"mean": along_axes(self.mean), "standard_deviation": along_axes(self.standard_deviation)}
        )

    def __str__(self) -> str:
        return f"FiniteSizeMargin: {in_words(self.mean)} ± {in_words(self.standard_deviation)}"


def finite_size_margin(
    N: ArrayLike,
    M: ArrayLike,
    alpha_h: ArrayLike,
    alpha_r: ArrayLike,
    kappa: ArrayLike = 1.0,
    *,
    kurtosis: ArrayLike = 3.0,
) -> FiniteSizeMargin:
    r"""Mean and spread of the stability margin of networks with N hidden units, M inputs and one output.

    Two things move the smallest eigenvalue of X = ‖W2‖² D1 + W1ᵀ D2 W1 (in units of σ1²) away from the left edge
    L of its law. The squared norm ‖W2‖² has mean κ and standard deviation κ √((k−1)/N), k the kurtosis of the weights;
    L moves with it. And at a given norm the edge eigenvalue itself fluctuates with a Tracy–Widom law of width M^(−2/3),

    .. math::

        \lambda_{\min} \approx L + \frac{x^{(3)}}{6\, |G'|\, x'' M} - u + \eta u^2, \qquad
        u = \gamma M^{-2/3}\, \mathrm{TW}_1, \qquad \gamma^{-3/2} = |G'| \sqrt{2 / |x''|},

    everything at the critical point z* of x(z) at the edge (see `spectral_edges`). The second term is the shift that the
    entries' being real makes: of Wishart matrices half a unit in N and in M. The last, η, accounts for a density that is not
    exactly a square root beside the edge: so that, to its next order, as many eigenvalues lie below λ as in the Airy process
    lie beyond u. Without flips in the readout layer λ + ‖W2‖² is positive, and its logarithm is expanded in this way.

    The norm dominates in wide networks, but its lead grows only as M^(1/6). Both fluctuations vanish as the network
    grows: the transition at the boundary sharpens as N^(−1/2).

    Parameters
    ----------
    N, M
        Numbers of hidden units and inputs.
    alpha_h, alpha_r, kappa
        As for `spectral_edges`. Units are whole: ⌊αh M⌋ inputs and ⌊αr N⌋ hidden units are flipped, as by
        `ensembles.sign_pattern`.
    kurtosis
        E[w⁴]/E[w²]² of the entries of W2, at least 1: 3 for Gaussian, 9/5 for uniform weights.

    Returns
    -------
    FiniteSizeMargin
        Mean and standard deviation, each of shape (…).

    Raises
    ------
    ValueError
        If a size or `kappa` is not positive, `kurtosis` is less than 1, a fraction lies outside [0, 1], or shapes do not
        broadcast.

    References
    ----------
    C. A. Tracy, H. Widom, "On orthogonal and symplectic matrix ensembles", Comm. Math. Phys. 177, 727 (1996).
    I. M. Johnstone, Z. Ma, "Fast approach to the Tracy–Widom law at the edge of GOE and GUE", Ann. Appl. Probab. 22, 1962
    (2012), for the shift and why the logarithm does better.
    M. Chiani, "Distribution of the largest eigenvalue for real Wishart and Gaussian random matrices and a simple
    approximation for the Tracy–Widom distribution", J. Multivar. Anal. 129, 69 (2014).

    Examples
    --------
    >>> from curlflow.random_matrix import finite_size_margin
    >>> margin = finite_size_margin(N=400, M=100, alpha_h=0.2, alpha_r=0.0)
    >>> print(f"{margin.mean:.3f} ± {margin.standard_deviation:.3f}")
    0.923 ± 0.092
    """
    return FiniteSizeMargin(*_mean_and_spread(*_network(N, M, alpha_h, alpha_r, kappa, kurtosis)))


def instability_probability(
    N: ArrayLike,
    M: ArrayLike,
    alpha_h: ArrayLike,
    alpha_r: ArrayLike,
    kappa: ArrayLike = 1.0,
    *,
    kurtosis: ArrayLike = 3.0,
) -> jax.Array:
    """Probability that the solution manifold of a random network of finite size is unstable at the teacher's weights.

    The probability that the smallest eigenvalue of X, with the two fluctuations of `finite_size_margin`, is not positive; 0
    where no unit is flipped, because X is positive definite then.

    Compared with samples it is off by less than 0.03 if one layer has flips, however few, in networks of ten or more hidden
    units and inputs; if both have, in networks of a hundred or more hidden units. In smaller ones it is off by up to 0.06:
    then sample (`manifold.sample_stability`).

    Parameters
    ----------
    N, M, alpha_h, alpha_r, kappa, kurtosis
        As for `finite_size_margin`.

    Returns
    -------
    probability
        Shape (…). It does not depend on the input covariance.

    Raises
    ------
    ValueError
        As for `finite_size_margin`.

    References
    ----------
    As for `finite_size_margin`.

    Examples
    --------
    >>> from curlflow.random_matrix import instability_probability
    >>> instability_probability(N=[100, 1000], M=[45, 450], alpha_h=0.2, alpha_r=0.0).round(3)
    Array([0.704, 1.   ], dtype=float64)
    """
    return _instability_probability(*_network(N, M, alpha_h, alpha_r, kappa, kurtosis))


def _network(
    N: ArrayLike, M: ArrayLike, alpha_h: ArrayLike, alpha_r: ArrayLike, kappa: ArrayLike, kurtosis: ArrayLike
) -> tuple[Array, ...]:
    """The checked arguments."""
    N, M, kurtosis = positive_array("N", N), positive_array("M", M), at_least_one_array("kurtosis", kurtosis)
    require_broadcastable(("N", "M"), (N, M))
    _, alpha_h, alpha_r, kappa = law_arguments(1.0, alpha_h, alpha_r, kappa)
    require_broadcastable(
        ("N", "M", "alpha_h", "alpha_r", "kappa", "kurtosis"), (N, M, alpha_h, alpha_r, kappa, kurtosis)
    )
    return N, M, _whole_units(alpha_h, M), _whole_units(alpha_r, N), kappa, kurtosis


def _whole_units(fraction: Array, units: Array) -> Array:
    """The fraction of units that are flipped, rounded down as `ensembles.sign_pattern` does."""
    return jnp.floor(fraction * units * (1 + 1e-12)) / units


@jax.jit
@partial(jnp.vectorize, signature="(),(),(),(),(),()->(),()")
def _mean_and_spread(
    N: Array, M: Array, alpha_h: Array, alpha_r: Array, kappa: Array, kurtosis: Array
) -> tuple[Array, Array]:
    norms = _norms(N, kappa, kurtosis)
    margins = jax.vmap(lambda norm: _Edge.at(N, M, alpha_h, alpha_r, norm).margin(EDGE_NODES))(norms)
    mean = NORM_WEIGHTS @ margins @ EDGE_WEIGHTS
    return mean, jnp.sqrt(NORM_WEIGHTS @ (margins - mean) ** 2 @ EDGE_WEIGHTS)


@jax.jit
@partial(jnp.vectorize, signature="(),(),(),(),(),()->()")
def _instability_probability(
    N: Array, M: Array, alpha_h: Array, alpha_r: Array, kappa: Array, kurtosis: Array
) -> Array:
    norms = _norms(N, kappa, kurtosis)
    probability = jax.vmap(lambda norm: _Edge.at(N, M, alpha_h, alpha_r, norm).probability_below_zero())(
        norms
    )
    return jnp.where(alpha_h + alpha_r > 0, jnp.minimum(NORM_WEIGHTS @ probability, 1), 0.0)


def _norms(N: Array, kappa: Array, kurtosis: Array) -> Array:
    """‖W2‖² at the nodes: a gamma law of its mean and variance, exact for Gaussian weights, as the cube of a normal law."""
    variance = (kurtosis - 1) / N
    cube_root = 1 - variance / 9 + jnp.sqrt(variance) / 3 * NORM_NODES
    return kappa * jnp.maximum(cube_root, SMALLEST_NORM ** (1 / 3)) ** 3


class _Edge(NamedTuple):
    """The smallest eigenvalue at one ‖W2‖²: level − q + bend q² with q = width · TW, or ‖W2‖² (exp of that − 1)."""

    level: Array
    width: Array
    bend: Array
    norm: Array
    is_logarithmic: Array
    is_atom: Array

    @classmethod
    def at(cls, N: Array, M: Array, alpha_h: Array, alpha_r: Array, norm: Array) -> "_Edge":
        x = spectral_map(M / N, alpha_h, alpha_r, norm)
        z = left_critical_point(x)
        limit = left_end(M / N, alpha_h, alpha_r, norm)
        curvature, third = x.curvature(z), x.higher_derivative(z, 3)
        slope = _moment(z, alpha_h, norm, 2)  # −G′
        shift = third / (6 * curvature * slope * M)
        width = (jnp.abs(curvature) / (2 * slope**2)) ** (1 / 3) * M ** (-2 / 3)
        bend = _bend(x, z, alpha_h, norm)
        # More flipped inputs than hidden units: some of them get nothing from W1, and the eigenvalue is −‖W2‖² itself.
        is_atom = (alpha_h > 0) & (z > -norm)
        is_logarithmic = (alpha_r == 0) & ~is_atom
        height = jnp.where(is_logarithmic, limit + norm, 1.0)
        level = jnp.where(is_logarithmic, jnp.log(height / norm), limit) + shift / height
        bend = bend * height - jnp.where(is_logarithmic, 0.5, 0.0)
        return cls(level, width / height, bend, norm, is_logarithmic, is_atom)

    def margin(self, tracy_widom: np.ndarray) -> Array:
        """The eigenvalue at values of the Tracy–Widom variable."""
        q = self.width * tracy_widom
        value = self.level - q + self.bend * q**2
        value = jnp.where(
            self.is_logarithmic, self.norm * jnp.expm1(jnp.where(self.is_logarithmic, value, 0)), value
        )
        return jnp.where(self.is_atom, -self.norm, value)

    def probability_below_zero(self) -> Array:
        """The probability of TW > q/width at the q at which the eigenvalue crosses zero."""
        root = jnp.sqrt(jnp.maximum(1 - 4 * self.bend * self.level, 0))
        crossing = 2 * self.level / (1 + root) / self.width
        beyond = jax.scipy.special.gammaincc(
            GAMMA_SHAPE, jnp.maximum(crossing + GAMMA_SHIFT, 0) / GAMMA_SCALE
        )
        return jnp.where(self.is_atom, 1.0, beyond)


def _bend(x: SpectralMap, z: Array, alpha_h: Array, norm: Array) -> Array:
    """η, from the next order of the density at the edge: ρ ∝ √y (1 + r y), y = 2 (x − L)/x″ < 0 inside.

    With z − z* = √y + p y + q y^(3/2), and G expanded in it, r is the ratio of the two odd powers of √y.
    """
    curvature = x.curvature(z)
    p = -x.higher_derivative(z, 3) / (6 * curvature)
    q = 5 * p**2 / 2 - x.higher_derivative(z, 4) / (24 * curvature)
    second, third, fourth = (_moment(z, alpha_h, norm, order) for order in (2, 3, 4))
    r = q + (fourth - 2 * p * third) / second
    return 4 * r / (5 * jnp.abs(curvature))


def _moment(z: Array, alpha_h: Array, norm: Array, order: int) -> Array:
    """The mean of 1/(z − d ‖W2‖²)^order over the signs d."""
    return (1 - alpha_h) / (z - norm) ** order + alpha_h / (z + norm) ** order
