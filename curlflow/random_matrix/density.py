"""How the eigenvalues of X = κ D1 + W1ᵀ D2 W1 are distributed: density and cumulative distribution."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.random_matrix._arguments import law_arguments, require_broadcastable
from curlflow.random_matrix._law import SpectralMap, spectral_map
from curlflow.random_matrix._roots import bisect, implicit_root


def spectral_density(
    x: ArrayLike, c: ArrayLike, alpha_h: ArrayLike, alpha_r: ArrayLike, kappa: ArrayLike = 1.0
) -> jax.Array:
    r"""Limiting density of the eigenvalues of X = κ D1 + W1ᵀ D2 W1, without its atoms.

    The density is −Im G(z)/π, where z in the upper half-plane solves x(z) = x and G is the Cauchy transform of κ
    D1; x(z) is the map of `spectral_edges`. With z = u + iv, the density is positive where v is, and for each u
    that is where Σ_j residue_j/(u − pole_j)² > 1. It integrates to 1 minus the masses of `spectral_atoms`.

    Parameters
    ----------
    x
        Where, in units of σ1². Broadcasts with the other arguments.
    c, alpha_h, alpha_r, kappa
        As for `spectral_edges`.

    Returns
    -------
    density
        Shape (…), eigenvalues per unit of x, as a fraction of all. 0 outside the bands.

    Raises
    ------
    ValueError
        If `x` is not finite, or as for `spectral_edges`.

    References
    ----------
    D. Voiculescu, "Addition of certain non-commuting random variables", J. Functional
    Analysis 66, 323 (1986). P. Biane, "On the free convolution with a semi-circular distribution", Indiana Univ.
    Math. J. 46, 705 (1997). H. Ninou, J. Kadmon, N. A. Cayco-Gajic, "Curl Descent", NeurIPS 2025,
    arXiv:2510.02765, Eqs. 112–116.

    Examples
    --------
    Without flips it is the Marchenko–Pastur density, shifted by κ; at c = 1 that is √((4 − y)/y)/(2π) with y = x − κ:

    >>> from curlflow.random_matrix import spectral_density
    >>> (6.283185307179586 * spectral_density([2.0, 3.0, 5.5], 1.0, 0.0, 0.0)).round(6)
    Array([1.732051, 1.      , 0.      ], dtype=float64)
    """
    return _density(*_arguments(x, c, alpha_h, alpha_r, kappa))


def spectral_cdf(
    x: ArrayLike, c: ArrayLike, alpha_h: ArrayLike, alpha_r: ArrayLike, kappa: ArrayLike = 1.0
) -> jax.Array:
    r"""Limiting fraction of eigenvalues of X = κ D1 + W1ᵀ D2 W1 that are at most x, atoms included.

    The Cauchy transform of X has an elementary antiderivative along x(z) = z + R(G(z)), because ∫ w dz + ∫ w
    R′(w) dw is one. With z as in `spectral_density`, w = G(z), and every angle between 0 and π,

    .. math::

        \pi (1 - F) = (1-\alpha_h) \arg(z-\kappa) + \alpha_h \arg(z+\kappa) + \operatorname{Im} w R(w)
        + \tfrac{1-\alpha_r}{c} \arg(1-w) + \tfrac{\alpha_r}{c} \arg(1+w).

    In a gap z is real, so the fraction of eigenvalues below it is a rational combination of αh, αr/c and 1/c.

    Parameters
    ----------
    x
        Where, in units of σ1². Broadcasts with the other arguments.
    c, alpha_h, alpha_r, kappa
        As for `spectral_edges`.

    Returns
    -------
    fraction
        Shape (…), from 0 to 1, continuous from the right.

    Raises
    ------
    ValueError
        If `x` is not finite, or as for `spectral_edges`.

    References
    ----------
    As for `spectral_density`.

    Examples
    --------
    The fraction of unstable directions on the solution manifold; it tends to αh as c → ∞:

    >>> from curlflow.random_matrix import spectral_cdf
    >>> spectral_cdf(0.0, [0.2, 0.5, 1.0, 4.0], alpha_h=0.4, alpha_r=0.0).round(4)
    Array([0.    , 0.1054, 0.2851, 0.4   ], dtype=float64)
    """
    return _cdf(*_arguments(x, c, alpha_h, alpha_r, kappa))


def _arguments(x: ArrayLike, *parameters: ArrayLike) -> tuple[Array, ...]:
    points = _checks.float64_array("x", x)
    checked = law_arguments(*parameters)
    require_broadcastable(("x", "c", "alpha_h", "alpha_r", "kappa"), (points, *checked))
    return points, *checked


@jax.jit
@partial(jnp.vectorize, signature="(),(),(),(),()->()")
def _density(x: Array, c: Array, alpha_h: Array, alpha_r: Array, kappa: Array) -> Array:
    z = _upper_solution(x, spectral_map(c, alpha_h, alpha_r, kappa))
    in_band = z.imag > 0
    # Away from the bands z may coincide with ±κ.
    safe = jnp.where(in_band, z, 1j)
    density = z.imag * ((1 - alpha_h) / jnp.abs(safe - kappa) ** 2 + alpha_h / jnp.abs(safe + kappa) ** 2)
    return jnp.where(in_band, density / jnp.pi, 0.0)


@jax.jit
@partial(jnp.vectorize, signature="(),(),(),(),()->()")
def _cdf(x: Array, c: Array, alpha_h: Array, alpha_r: Array, kappa: Array) -> Array:
    law = spectral_map(c, alpha_h, alpha_r, kappa)
    z = _upper_solution(x, law)
    # On an atom z is ±κ up to rounding, which must not decide whether the atom counts.
    z = jnp.where((x == -kappa) & (c * alpha_h > 1), -kappa, z)
    z = jnp.where((x == kappa) & (c * (1 - alpha_h) > 1), kappa, z)
    s1, t1, s2, t2 = _angle(z - law.poles)
    at_minus_kappa, at_kappa = _angle(z + kappa), _angle(z - kappa)
    # 1 − w = (z−t1)(z−t2)/(z²−κ²) lies in the upper half-plane, 1 + w = (z−s1)(z−s2)/(z²−κ²) in the lower.
    one_minus_w = t1 + t2 - at_minus_kappa - at_kappa
    one_plus_w = s1 + s2 - at_minus_kappa - at_kappa
    above = (
        (1 - alpha_h) * at_kappa
        + alpha_h * at_minus_kappa
        + ((1 - alpha_r) * one_minus_w + alpha_r * one_plus_w) / c
        + _transform_product(z, law)
    )
    return jnp.clip(1 - above / jnp.pi, 0.0, 1.0)


def _transform_product(z: Array, law: SpectralMap) -> Array:
    """Im w R(w) at w = G(z): the poles where G = 1 count positive, those where G = −1 negative."""
    distances = jnp.abs(z - law.poles) ** 2
    safe = jnp.where(distances > 0, distances, 1)
    return -z.imag * jnp.sum(jnp.array([-1, 1, -1, 1]) * law.residues / safe)


def _upper_solution(x: Array, law: SpectralMap) -> Array:
    """The z in the closed upper half-plane with x(z) = x that the Cauchy transform of X is made of.

    Of the several real solutions in a gap it is the one with x′(z) > 0. As u runs over the real axis, so does x(u + iv(u)),
    without ever turning back; here v(u) is the height at which x becomes real, or 0 where the axis is in a gap.
    """
    radius = jnp.sqrt(law.total_residue)  # |x − z − shift| ≤ radius wherever Σ_j residue_j/|z − pole_j|² ≤ 1
    middle = x - law.shift

    def solve(_: Callable[[Array], Array]) -> Array:
        def excess(u: Array) -> Array:
            return x - law(lax.complex(u, _height(u, law))).real

        u = bisect(excess, middle - radius, middle + radius)
        return lax.complex(u, _height(u, law))

    return implicit_root(lambda z: law(z) - x, solve, like=lax.complex(middle, radius))


def _height(u: Array, law: SpectralMap) -> Array:
    """The v ≥ 0 with Σ_j residue_j/((u − pole_j)² + v²) = 1, or 0 if the sum stays below 1."""
    squares = (u - law.poles) ** 2

    def excess(height_squared: Array) -> Array:
        distances = squares + height_squared
        return jnp.sum(law.residues / jnp.where(distances > 0, distances, 1)) - 1

    in_band = jnp.any((squares == 0) & (law.residues > 0)) | (excess(jnp.zeros(())) > 0)
    return jnp.where(in_band, jnp.sqrt(bisect(excess, jnp.zeros(()), law.total_residue)), 0.0)


def _angle(z: Array) -> Array:
    """The argument of z in the closed upper half-plane, between 0 and π."""
    return jnp.arctan2(z.imag, z.real)
