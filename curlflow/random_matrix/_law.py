r"""The law of X = κ D1 + W1ᵀ D2 W1 for wide networks, in the form every other file here works with.

The spectrum of W1ᵀ D2 W1 has the R-transform R(w) = [(1−αr)/(1−w) − αr/(1+w)]/c, that of κ D1 the Cauchy
transform G(z) = (1−αh)/(z−κ) + αh/(z+κ), and the two matrices are free. So the Cauchy transform of X at x is
G(z), where z solves x = z + R(G(z)). Both 1/(1−G) and −1/(1+G) are Cauchy transforms of two positive point
masses, up to a constant, hence

    x(z) = z + shift + Σ_j residue_j / (z − pole_j),     at most four poles, all residues ≥ 0, Σ_j residue_j =
    1/c.

Edges, density and stability all follow from this one rational function.
"""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Inexact

# A fraction which stands for a finite number of units. Arithmetic with its square root and its square works;
# anything smaller counts as no unit at all.
SMALLEST_FRACTION = 1e-150


class SpectralMap(eqx.Module):
    """The map x(z) = z + shift + Σ_j residue_j/(z − pole_j), with the poles along the last axis.

    The slots hold the poles in the order in which they lie on the axis, −κ and κ being the atoms of κ D1:
    s1 ≤ −κ ≤ t1 < s2 ≤ κ ≤ t2, where G = −1 at the s and G = 1 at the t.
    """

    shift: Array
    poles: Array
    residues: Array

    def __call__(self, z: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """x(z)."""
        return z + self.correction(z)

    def correction(self, z: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """x(z) − z = R(G(z)), which falls wherever it is smooth."""
        return self.shift + jnp.sum(self.residues / self._distances(z), -1)

    def correction_slope(self, z: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """The derivative of x(z) − z."""
        return -jnp.sum(self.residues / self._distances(z) ** 2, -1)

    def slope(self, z: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """x′(z). Outside the spectrum it is positive: the gaps are the real z with x′(z) > 0."""
        return 1 + self.correction_slope(z)

    def curvature(self, z: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """x″(z), falling from +∞ to −∞ between two neighbouring poles."""
        return 2 * jnp.sum(self.residues / self._distances(z) ** 3, -1)

    def higher_derivative(self, z: Inexact[Array, "..."], order: int) -> Inexact[Array, "..."]:
        """The derivative of x(z) of the given order, at least two."""
        sign = (-1) ** order * math.factorial(order)
        return sign * jnp.sum(self.residues / self._distances(z) ** (order + 1), -1)

    @property
    def total_residue(self) -> Array:
        """Σ_j residue_j = 1/c."""
        return jnp.sum(self.residues, -1)

    def walls(self) -> Array:
        """The poles that z cannot pass, in ascending order; slots without residue are no walls and come last, at ∞."""
        return jnp.sort(jnp.where(self.residues > 0, self.poles, jnp.inf), -1)

    def _distances(self, z: Array) -> Array:
        # A slot without residue may sit exactly at z, where it contributes nothing: any distance will do.
        distances = z[..., None] - self.poles
        return jnp.where(distances == 0, 1, distances)


def spectral_map(c: Array, alpha_h: Array, alpha_r: Array, kappa: Array) -> SpectralMap:
    """The map x(z) = z + R(G(z)) of the law of X."""
    c, alpha_h, alpha_r, kappa = jnp.broadcast_arrays(c, alpha_h, alpha_r, kappa)
    t1, t2, m1, m2 = _poles_where_g_is_one(alpha_h, kappa)
    # G is odd under z → −z, αh → 1 − αh: where it is −1 follows from where it is 1.
    u1, u2, n1, n2 = _poles_where_g_is_one(1 - alpha_h, kappa)
    kept, flipped = (1 - alpha_r) / c, alpha_r / c
    return SpectralMap(
        shift=kept - flipped,
        poles=jnp.stack([-u2, t1, -u1, t2], -1),
        residues=jnp.stack([flipped * n2, kept * m1, flipped * n1, kept * m2], -1),
    )


def readout_spike(alpha_h: Array, kappa: Array) -> Array:
    """The z ≤ −κ (κ − 1 when αh = 0) where G(z) = −1: where a single flipped hidden unit acts. One law at a time."""
    one = jnp.ones(())
    return spectral_map(one, alpha_h, one, kappa).walls()[0]


def _poles_where_g_is_one(alpha_h: Array, kappa: Array) -> tuple[Array, Array, Array, Array]:
    """The poles t1 ≤ κ ≤ t2 of 1/(1 − G), the roots of z² − z − κ² − κ(1−2αh), and their residues m1 + m2 = 1.

    Each distance to ±κ is computed without cancellation, because a small fraction of flipped units puts a pole, with
    a small residue, close to −κ or κ.
    """
    above = _positive_root(2 * kappa - 1, 2 * kappa * (1 - alpha_h))  # t2 − κ
    below = _positive_root(1 - 2 * kappa, 2 * kappa * (1 - alpha_h))  # κ − t1
    t2 = kappa + above
    beyond = 2 * kappa * alpha_h / (t2 + kappa)  # t1 + κ
    t1 = beyond - kappa
    width = above + below
    # Both poles meet only at κ = 1/2, αh = 1, and then how they share the residue does not matter.
    apart = width > 0
    safe_width = jnp.where(apart, width, 1)
    m1 = jnp.where(apart, beyond * below / safe_width, 0)
    m2 = jnp.where(apart, above * (t2 + kappa) / safe_width, 1)
    return t1, t2, m1, m2


def _positive_root(linear: Array, constant: Array) -> Array:
    """The non-negative root of y² + linear·y − constant, constant ≥ 0, accurate however small it is."""
    discriminant = linear**2 + 4 * constant
    root = jnp.where(discriminant > 0, jnp.sqrt(jnp.where(discriminant > 0, discriminant, 1)), 0)
    denominator = root + jnp.abs(linear)
    return jnp.where(
        linear > 0, 2 * constant / jnp.where(denominator > 0, denominator, 1), (root - linear) / 2
    )
