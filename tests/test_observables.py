"""Return times against exact periods, settling times against the closed form."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from reference_systems import Linear, lorenz

import curlflow as cf


def limit_cycle(t, y, omega):
    """ṙ = r (1 − r²), φ̇ = ω, in Cartesian coordinates."""
    growth = 1 - y[0] ** 2 - y[1] ** 2
    return jnp.stack([growth * y[0] - omega * y[1], omega * y[0] + growth * y[1]])


# ---------------------------------------------------------------------------------------- return times


@pytest.mark.parametrize("s", [1.0, -2.5])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995])
def test_closed_orbits_of_the_toy_model_return_after_their_exact_period(s: float, share: float):
    """T = 4π / √(4s² − r⁴), wherever on the circle the clock starts."""
    radius = share * np.sqrt(2 * abs(s))
    angle = 10 * share
    w0 = radius * jnp.array([np.cos(angle), np.sin(angle)])
    period = 4 * np.pi / np.sqrt(4 * s**2 - radius**4)
    found = cf.return_time(cf.toy_flow(s, flip="readout"), w0, 60.0, rtol=1e-11)
    assert found == pytest.approx(period, rel=1e-9)


@pytest.mark.parametrize("share", [1.001, 1.1, 2.0])
def test_beyond_the_separatrix_nothing_returns(share: float):
    w0 = share * np.sqrt(2.0) * jnp.array([1.0, 0.0])
    assert cf.return_time(cf.toy_flow(1.0, flip="readout"), w0, 60.0) == np.inf


def test_a_return_after_the_wait_is_none():
    flow, w0 = cf.toy_flow(1.0, flip="readout"), jnp.array([1.0, 0.0])
    period = float(flow.period(w0))
    assert cf.return_time(flow, w0, 0.999 * period) == np.inf
    assert cf.return_time(flow, w0, 1.01 * period) == pytest.approx(period, rel=1e-9)


def test_states_arguments_and_times_of_other_flows():
    start = {"a": jnp.array([0.6]), "b": jnp.array([0.8])}

    def field(t, y, omega):
        a, b = limit_cycle(t, jnp.concatenate([y["a"], y["b"]]), omega)
        return {"a": a[None], "b": b[None]}

    for omega, t0 in ((2.0, 0.0), (0.5, -3.0)):
        found = cf.return_time(field, start, 40.0, t0=t0, args=omega)
        assert found == pytest.approx(2 * np.pi / omega, rel=1e-9)


def test_a_crossing_against_the_velocity_is_no_return():
    """An ellipse crosses the section through its start twice in a period, once each way."""
    ellipse = Linear(jnp.array([[0.0, -4.0], [1.0, 0.0]]))
    assert cf.return_time(ellipse, jnp.array([0.5, 0.7]), 10.0) == pytest.approx(np.pi, rel=1e-9)


def test_an_orbit_that_ends_early_does_not_return():
    assert cf.return_time(lambda t, y, args: y**2, jnp.array([1.0]), 10.0) == np.inf


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"y0": jnp.zeros(2)}, "`y0` must not be a fixed point, but the velocity there is zero"),
        ({"t_max": 0.0}, "`t_max` must be positive, but is 0"),
        ({"t_max": np.nan}, "`t_max` must be finite, but is nan"),
        ({"y0": jnp.zeros(3)}, r"must have shape \(2,\)"),
        ({"y0": jnp.array([np.nan, 1.0])}, "`y` must be finite"),
        ({"rtol": 1e-20}, "`rtol` must be at least"),
        ({"system": None}, "`system` must be a vector field"),
    ],
)
def test_bad_questions_are_refused_in_a_sentence(arguments: dict[str, Any], sentence: str):
    given = {"system": cf.toy_flow(), "y0": jnp.array([1.0, 0.0]), "t_max": 5.0} | arguments
    with pytest.raises(ValueError, match=sentence):
        cf.return_time(**given)


# --------------------------------------------------------------------------------------- settling times


@pytest.fixture(scope="module")
def settling() -> cf.Trajectory:
    flow = cf.toy_flow(1.0, flip="readout")
    return cf.integrate(flow, jnp.array([-1.5, 1.0]), 20.0, dense=True, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("error", [0.5, 1e-1, 1e-2, 1e-4, 1e-6])
def test_settling_times_are_those_of_the_closed_form(settling: cf.Trajectory, error: float):
    exact = float(settling.system.settling_time(jnp.array([-1.5, 1.0]), error))
    assert cf.settling_time(settling, error**2 / 2) == pytest.approx(
        exact, rel=1e-6 if error > 1e-5 else 1e-4
    )
    assert exact > 0


def test_a_loss_that_rises_again_has_not_settled():
    """The loss of this curl flow first falls, then rises, then falls: what counts is the last crossing."""
    flow, w0 = cf.toy_flow(1.0, flip="readout"), jnp.array([1.8, 0.9])
    orbit = cf.integrate(flow, w0, 20.0, dense=True, rtol=1e-11, atol=1e-13)
    loss = np.asarray(orbit.loss())
    assert np.sum(np.diff(np.sign(loss - 0.2)) != 0) > 1
    exact = float(flow.settling_time(w0, np.sqrt(0.4)))
    assert cf.settling_time(orbit, 0.2) == pytest.approx(exact, rel=1e-8)


def test_settled_from_the_start_or_never(settling: cf.Trajectory):
    assert cf.settling_time(settling, 1.01 * float(settling.loss().max())) == 0.0
    flow, w0 = settling.system, jnp.array([1.0, 0.0])
    closed = cf.integrate(flow, w0, float(flow.period(w0)), dense=True, rtol=1e-11, atol=1e-13)
    assert cf.settling_time(closed, 0.4) == np.inf


@pytest.mark.parametrize(
    ("change", "loss", "sentence"),
    [
        ({}, 0.0, "`loss` must be positive, but is 0"),
        ({}, np.nan, "`loss` must be finite"),
        ({"interpolation": None}, 0.1, "`trajectory` must be dense and have one initial condition"),
        ({"outcome": ()}, 0.1, "`trajectory` must be dense and have one initial condition"),
        ({"system": lorenz}, 0.1, "`system` must have a method `loss`"),
    ],
)
def test_bad_trajectories_are_refused(
    settling: cf.Trajectory, change: dict[str, Any], loss: float, sentence: str
):
    with pytest.raises(ValueError, match=sentence):
        cf.settling_time(replace(settling, **change), loss)
