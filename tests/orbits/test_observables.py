"""Return times against exact periods, settling times against the closed form."""

from dataclasses import replace
from typing import Any

import jax
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
    found = cf.orbits.return_time(cf.toy_flow(s, flip="readout"), w0, 60.0, rtol=1e-11)
    assert found == pytest.approx(period, rel=1e-9)


@pytest.mark.parametrize("share", [1.001, 1.1, 2.0])
def test_beyond_the_separatrix_nothing_returns(share: float):
    w0 = share * np.sqrt(2.0) * jnp.array([1.0, 0.0])
    assert cf.orbits.return_time(cf.toy_flow(1.0, flip="readout"), w0, 60.0) == np.inf


def test_a_return_after_the_wait_is_none():
    flow, w0 = cf.toy_flow(1.0, flip="readout"), jnp.array([1.0, 0.0])
    period = float(flow.period(w0))
    assert cf.orbits.return_time(flow, w0, 0.999 * period) == np.inf
    assert cf.orbits.return_time(flow, w0, 1.01 * period) == pytest.approx(period, rel=1e-9)


@pytest.mark.slow
def test_states_arguments_and_times_of_other_flows():
    start = {"a": jnp.array([0.6]), "b": jnp.array([0.8])}

    def field(t, y, omega):
        a, b = limit_cycle(t, jnp.concatenate([y["a"], y["b"]]), omega)
        return {"a": a[None], "b": b[None]}

    for omega, t0 in ((2.0, 0.0), (0.5, -3.0)):
        found = cf.orbits.return_time(field, start, 40.0, t0=t0, args=omega)
        assert found == pytest.approx(2 * np.pi / omega, rel=1e-9)


def test_a_crossing_against_the_velocity_is_no_return():
    """An ellipse crosses the section through its start twice in a period, once each way."""
    ellipse = Linear(jnp.array([[0.0, -4.0], [1.0, 0.0]]))
    assert cf.orbits.return_time(ellipse, jnp.array([0.5, 0.7]), 10.0) == pytest.approx(np.pi, rel=1e-9)


def test_an_orbit_that_ends_early_does_not_return():
    assert cf.orbits.return_time(lambda t, y, args: y**2, jnp.array([1.0]), 10.0) == np.inf


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"y0": jnp.zeros(2)}, "`y0` must not be a fixed point, but the velocity there is zero"),
        ({"t_max": 0.0}, "`t_max` must be positive, but is 0"),
        ({"t_max": np.nan}, "`t_max` must be finite, but is nan"),
        ({"y0": jnp.zeros(3)}, r"must have shape \(2,\)"),
        ({"y0": jnp.array([np.nan, 1.0])}, "`y0` must be finite"),
        ({"rtol": 1e-20}, "`rtol` must lie between"),
        ({"system": None}, "`system` must be a vector field"),
    ],
)
def test_bad_questions_are_refused_in_a_sentence(arguments: dict[str, Any], sentence: str):
    given = {"system": cf.toy_flow(), "y0": jnp.array([1.0, 0.0]), "t_max": 5.0} | arguments
    with pytest.raises(ValueError, match=sentence):
        cf.orbits.return_time(**given)


# --------------------------------------------------------------------------------------- settling times


