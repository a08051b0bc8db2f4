"""Bad input gets a clear ValueError: what was expected, what came, and before anything runs."""

import re
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf
from curlflow import ensembles

KEY = jax.random.key(0)
NAN, INF = np.nan, np.inf
S, D1, D2 = [1.0, 2.0], [1, -1], [1, 1, -1]
W = cf.Weights(np.ones((3, 2)), np.ones((1, 3)))
FLOW = cf.CurlFlow(S, D1, D2)
TOY = cf.toy_flow()
W0 = jnp.array([0.5, 1.0])

Case = tuple[Callable[[], Any], str]


def untouched(t: Any, y: Any, args: Any) -> Any:
    """A field which must not be asked for anything before its user's mistake is seen."""
    raise AssertionError("the field was evaluated")


def integrate(**changed: Any) -> cf.Trajectory:
    return cf.integrate(**({"system": untouched, "y0": W0, "t1": 1.0} | changed))


def curl(**changed: Any) -> cf.CurlFlow:
    return cf.CurlFlow(**({"S": S, "d1": D1, "d2": D2} | changed))


FLOWS: dict[str, Case] = {
    "d1 not a sign": (lambda: curl(d1=[1, 0.5]), "`d1` must hold only +1 and −1, but has 0.5 at index 1."),
    "d2 zero": (lambda: curl(d2=[0, 1, 1]), "`d2` must hold only +1 and −1, but has 0.0 at index 0."),
    "d1 too long": (lambda: curl(d1=[1, 1, 1]), "`d1` must have shape (M,) = (2,), but has shape (3,)."),
    "d1 a column": (lambda: curl(d1=[[1], [1]]), "`d1` must have shape (M,) = (2,), but has shape (2, 1)."),
    "d2 a number": (lambda: curl(d2=1), "`d2` must have shape (N,), but has shape ()."),
    "S a number": (lambda: curl(S=1.0), "`S` must have shape (P, M), or (M,) for P = 1, but has shape ()."),
    "S too deep": (
        lambda: curl(S=[[S]]),
        "`S` must have shape (P, M), or (M,) for P = 1, but has shape (1, 1, 2).",
    ),
    "S in words": (lambda: curl(S="s"), "`S` must be an array of numbers, but is 's'."),
    "S complex": (lambda: curl(S=[1j, 2]), "`S` must be real, but its dtype is complex128."),
    "S NaN": (lambda: curl(S=[1, NAN]), "`S` must be finite, but has nan at index 1."),
    "S infinite": (lambda: curl(S=[[1, 2], [3, INF]]), "`S` must be finite, but has inf at index (1, 1)."),
    "d1 NaN": (lambda: curl(d1=[NAN, 1]), "`d1` must be finite, but has nan at index 0."),
    "C wrong size": (lambda: curl(C=np.eye(3)), "`C` must have shape (M, M) = (2, 2), but has shape (3, 3)."),
    "C a vector": (lambda: curl(C=[1, 1]), "`C` must have shape (M, M) = (2, 2), but has shape (2,)."),
    "C NaN": (lambda: curl(C=[[1, NAN], [NAN, 1]]), "`C` must be finite, but has nan at index (0, 1)."),
    "C asymmetric": (
        lambda: curl(C=[[1, 0.5], [0.25, 1]]),
        "`C` must be symmetric, but differs from its transpose by 0.25.",
    ),
    "C indefinite": (
        lambda: curl(C=[[1, 2], [2, 1]]),
        "`C` must be positive semidefinite, but its smallest eigenvalue is -1.",
    ),
    "W1 transposed": (
        lambda: FLOW(0.0, cf.Weights(np.ones((2, 3)), W.W2)),
        "`W1` must have shape (N, M) = (3, 2), but has shape (2, 3).",
    ),
    "W2 too wide": (
        lambda: FLOW(0.0, cf.Weights(W.W1, np.ones((1, 4)))),
        "`W2` must have shape (P, N) = (1, 3), but has shape (1, 4).",
    ),
    "W2 a row": (
        lambda: FLOW(0.0, cf.Weights(W.W1, np.ones(3))),
        "`W2` must have shape (P, N) = (1, 3), but has shape (3,).",
    ),
    "not Weights": (
        lambda: FLOW(0.0, (W.W1, W.W2)),
        "The state of a CurlFlow must be Weights(W1, W2), but is tuple.",
    ),
    "loss a number": (
        lambda: cf.SignedGradientFlow(0.5, 1.0),
        "`loss` must be a function of the parameters, but is 0.5",
    ),
    "mask not a sign": (
        lambda: cf.SignedGradientFlow(jnp.sum, {"a": [[1, 2]]}),
        "`signs['a']` must hold only +1 and −1, but has 2.0 at index (0, 1).",
    ),
    "mask too wide": (
        lambda: cf.SignedGradientFlow(jnp.sum, jnp.ones(3))(0.0, jnp.ones((3, 2))),
        "`signs` must broadcast to its parameter's shape (3, 2), but has shape (3,).",
    ),
    "mask wider than its parameter": (
        lambda: cf.SignedGradientFlow(jnp.sum, jnp.ones((2, 3)))(0.0, jnp.ones(3)),
        "`signs` must broadcast to its parameter's shape (3,), but has shape (2, 3).",
    ),
    "mask of another network": (
        lambda: cf.SignedGradientFlow(jnp.sum, {"a": 1.0})(0.0, {"b": jnp.ones(2)}),
        "`signs` must be a pytree like the parameters, but is",
    ),
    "constraint on a number": (
        lambda: cf.NormConstrained(3.0),
        "`system` must be a vector field called as f(t, y, args), but is float, which cannot be called.",
    ),
    "constraint on nothing": (
        lambda: cf.integrate(cf.NormConstrained(FLOW), cf.Weights(W.W1, 0 * W.W2), 1.0),
        "Every layer of a norm-constrained flow must have a nonzero norm, but y.W2 is zero.",
    ),
    "constraint on another's state": (
        lambda: cf.integrate(cf.NormConstrained(FLOW), cf.Weights(W.W2, W.W1), 1.0),
        "`W1` must have shape (N, M) = (3, 2), but has shape (1, 3).",
    ),
    "toy teacher NaN": (lambda: cf.toy_flow(NAN), "`s` must be finite, but is nan."),
    "toy teacher in words": (lambda: cf.toy_flow("one"), "`s` must be a number, but is 'one'."),
    "toy flip unknown": (
        lambda: cf.toy_flow(flip="first"),
        "`flip` must be one of 'readout', 'hidden', 'both', None, but is 'first'.",
    ),
    "toy state a list": (lambda: TOY(0.0, [1.0, 2.0]), "must be an array [w1, w2], but is list."),
    "toy state too long": (
        lambda: TOY(0.0, jnp.ones(3)),
        "`w` must have shape (2,) = (2,), but has shape (3,).",
    ),
    "toy period of a list": (lambda: TOY.period([1.0, 2.0]), "must be an array [w1, w2], but is list."),
    "toy solution too long": (lambda: TOY.solution(1.0, jnp.ones(3)), "`w` must have shape"),
    "toy solution at NaN": (lambda: TOY.solution(NAN, W0), "`t` must be finite, but has nan."),
    "toy error zero": (lambda: TOY.settling_time(W0, 0.0), "`error` must be positive, but is 0.0."),
    "toy error negative": (lambda: TOY.settling_time(W0, -0.1), "`error` must be positive, but is -0.1."),
}

