"""The tangent system as an object of its own: spectra, GALI and verdicts take it, and its generator may be any."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from reference_systems import Henon, Linear, lorenz, van_der_pol

import curlflow as cf
from curlflow.chaos import TangentSystem

START = jnp.array([1.0, 2.0, 20.0])
OPTIONS: dict[str, Any] = {"dt": 0.5, "rtol": 1e-9, "atol": 1e-11, "solver": "tsit5"}


def test_a_tangent_system_and_its_options_are_the_same_question():
    tangent = TangentSystem(lorenz, **OPTIONS)
    one = cf.lyapunov_spectrum(tangent, START, 2, T=10.0)
    other = cf.lyapunov_spectrum(lorenz, START, 2, T=10.0, **OPTIONS)
    assert one == other
    assert one.tangent_system.dt == 0.5
    assert one.stats["solver"] == "Tsit5"


def test_gali_and_verdicts_take_it_too():
    tangent = TangentSystem(lorenz, **OPTIONS)
    for mine, made in (
        (cf.chaos.gali(tangent, START, T=5.0), cf.chaos.gali(lorenz, START, T=5.0, **OPTIONS)),
        (cf.verdict(tangent, START, T=5.0), cf.verdict(lorenz, START, T=5.0, **OPTIONS)),
    ):
        np.testing.assert_equal(mine, made)


@pytest.mark.parametrize(
    "ask",
    [
        lambda tangent: cf.lyapunov_spectrum(tangent, START, T=5.0, rtol=1e-6),
        lambda tangent: cf.chaos.gali(tangent, START, T=5.0, solver="dopri8"),
        lambda tangent: cf.verdict(tangent, START, T=5.0, dt=2.0),
    ],
    ids=["lyapunov_spectrum", "gali", "verdict"],
)
def test_its_options_are_its_own(ask: Any):
    with pytest.raises(ValueError, match="must be left to the tangent system, which has its own, but is"):
        ask(TangentSystem(lorenz))


@pytest.mark.parametrize("option", [{"rtol": 1e-6}, {"solver": "tsit5"}, {"max_steps": 5}])
def test_a_map_has_no_solver(option: dict[str, Any]):
    with pytest.raises(ValueError, match="must be left out for a map"):
        TangentSystem(Henon(), **option)


def test_a_verdict_is_on_one_orbit():
    ensemble: Any = {"batch": "states"}
    with pytest.raises(ValueError, match="`batch` must be left out, because a verdict is on one orbit"):
        cf.verdict(lorenz, START[None], T=5.0, **ensemble)
    with pytest.raises(ValueError, match="a verdict is on one orbit"):
        cf.verdict(TangentSystem(lorenz, batch="states"), START[None], T=5.0)
    with pytest.raises(ValueError, match="is an ensemble: call `gali` for each"):
        cf.chaos.gali(TangentSystem(lorenz, batch="states"), START[None], T=5.0)


# ---------------------------------------------------------------------------------------------- other linear equations


class Constant(eqx.Module):
    """The same matrix everywhere."""

    B: Float[Array, "n n"]

    def __call__(self, t: Any, y: Any, args: Any) -> Float[Array, "n n"]:
        return self.B


B = jnp.array([[0.3, 1.0, 0.0], [0.0, -0.2, 0.0], [0.0, 0.5, -1.0]])


def test_a_constant_generator_has_the_real_parts_of_its_eigenvalues_whatever_the_orbit():
    tangent = TangentSystem(lorenz, generator=Constant(B), rtol=1e-10)
    ls = cf.lyapunov_spectrum(tangent, START, T=60.0, Ttr=60.0)
    np.testing.assert_allclose(ls.exponents, [0.3, -0.2, -1.0], atol=1e-9)
    assert ls.mean_divergence == pytest.approx(float(jnp.trace(B)), abs=1e-12)


def test_a_generator_may_have_another_size_than_the_state():
    tangent = TangentSystem(Linear(-jnp.eye(2)), generator=Constant(B))
    ls = cf.lyapunov_spectrum(tangent, jnp.ones(2), 1, T=60.0, Ttr=60.0)
    assert ls.n == 3
    assert ls.exponents == pytest.approx([0.3], abs=1e-7)
    with pytest.raises(ValueError, match="`k` must lie between 1 and the state's size 3"):
        cf.lyapunov_spectrum(tangent, jnp.ones(2), 4, T=5.0)


def test_a_generator_moves_the_vectors_of_maps_too():
    ls = cf.lyapunov_spectrum(
        TangentSystem(Henon(), generator=Constant(B)), jnp.array([0.1, 0.1]), T=200, Ttr=50
    )
    np.testing.assert_allclose(ls.exponents, np.log([1.0, 0.3, 0.2]), atol=1e-9)
    assert ls.mean_divergence == pytest.approx(np.log(0.06), abs=1e-12)


def test_the_jacobian_as_a_generator_gives_the_spectrum():
    def jacobian(t: Any, y: Array, args: Any) -> Array:
        return jnp.array([[-10.0, 10.0, 0.0], [28.0 - y[2], -1.0, -y[0]], [y[1], y[0], -8 / 3]])

    own = cf.lyapunov_spectrum(TangentSystem(lorenz, generator=jacobian, rtol=1e-10), START, T=3.0)
    plain = cf.lyapunov_spectrum(TangentSystem(lorenz, rtol=1e-10), START, T=3.0)
    np.testing.assert_allclose(own.exponents, plain.exponents, rtol=1e-7)


def test_what_is_no_square_matrix_is_refused():
    with pytest.raises(
        ValueError, match=r"`generator` must return a square matrix, but returned shape \(2, 3\)"
    ):
        cf.lyapunov_spectrum(TangentSystem(lorenz, generator=Constant(jnp.ones((2, 3)))), START, T=5.0)


# ------------------------------------------------------------------------------------------------- the solver it was given

TRACES: list[int] = []


class Marked(diffrax.Tsit5):
    """A solver that leaves a mark wherever a program is made of it."""

    def step(self, *args: Any, **options: Any) -> Any:
        TRACES.append(1)
        return super().step(*args, **options)


def test_a_verdict_observes_the_orbit_by_the_solver_that_it_was_given():
    options: dict[str, Any] = {"T": 60.0, "Ttr": 20.0, "args": jnp.asarray(1.0), "solver": Marked()}
    cf.lyapunov_spectrum(van_der_pol, jnp.array([1.0, 1.0]), divergence=False, **options)
    TRACES.clear()
    found = cf.verdict(van_der_pol, jnp.array([1.0, 1.0]), **options)
    assert found.motion == "periodic", str(found)
    assert len(TRACES) >= 2  # for the series and for the returns