@pytest.fixture(scope="module")
def settling() -> cf.Trajectory:
    flow = cf.toy_flow(1.0, flip="readout")
    return cf.integrate(flow, jnp.array([-1.5, 1.0]), 20.0, dense=True, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("error", [0.5, 1e-1, 1e-2, 1e-4, 1e-6])
def test_settling_times_are_those_of_the_closed_form(settling: cf.Trajectory, error: float):
    exact = float(settling.system.settling_time(jnp.array([-1.5, 1.0]), error))
    assert cf.orbits.settling_time(settling, error**2 / 2) == pytest.approx(
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
    assert cf.orbits.settling_time(orbit, 0.2) == pytest.approx(exact, rel=1e-8)


def test_settled_from_the_start_or_never(settling: cf.Trajectory):
    assert cf.orbits.settling_time(settling, 1.01 * float(settling.loss().max())) == 0.0
    flow, w0 = settling.system, jnp.array([1.0, 0.0])
    closed = cf.integrate(flow, w0, float(flow.period(w0)), dense=True, rtol=1e-11, atol=1e-13)
    assert cf.orbits.settling_time(closed, 0.4) == np.inf


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
        cf.orbits.settling_time(replace(settling, **change), loss)


# --------------------------------------------------------------------------------- errors, order parameter, correlations


def random_walk(seed: int, times: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((times, n)).cumsum(axis=0)


class Replay:
    """A map that plays back a recording."""

    def __init__(self, recording: np.ndarray):
        self.recording = jnp.asarray(recording)

    def step(self, n, y, args):
        return {"a": self.recording[n + 1, :3], "b": self.recording[n + 1, 3:].reshape(2, 2)}


def test_streaming_observables_equal_those_of_the_whole_history():
    recording = random_walk(0, 200, 7) + 5.0
    start = {"a": recording[0, :3], "b": recording[0, 3:].reshape(2, 2)}

    def height(n, y, args):
        return y["a"].sum()

    fold = {
        "q": cf.orbits.OrderParameter(),
        "peak": cf.orbits.Peak(height),
        "passage": cf.orbits.FirstPassage(height, 10.0),
        "never": cf.orbits.FirstPassage(height, -1e9),
        "drift": cf.orbits.Drift(lambda n, y, args: y["b"]),
    }
    run = cf.iterate(Replay(recording), start, 199, every=150, fold=fold)
    heights = recording[:, :3].sum(axis=1)
    np.testing.assert_allclose(run.folded["q"], cf.orbits.order_parameter(recording), rtol=1e-12)
    np.testing.assert_allclose(run.folded["peak"], [heights.max(), heights.argmax()], rtol=1e-13)
    assert heights.min() < 10
    assert run.folded["passage"] == cf.orbits.time_to_threshold(np.arange(200.0), heights, 10.0)
    assert run.folded["never"] == np.inf == cf.orbits.time_to_threshold(np.arange(200.0), heights, -1e9)
    drift = np.abs(recording[:, 3:] - recording[0, 3:]).max() / np.abs(recording[0, 3:]).max()
    np.testing.assert_allclose(run.folded["drift"], drift, rtol=1e-12)


def test_the_order_parameter_of_oscillations_is_their_mean_square_over_the_spread_of_their_means():
    phases = 2 * np.pi * np.arange(64) / 64
    means, amplitudes = np.array([-1.0, 0.0, 4.0]), np.array([1.0, 0.5, 2.0])
    q = cf.orbits.order_parameter(means + amplitudes * np.sin(phases)[:, None])
    assert abs(q - np.mean(amplitudes**2 / 2) / means.var()) < 1e-14


def test_the_streaming_order_parameter_sees_fluctuations_far_below_rounding_of_the_squares():
    recording = np.array([1.0, 2.0, 3.0, 5.0, 7.0, 8.0, 9.0]) + 1e-12 * random_walk(1, 100, 7)
    start = {"a": recording[0, :3], "b": recording[0, 3:].reshape(2, 2)}
    run = cf.iterate(Replay(recording), start, 99, fold={"q": cf.orbits.OrderParameter()})
    exact = (recording - recording[0]).var(axis=0).mean() / recording.mean(axis=0).var()
    assert abs(float(run.folded["q"]) / exact - 1) < 1e-3
    assert exact < 1e-20


def test_prediction_errors_are_those_of_the_samples_one_by_one():
    W = cf.ensembles.gaussian_weights(jax.random.key(0), N=4, M=3, P=2)
    X, Y = jax.random.normal(jax.random.key(1), (5, 3)), jax.random.normal(jax.random.key(2), (5, 2))
    expected = np.mean([np.sum((y - W.W2 @ (W.W1 @ x)) ** 2) / 2 for x, y in zip(X, Y, strict=True)])
    error = cf.orbits.PredictionError(X, Y)
    np.testing.assert_allclose(error(0.0, W), expected, rtol=1e-13)
    flow = cf.GramFlow.from_flow(cf.CurlFlow(jnp.ones((2, 3)), [1, 1, -1], [1, 1, -1, 1]))
    np.testing.assert_allclose(error(0.0, flow.reduce(W)), expected, rtol=1e-12)
    # On samples that have the flow's covariance, of a teacher without noise, it is the flow's loss.
    S = jnp.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]])
    noiseless = cf.CurlFlow(S, [1, 1, -1], [1, 1, -1, 1], X.T @ X / 5)
    np.testing.assert_allclose(cf.orbits.PredictionError(X, X @ S.T)(0.0, W), noiseless.loss(W), rtol=1e-13)
    np.testing.assert_allclose(
        cf.orbits.PredictionError(X, X @ S[0])(0.0, cf.Weights(W.W1, W.W2[:1])),
        cf.orbits.PredictionError(X, X @ S[:1].T)(0.0, cf.Weights(W.W1, W.W2[:1])),
    )
    for inputs, targets in ((X, Y[:4]), (X[0], Y), (X, Y[None])):
        with pytest.raises(ValueError, match="`X` and `targets` must have shapes"):
            cf.orbits.PredictionError(inputs, targets)