ENSEMBLES: dict[str, Case] = {
    "no units": (lambda: ensembles.gaussian_weights(KEY, N=0, M=2), "`N` must be at least 1, but is 0."),
    "half a unit": (
        lambda: ensembles.uniform_weights(KEY, N=2, M=1.5),
        "`M` must be a whole number, but is 1.5.",
    ),
    "true outputs": (
        lambda: ensembles.gaussian_weights(KEY, N=2, M=2, P=True),
        "`P` must be a whole number, but is True.",
    ),
    "no scale": (
        lambda: ensembles.gaussian_weights(KEY, N=2, M=2, sigma1=0),
        "`sigma1` must be positive, but is 0.",
    ),
    "negative scale": (
        lambda: ensembles.gaussian_weights(KEY, N=2, M=2, sigma2=-1),
        "`sigma2` must be positive, but is -1.",
    ),
    "scale NaN": (
        lambda: ensembles.uniform_weights(KEY, N=2, M=2, scale=NAN),
        "`scale` must be finite, but is nan.",
    ),
    "seed for a key": (
        lambda: ensembles.gaussian_weights(0, N=2, M=2),
        "`key` must be one JAX random key, e.g. jax.random.key(0), but is 0.",
    ),
    "many keys": (
        lambda: ensembles.sample_covariance(jax.random.split(KEY), M=2, samples=2),
        "`key` must be one JAX random key",
    ),
    "neither fraction nor count": (
        lambda: ensembles.sign_pattern(3),
        "Exactly one of `fraction` and `count` must be given, but neither were.",
    ),
    "both fraction and count": (
        lambda: ensembles.sign_pattern(3, fraction=0.5, count=1),
        "Exactly one of `fraction` and `count` must be given, but both were.",
    ),
    "more than all": (
        lambda: ensembles.sign_pattern(3, fraction=1.5),
        "`fraction` must lie between 0 and 1, but is 1.5.",
    ),
    "count too large": (
        lambda: ensembles.sign_pattern(3, count=4),
        "`count` must be a whole number between 0 and n = 3, but is 4.",
    ),
    "count negative": (lambda: ensembles.sign_pattern(3, count=-1), "but is -1."),
    "count broken": (lambda: ensembles.sign_pattern(3, count=1.5), "but is 1.5."),
    "no samples": (
        lambda: ensembles.sample_covariance(KEY, M=2, samples=0),
        "`samples` must be at least 1, but is 0.",
    ),
    "no spread": (
        lambda: ensembles.sample_covariance(KEY, M=2, samples=2, standard_deviation=0),
        "`standard_deviation` must be positive, but is 0.",
    ),
    "no distance": (
        lambda: ensembles.near_solution(KEY, W, distance=0),
        "`distance` must be positive, but is 0.",
    ),
    "solution NaN": (
        lambda: ensembles.near_solution(KEY, cf.Weights(W.W1.at[2, 0].set(NAN), W.W2), distance=1),
        "`solution.W1` must be finite, but has nan at index (2, 0).",
    ),
    "solution zero": (
        lambda: ensembles.near_solution(KEY, cf.Weights(0 * W.W1, 0 * W.W2), distance=1),
        "`solution` must not be zero in both layers, but is",
    ),
    "solution a tuple": (
        lambda: ensembles.near_solution(KEY, (W.W1, W.W2), distance=1),
        "`solution` must be Weights(W1, W2), but is tuple.",
    ),
    "solution of two networks": (
        lambda: ensembles.near_solution(KEY, cf.Weights(W.W1, np.ones((1, 4))), distance=1),
        "`solution.W2` must have shape (P, N) = (1, 3), but has shape (1, 4).",
    ),
}

