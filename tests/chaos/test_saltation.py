"""Fields that jump: the exponents of their smooth parts alone are not taken for those of the orbit without a word."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf
from curlflow.chaos.saltation import passes_jumps


def dry_friction(t: Any, y: Any, args: Any) -> Any:
    """Balcerzak et al. (2020): both exponents are −0.04749 (monodromy matrix with located events)."""
    return jnp.stack([y[1], -y[0] - 0.05 * y[1] - 0.3 * jnp.sign(y[1]) + 2 * jnp.cos(0.8 * t)])


def steep_friction(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], -y[0] - 0.05 * y[1] - 0.3 * jnp.tanh(y[1] / 0.01) + 2 * jnp.cos(0.8 * t)])


def impacts(t: Any, y: Any, args: Any) -> Any:
    """A jump across y1 = 0 that no derivative shows: −1 on one side, 3 on the other."""
    return jnp.stack([y[1], jnp.where(y[0] > 0, -1.0, 3.0) + 0.0 * y[1]])


def corner(t: Any, y: Any, args: Any) -> Any:
    """Continuous with a corner: the Jacobian jumps, and the exponents are right."""
    return jnp.stack([y[1], -jnp.maximum(y[0], 0.0) + 2 * jnp.maximum(-y[0], 0.0) - 0.1 * y[1] + jnp.cos(t)])


@pytest.mark.parametrize(
    ("field", "start", "jumps"),
    [(dry_friction, [0.0, 0.0], True), (impacts, [1.0, 0.5], True), (corner, [0.0, 0.0], False)],
)
def test_jumps_on_the_way_are_told_of(field: Any, start: list[float], jumps: bool):
    spectrum = cf.lyapunov_spectrum(field, start, T=100.0)
    assert ("saltation" in spectrum.outcome.message) == jumps


def test_the_remedy_gives_the_right_exponents():
    spectrum = cf.lyapunov_spectrum(steep_friction, jnp.zeros(2), T=500.0, Ttr=200.0)
    assert not passes_jumps(spectrum.run)
    np.testing.assert_allclose(spectrum.exponents, -0.04749, atol=5e-4)