def test_autocorrelation_is_its_definition():
    values = random_walk(2, 50, 6).reshape(50, 2, 3)
    correlation = cf.orbits.autocorrelation(values, lags=50)
    deviations = values - values.mean(axis=0)
    for lag in range(50):
        direct = (deviations[lag:] * deviations[: 50 - lag]).sum(axis=0) / (deviations**2).sum(axis=0)
        np.testing.assert_allclose(correlation[lag], direct, atol=1e-12)
    assert len(cf.orbits.autocorrelation(values)) == 25
    np.testing.assert_array_equal(cf.orbits.autocorrelation(np.full(4, 0.1), lags=3), [1.0, 0.0, 0.0])
    for bad, lags in ((values, 51), (values, 0), (values[:1], None)):
        with pytest.raises(ValueError, match="must"):
            cf.orbits.autocorrelation(bad, lags)


def test_principal_components_diagonalise_the_covariance():
    states = random_walk(3, 40, 7)
    ys = {"a": jnp.asarray(states[:, :3]), "b": jnp.asarray(states[:, 3:].reshape(40, 2, 2))}
    found = cf.orbits.principal_components(ys, k=7)
    np.testing.assert_allclose(found.scores @ found.directions + found.mean, states, atol=1e-12)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(7), atol=1e-12)
    eigenvalues = np.linalg.eigvalsh(np.cov(states.T))[::-1]
    np.testing.assert_allclose(found.explained, eigenvalues / eigenvalues.sum(), atol=1e-12)
    assert (np.take_along_axis(found.directions, np.abs(found.directions).argmax(1)[:, None], 1) > 0).all()
    data = found.to_xarray()
    assert dict(data.sizes) == {"time": 40, "component": 7, "number": 7}
    np.testing.assert_allclose(data["score"] @ data["direction"] + data["mean"], states, atol=1e-12)
    with pytest.raises(ValueError, match="`k` must not exceed"):
        cf.orbits.principal_components(ys, k=8)
    with pytest.raises(ValueError, match="`ys` must vary"):
        cf.orbits.principal_components(np.ones((5, 3)))


@pytest.mark.parametrize("t1", [20.0, -20.0])
def test_integration_saves_what_is_observed_in_place_of_the_states(t1: float):
    flow, w0 = cf.toy_flow(s=1.0, flip="readout"), jnp.array([1.0, 0.0])
    ts = np.linspace(0, t1, 11)
    states = cf.integrate(flow, w0, t1, ts=ts)
    observed = cf.integrate(
        flow,
        w0,
        t1,
        ts=ts,
        observe=lambda t, w, args: {"loss": flow.loss(w), "time": t, "scaled": args * w},
        args=3.0,
    )
    np.testing.assert_allclose(observed.ys["loss"], states.loss(), rtol=1e-12)
    np.testing.assert_allclose(observed.ys["time"], ts, atol=1e-12)
    np.testing.assert_allclose(observed.ys["scaled"], 3 * states.ys, rtol=1e-12)
    np.testing.assert_array_equal(observed.final_state, states.final_state)
    np.testing.assert_array_equal(states.final_state, states.ys[-1])
    with pytest.raises(ValueError, match="must have a method `loss`"):
        observed.loss()
    with pytest.raises(
        ValueError, match="`observe`, `events` and a `stop` function must be used with one initial condition"
    ):
        cf.integrate(flow, w0[None], t1, batch=True, observe=lambda t, w, args: w)