INTEGRATION: dict[str, Case] = {
    "system not a function": (
        lambda: integrate(system="curl"),
        "`system` must be a vector field called as f(t, y, args), but is str, which cannot be called.",
    ),
    "state empty": (lambda: integrate(y0={}), "`y0` must hold at least one number, but is empty."),
    "state NaN": (
        lambda: integrate(y0={"a": [1.0, NAN]}),
        "`y0['a']` must be finite, but has nan at index 1.",
    ),
    "state infinite": (
        lambda: integrate(y0=np.array([1, INF])),
        "`y0` must be finite, but has inf at index 1.",
    ),
    "state complex": (
        lambda: integrate(y0=np.array([1j])),
        "`y0` must be real, but its dtype is complex128.",
    ),
    "state float32": (
        lambda: integrate(y0=np.ones(2, np.float32)),
        "`y0` must be float64, but its dtype is float32. Convert it by .astype(float)",
    ),
    "state in words": (lambda: integrate(y0="start"), "`y0` must be an array of numbers, but is 'start'."),
    "t0 NaN": (lambda: integrate(t0=NAN), "`t0` must be finite, but is nan."),
    "t1 infinite": (lambda: integrate(t1=INF), "`t1` must be finite, but is inf."),
    "t1 missing": (lambda: integrate(t1=None), "`t1` must be a number, but is None."),
    "t1 = t0": (lambda: integrate(t0=1.0), "`t1` must differ from `t0`, but both are 1."),
    "ts unsorted": (
        lambda: integrate(ts=[0.2, 0.1]),
        "`ts` must run strictly from `t0` towards `t1`, but is not in that order: 0.1 follows 0.2 at index 1.",
    ),
    "ts twice": (lambda: integrate(ts=[0.2, 0.2]), "`ts` must run strictly from `t0` towards `t1`, but"),
    "ts the other way": (
        lambda: integrate(t1=-1.0, ts=[-0.2, -0.1]),
        "`ts` must run strictly from `t0` towards `t1`, but",
    ),
    "ts early": (
        lambda: integrate(ts=[-0.5, 0.5]),
        "`ts` must lie between t0 = 0.0 and t1 = 1.0, but spans -0.5 to 0.5.",
    ),
    "ts late": (
        lambda: integrate(ts=[0.5, 1.5]),
        "`ts` must lie between t0 = 0.0 and t1 = 1.0, but spans 0.5 to 1.5.",
    ),
    "ts late backwards": (
        lambda: integrate(t1=-1.0, ts=[-0.5, -1.5]),
        "`ts` must lie between t0 = 0.0 and t1 = -1.0, but spans -0.5 to -1.5.",
    ),
    "ts NaN": (lambda: integrate(ts=[0.1, NAN]), "`ts` must be finite, but has nan at index 1."),
    "ts none": (lambda: integrate(ts=[]), "`ts` must be a list of at least one time, but has shape (0,)."),
    "ts a table": (
        lambda: integrate(ts=[[0.1, 0.2]]),
        "`ts` must be a list of at least one time, but has shape (1, 2).",
    ),
    "rtol below precision": (
        lambda: integrate(rtol=1e-15),
        "`rtol` must lie between 2.2e-14, a hundred times float64's precision, and 0.1, but is 1e-15.",
    ),
    "rtol zero": (lambda: integrate(rtol=0), "`rtol` must be positive, but is 0."),
    "rtol NaN": (lambda: integrate(rtol=NAN), "`rtol` must be finite, but is nan."),
    "atol negative": (lambda: integrate(atol=-1e-9), "`atol` must not be negative, but is -1e-09."),
    "atol NaN": (lambda: integrate(atol=NAN), "`atol` must be finite, but is nan."),
    "blow-up below the start": (
        lambda: integrate(blow_up=0.9),
        "`blow_up` must exceed the largest entry of y0, 1, but is 0.9.",
    ),
    "blow-up NaN": (
        lambda: integrate(blow_up=NAN),
        "`blow_up` must exceed the largest entry of y0, 1, but is nan.",
    ),
    "stop unknown": (
        lambda: integrate(stop="cycle"),
        "`stop` must be \"fixed point\", a function (t, y, args), an `Event`, several of these, or None, but is 'cycle'.",
    ),
    "stop undecided": (
        lambda: integrate(system=TOY, stop=lambda t, y, args: y > 0),
        "`stop` must return one truth value or one real number, but returned bool[2].",
    ),
    "solver unknown": (
        lambda: integrate(solver="rk4"),
        "`solver` must be one of 'tsit5', 'dopri8', 'kvaerno5', or a diffrax solver with an error estimate, but is 'rk4'.",
    ),
    "solver without error estimate": (
        lambda: integrate(solver=diffrax.Euler()),
        "or a diffrax solver with an error estimate, but is Euler",
    ),
    "solver not made": (
        lambda: integrate(solver=diffrax.Tsit5),
        "or a diffrax solver with an error estimate, but is <class",
    ),
    "no steps": (lambda: integrate(max_steps=0), "`max_steps` must be at least 1, but is 0."),
    "half a step": (lambda: integrate(max_steps=0.5), "`max_steps` must be a whole number, but is 0.5."),
    "batch of a number": (
        lambda: integrate(y0=1.0, batch=True),
        "`y0` must have one leading axis of members on every leaf, but the leaves have shapes [()].",
    ),
    "batch of different lengths": (
        lambda: integrate(y0={"a": np.ones((3, 2)), "b": np.ones(2)}, batch=True),
        "`y0` must have one leading axis of members on every leaf, but the leaves have shapes [(3, 2), (2,)].",
    ),
    "batch dense": (
        lambda: integrate(y0=np.ones((3, 2)), batch=True, dense=True),
        "`dense`, `observe`, `events` and a `stop` function must be used with one initial condition, but y0 is a batch.",
    ),
    "batch with a stop function": (
        lambda: integrate(y0=np.ones((3, 2)), batch=True, stop=lambda t, y, args: True),
        "`dense`, `observe`, `events` and a `stop` function must be used with one initial condition, but y0 is a batch.",
    ),
    "state of another flow": (
        lambda: integrate(system=FLOW),
        "The state of a CurlFlow must be Weights(W1, W2), but is",
    ),
    "weights of another network": (
        lambda: integrate(system=FLOW, y0=cf.Weights(np.ones((4, 2)), np.ones((1, 4)))),
        "`W1` must have shape (N, M) = (3, 2), but has shape (4, 2).",
    ),
    "member of another network": (
        lambda: integrate(system=FLOW, y0=W, batch=True),
        "`y0` must have one leading axis of members on every leaf, but the leaves have shapes [(3, 2), (1, 3)].",
    ),
    "toy state too long": (lambda: integrate(system=TOY, y0=np.ones(3)), "`w` must have shape (2,)"),
    "field of another structure": (
        lambda: integrate(system=lambda t, y, args: (y, y)),
        "`system` must return one array like its state, but returned a tuple: write jnp.stack",
    ),
    "field of another shape": (
        lambda: integrate(system=lambda t, y, args: y[0]),
        "`system` must return float64[2] at y, but returned float64[].",
    ),
    "field of another precision": (
        lambda: integrate(system=lambda t, y, args: y.astype(jnp.float32)),
        "`system` must return float64[2] at y, but returned float32[2].",
    ),
    "field not finite at the start": (
        lambda: integrate(system=lambda t, y, args: jnp.log(y - W0)),
        "`f(t0, y0, args)` must be finite, but has -inf at index 0.",
    ),
    "field not finite for a member": (
        lambda: integrate(system=lambda t, y, args: jnp.sqrt(y), y0=np.array([[1.0], [-1.0]]), batch=True),
        "`f(t0, y0, args)` must be finite, but has nan at index (1, 0).",
    ),
}

