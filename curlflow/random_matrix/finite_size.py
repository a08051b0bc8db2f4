"""How far a network of finite size strays from the law of infinitely wide ones."""

from functools import partial

import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow._results import in_words, pytree_result
from curlflow.random_matrix._arguments import (
    along_axes,
    law_arguments,
    positive_array,
    require_broadcastable,
)
from curlflow.random_matrix._law import spectral_map
from curlflow.random_matrix.edges import left_critical_point, left_end

# Mean and variance of the Tracy–Widom law of real symmetric matrices (β = 1).
TRACY_WIDOM_MEAN = -1.2065335745820
TRACY_WIDOM_VARIANCE = 1.6077810345810


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

    def to_xarray(self) -> xr.Dataset:
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
    L of its law. The squared norm ‖W2‖² has standard deviation κ √((k−1)/N), k the kurtosis of the weights; it
    moves the edge by ∂L/∂κ times as much. And the edge eigenvalue itself follows a Tracy–Widom law of width
    M^(−2/3),

    .. math::

        \lambda_{\min} \approx L + \frac{\partial L}{\partial\kappa}\, \bigl(\|W_2\|^2 - \kappa\bigr)
        - \gamma M^{-2/3}\, \mathrm{TW}_1, \qquad
        \gamma^{-3/2} = |G'(z_*)| \sqrt{2 / |x''(z_*)|},

    with z* the critical point of x(z) at the edge (see `spectral_edges`). The first dominates in wide networks,
    but its lead grows only as M^(1/6). Both vanish as the network grows: the transition at the boundary sharpens
    as N^(−1/2). Terms of order 1/M are left out.

    Parameters
    ----------
    N, M
        Numbers of hidden units and inputs.
    alpha_h, alpha_r, kappa
        As for `spectral_edges`. A fraction of 0 means that no unit is flipped; a few flipped units, whose outlier
        is not a bulk edge, are outside this approximation.
    kurtosis
        E[w⁴]/E[w²]² of the entries of W2: 3 for Gaussian, 9/5 for uniform weights.

    Returns
    -------
    FiniteSizeMargin
        Mean and standard deviation, each of shape (…).

    Raises
    ------
    ValueError
        If a size, `kappa` or `kurtosis` is not positive, a fraction lies outside [0, 1], or shapes do not
        broadcast.

    References
    ----------
    C. A. Tracy, H. Widom, "On orthogonal and symplectic matrix ensembles", Comm. Math. Phys. 177, 727 (1996).

    Examples
    --------
    >>> from curlflow.random_matrix import finite_size_margin
    >>> margin = finite_size_margin(N=400, M=100, alpha_h=0.2, alpha_r=0.0)
    >>> print(f"{margin.mean:.3f} ± {margin.standard_deviation:.3f}")
    0.911 ± 0.090
    """
    N, M, kurtosis = positive_array("N", N), positive_array("M", M), positive_array("kurtosis", kurtosis)
    require_broadcastable(("N", "M"), (N, M))
    _, alpha_h, alpha_r, kappa = law_arguments(1.0, alpha_h, alpha_r, kappa)
    require_broadcastable(
        ("N", "M", "alpha_h", "alpha_r", "kappa", "kurtosis"), (N, M, alpha_h, alpha_r, kappa, kurtosis)
    )
    return FiniteSizeMargin(*_finite_size_margin(N, M, alpha_h, alpha_r, kappa, kurtosis))


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

    The smallest eigenvalue of X is taken as normally distributed, with the mean and spread of
    `finite_size_margin`. As functions of mean over spread, the probabilities of all sizes fall on one curve.

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
    Array([0.763, 1.   ], dtype=float64)
    """
    margin = finite_size_margin(N, M, alpha_h, alpha_r, kappa, kurtosis=kurtosis)
    return jax.scipy.stats.norm.cdf(-margin.mean / margin.standard_deviation)


@jax.jit
@partial(jnp.vectorize, signature="(),(),(),(),(),()->(),()")
def _finite_size_margin(
    N: Array, M: Array, alpha_h: Array, alpha_r: Array, kappa: Array, kurtosis: Array
) -> tuple[Array, Array]:
    def edge(kappa: Array) -> Array:
        return left_end(M / N, alpha_h, alpha_r, kappa)

    limit, sensitivity = jax.value_and_grad(edge)(kappa)
    width = _edge_width(M / N, alpha_h, alpha_r, kappa) * M ** (-2 / 3)
    norm_variance = kappa**2 * (kurtosis - 1) / N
    variance = sensitivity**2 * norm_variance + TRACY_WIDOM_VARIANCE * width**2
    return limit - TRACY_WIDOM_MEAN * width, jnp.sqrt(variance)


def _edge_width(c: Array, alpha_h: Array, alpha_r: Array, kappa: Array) -> Array:
    """γ, which the density beside the left edge L defines: it is √(x − L)/(π γ^(3/2))."""
    x = spectral_map(c, alpha_h, alpha_r, kappa)
    z = left_critical_point(x)
    slope = (1 - alpha_h) / (z - kappa) ** 2 + alpha_h / (z + kappa) ** 2  # −G′(z)
    return (jnp.abs(x.curvature(z)) / (2 * slope**2)) ** (1 / 3)
