"""Systems whose exponents are known, as plain vector fields f(t, y, args) and maps with step(n, y, args)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

GOLDEN = (3 + 5**0.5) / 2


def lorenz(t, y, args):
    """Lorenz 1963 at σ, ρ, β = 10, 28, 8/3: divergence −41/3 everywhere."""
    x, y, z = y
    return jnp.stack([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8 / 3 * z])


def rossler(t, y, args):
    """Rössler 1976 at a, b, c = 0.2, 0.2, 5.7."""
    x, y, z = y
    return jnp.stack([-y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)])


def lorenz96(t, x, args):
    """Lorenz 1996 with forcing 8: divergence −N everywhere."""
    return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + 8.0


def henon_heiles(t, y, args):
    """Hénon–Heiles 1964, on (q, p) = y: Hamiltonian, hence ± pairs of exponents."""
    (q1, q2), p = y["q"], y["p"]
    return {"q": p, "p": jnp.stack([-q1 - 2 * q1 * q2, -q2 - q1**2 + q2**2])}


def henon_heiles_energy(y):
    """The energy; orbits stay bounded below 1/6."""
    (q1, q2), p = y["q"], y["p"]
    return jnp.vdot(p, p) / 2 + (q1**2 + q2**2) / 2 + q1**2 * q2 - q2**3 / 3


def van_der_pol(t, y, mu):
    """The van der Pol oscillator: a limit cycle for mu > 0."""
    x, v = y
    return jnp.stack([v, mu * (1 - x**2) * v - x])


class Linear(eqx.Module):
    """ẏ = A y: the exponents are the real parts of A's eigenvalues."""

    A: Float[Array, "n n"]

    def __call__(self, t, y, args=None):
        return self.A @ y


class Henon(eqx.Module):
    """The Hénon map at 1.4, 0.3: |det| = 0.3 everywhere."""

    def step(self, n, y, args=None):
        return jnp.stack([1 - 1.4 * y[0] ** 2 + y[1], 0.3 * y[0]])


class Logistic(eqx.Module):
    """The logistic map y → r y (1 − y): exponent log 2 at r = 4."""

    r: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=4.0)

    def step(self, n, y, args=None):
        return self.r * y * (1 - y)


class CatMap(eqx.Module):
    """Arnold's cat map on the torus: exponents ± log of (3 + √5)/2, exactly."""

    def step(self, n, y, args=None):
        return jnp.stack([2 * y[0] + y[1], y[0] + y[1]]) % 1.0