CASES = {
    f"{room}: {name}": case
    for room, cases in (("flows", FLOWS), ("ensembles", ENSEMBLES), ("integration", INTEGRATION))
    for name, case in cases.items()
}


@pytest.mark.parametrize(("call", "message"), CASES.values(), ids=CASES)
def test_bad_input_is_refused_in_a_sentence(call: Callable[[], Any], message: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the message follows
        call()
    text = str(caught.value)
    assert message in text
    # What was expected, and what came.
    assert re.search(r"must (not )?\w+.*, but ", text, flags=re.DOTALL)


IN_FLOAT32: dict[str, Callable[[], Any]] = {
    "CurlFlow": curl,
    "SignedGradientFlow": lambda: cf.SignedGradientFlow(jnp.sum, 1.0),
    "toy_flow": cf.toy_flow,
    "gaussian_weights": lambda: ensembles.gaussian_weights(KEY, N=2, M=2),
    "uniform_weights": lambda: ensembles.uniform_weights(KEY, N=2, M=2),
    "sign_pattern": lambda: ensembles.sign_pattern(3, count=1),
    "sample_covariance": lambda: ensembles.sample_covariance(KEY, M=2, samples=3),
    "near_solution": lambda: ensembles.near_solution(KEY, W, distance=0.1),
    "integrate": integrate,
}


@pytest.mark.parametrize("call", IN_FLOAT32.values(), ids=IN_FLOAT32)
def test_float32_is_refused_everywhere_with_the_remedy(call: Callable[[], Any]):
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"must compute in float64, but JAX is set to float32"),
    ):
        call()


def test_weights_made_in_float32_are_refused_later():
    with jax.enable_x64(False):
        made_too_early = cf.Weights(np.ones((3, 2)), np.ones((1, 3)))
    with pytest.raises(
        ValueError, match=r"`y0\.W1` must be float64, but its dtype is float32\. Convert it by"
    ):
        integrate(system=FLOW, y0=made_too_early)
