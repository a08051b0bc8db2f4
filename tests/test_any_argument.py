"""Whatever a public function is given: it answers, or refuses in a sentence. No other exception, no end of the process."""

import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]

KEY, POINT = jax.random.key(0), jnp.array([0.1, 0.2])
WEIGHTS = cf.ensembles.gaussian_weights(KEY, N=3, M=2)
TEACHER = cf.models.Teacher(WEIGHTS, activation="relu")
SERIES = np.sin(np.arange(300.0))
STATES = np.cumsum(np.random.default_rng(0).normal(size=(60, 3)), axis=0)
CORNERS = (-jnp.ones(2), jnp.ones(2))


class Henon:
    """A map of the plane."""

    def step(self, n: Any, y: Any, args: Any = None) -> Any:
        return jnp.stack([1 - 1.4 * y[0] ** 2 + y[1], 0.3 * y[0]])


def decay(t: Any, y: Any, args: Any) -> Any:
    return -y


HENON = Henon()

# What no argument of the calls below can be, or hardly; durations are left out, because a huge one is not wrong but long.
ODD: dict[str, Any] = {
    "nothing": None,
    "zero": 0,
    "negative": -1,
    "half": 2.5,
    "huge": 10**12,
    "beyond int64": 2**70,
    "nan": float("nan"),
    "infinite": float("inf"),
    "large float": 1e200,
    "imaginary": 1j,
    "text": "x",
    "object": object(),
    "true": True,
    "function": decay,
    "empty list": [],
    "empty array": jnp.zeros(0),
    "ragged": [[1.0], [1.0, 2.0]],
    "one number in a list": [1.0],
    "three numbers": (1.0, 2.0, 3.0),
    "cube": np.ones((2, 2, 2)),
    "nan in an array": np.array([np.nan, 1.0]),
    "infinite in an array": np.array([np.inf, 1.0]),
    "float32": np.ones(2, np.float32),
    "texts": np.array(["a", "b"]),
    "mapping": {"a": jnp.ones(2)},
    "two keys": jax.random.split(KEY),
    "weights": WEIGHTS,
}
DURATIONS = {
    "T",
    "Ttr",
    "t1",
    "t0",
    "dt",
    "steps",
    "resamples",
    "samples",
    "starts",
    "times",
    "resolution",
    "horizon",
}
LONG = {"huge", "beyond int64", "large float"}


def call(function: Callable[..., Any], **good: Any) -> Any:
    return pytest.param(function, good, id=function.__qualname__)


CALLS = [
    call(cf.integrate, system=decay, y0=POINT, t1=1.0, ts=[0.0, 1.0], rtol=1e-6, atol=1e-8, max_steps=50),
    call(cf.iterate, system=HENON, y0=POINT, steps=5, n0=0, every=1, fold={}),
    call(cf.jacobian, system=decay, y=POINT, t=0.0),
    call(cf.spectrum, system=decay, y=POINT, k=1, t=0.0, key=KEY),
    call(cf.curl_fraction, system=decay, y=POINT),
    call(cf.classify, system=decay, y=POINT, t=0.0),
    call(cf.find_fixed_points, system=decay, bounds=CORNERS, starts=3, t=0.0, key=KEY, max_steps=20),
    call(cf.lyapunov_spectrum, system=HENON, y0=POINT, k=1, T=30.0, Ttr=5.0, key=KEY),
    call(cf.stability_boundary, alpha_h=0.5, kappa=1.0),
    call(cf.spectral_edges, c=0.5, alpha_h=0.5, alpha_r=0.0, kappa=1.0),
    call(cf.is_stable, c=0.5, alpha_h=0.5, alpha_r=0.0, kappa=1.0),
    call(cf.random_matrix.critical_alpha, c=0.5, layer="hidden", other=0.0, kappa=1.0),
    call(
        cf.random_matrix.instability_probability, N=20, M=8, alpha_h=0.5, alpha_r=0.0, kappa=1.0, kurtosis=3.0
    ),
    call(cf.random_matrix.spectral_density, x=1.0, c=0.5, alpha_h=0.5, alpha_r=0.0, kappa=1.0),
    call(cf.toy_flow, s=1.0, flip="readout"),
    call(cf.CurlFlow, S=[1.0, 2.0], d1=[1, -1], d2=[1, 1, 1], C=np.eye(2)),
    call(cf.Weights, W1=[[1.0]], W2=[[1.0]]),
    call(cf.ensembles.gaussian_weights, key=KEY, N=3, M=2, P=1, sigma1=1.0, sigma2=1.0),
    call(cf.ensembles.sign_pattern, n=5, fraction=0.5, key=KEY),
    call(cf.ensembles.sample_covariance, key=KEY, M=3, samples=5, standard_deviation=1.0),
    call(cf.ensembles.near_solution, key=KEY, solution=WEIGHTS, distance=0.1),
    call(cf.ensembles.student_teacher, key=KEY, N=3, M=2, P=1, alpha_h=0.5, alpha_r=0.5, C=np.eye(2)),
    call(
        cf.models.Teacher, weights=WEIGHTS, activation="relu", activate_output=False, standard_deviation=1.0
    ),
    call(TEACHER.draw, key=KEY, samples=5),
    call(cf.models.PopulationLoss(TEACHER), W=WEIGHTS)
    if False
    else call(cf.models.PopulationLoss, teacher=TEACHER),
    call(cf.orbits.order_parameter, ys=STATES),
    call(cf.orbits.autocorrelation, values=SERIES, lags=5),
    call(cf.orbits.principal_components, ys=STATES, k=2),
    call(cf.orbits.time_to_threshold, ts=[0.0, 1.0], values=[1.0, 0.1], threshold=0.5),
    call(cf.chaos.zero_one_test, series=SERIES, key=KEY),
    call(
        cf.races.compare_times,
        first=[1.0, 2.0],
        second=[3.0, 4.0],
        horizon=9.0,
        confidence=0.9,
        resamples=99,
        seed=0,
    ),
    call(cf.races.survival_curve, times=[1.0, 2.0], horizon=9.0, confidence=0.9),
    call(cf.plane.coordinate_plane, origin=jnp.zeros(3), first=0, second=1),
    call(cf.manifold.sample_stability, key=KEY, N=3, M=2, alpha_h=0.5, alpha_r=0.0, samples=4),
    call(cf.gradient.helmholtz_split, system=decay, xlim=(-1, 1), ylim=(-1, 1), resolution=11, plane=None),
]


def is_of_the_users_system(error: Exception) -> bool:
    """Whether it was raised by the system itself, shown a state that it does not know: nobody can say it better."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename == __file__ and frame.name in ("decay", "step") for frame in frames)


def end_of(function: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """What is wrong with how a call ended; empty if nothing is."""
    try:
        jax.block_until_ready(function(**arguments))
    except ValueError as error:
        is_sentence = len(str(error).split()) > 3
        return "" if is_sentence else f"a ValueError that is no sentence: {error}"
    except Exception as error:
        if is_of_the_users_system(error):
            return ""
        return f"{type(error).__name__}: {str(error)[:100]}"
    return ""


@pytest.mark.parametrize(("function", "good"), CALLS)
def test_an_odd_argument_ends_in_an_answer_or_a_sentence(function: Callable[..., Any], good: dict[str, Any]):
    function(**good)
    wrong = {
        f"{name} = {odd}": end
        for name in good
        for odd, value in ODD.items()
        if not (name in DURATIONS and odd in LONG)
        if (end := end_of(function, good | {name: value}))
    }
    assert wrong == {}
