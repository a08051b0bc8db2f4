"""Functions that were written for NumPy: one sentence, wherever they enter."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf

START = jnp.array([0.5, 1.0])


def with_numpy(t: Any, y: Any, args: Any) -> Any:
    rate = np.tanh(y[0])
    return jnp.stack([y[1], rate])


def with_if(t: Any, y: Any, args: Any) -> Any:
    if y[0] > 0:
        return -y
    return y


def with_math(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], -math.sin(y[0])])


def odeint_order(y: Any, t: Any) -> Any:
    return -y


def odeint_order_with_args(y: Any, t: Any, args: Any) -> Any:
    return -y


def solve_ivp_order(t: Any, y: Any) -> Any:
    return -y


def with_list(t: Any, y: Any, args: Any) -> Any:
    return [y[1], -y[0]]


FIELDS = {
    with_numpy: "`system` must be written with jax.numpy, but line .* of test_traced.py, “rate = np.tanh.*”, calls NumPy",
    with_if: r"line .* of test_traced.py, “if y\[0\] > 0:”, decides by `if`.* Write jnp.where",
    with_math: "makes Python numbers of values that JAX follows.*jnp.sin for math.sin",
    odeint_order: r"`system` must be a function of 3 arguments, \(t, y, args\), but odeint_order takes \(y, t\)",
    odeint_order_with_args: r"in the order \(t, y, args\), time first, but odeint_order_with_args takes \(y, t, args\)",
    solve_ivp_order: "It is given all of them, also those that it does not use.",
    with_list: "must return one array like its state, but returned a list: write jnp.stack",
}
ENTRANCES: dict[str, Callable[[Any], Any]] = {
    "integrate": lambda field: cf.integrate(field, START, 1.0),
    "phase_portrait": lambda field: cf.phase_portrait(field, (-1, 1), (-1, 1)),
    "lyapunov_spectrum": lambda field: cf.lyapunov_spectrum(field, START, T=10.0),
    "verdict": lambda field: cf.verdict(field, START, T=10.0),
    "find_fixed_points": lambda field: cf.find_fixed_points(field, bounds=(-START, START)),
    "classify": lambda field: cf.classify(field, START),
    "is_gradient": lambda field: cf.is_gradient(field, START[None]),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.__name__)
def test_fields_written_for_numpy_are_refused_in_one_sentence(entrance: str, field: Any):
    with pytest.raises(ValueError, match=FIELDS[field]) as refused:
        ENTRANCES[entrance](field)
    assert "plane" not in str(refused.value)


class StepOfTwo:
    def step(self, n: Any, y: Any) -> Any:
        return y


class StepWithNumpy:
    def step(self, n: Any, y: Any, args: Any) -> Any:
        return np.sin(y)


def test_maps_too():
    for run in (lambda m: cf.iterate(m, START, 3), lambda m: cf.lyapunov_spectrum(m, START, T=3)):
        with pytest.raises(
            ValueError, match=r"`system.step` must be a function of 3 arguments, \(n, y, args\)"
        ):
            run(StepOfTwo())
        with pytest.raises(ValueError, match=r"`system` must be written with jax\.numpy"):
            run(StepWithNumpy())


def test_conditions_and_observables_too():
    flow = lambda t, y, args: -y  # noqa: E731
    for name in ("stop", "events", "observe"):
        with pytest.raises(ValueError, match=f"`{name}` must be a function of 3 arguments"):
            cf.integrate(flow, START, 1.0, **{name: lambda t, y: y[0]})
        with pytest.raises(ValueError, match=f"`{name}` must be written with jax.numpy"):
            cf.integrate(flow, START, 1.0, **{name: lambda t, y, args: np.sin(y[0])})


def test_other_faults_of_a_field_say_what_it_was_shown():
    with pytest.raises(IndexError) as raised:
        cf.integrate(lambda t, y, args: y[0, 0], START, 1.0)
    assert any("Raised by `system`" in note and "f64[2]" in note for note in raised.value.__notes__)


def test_callables_of_any_make_are_taken():
    """Those whose signature cannot be read, and those with further arguments that have defaults."""
    for flow in (cf.toy_flow(), lambda *given: -given[1], lambda t, y, args, gain=1.0: -gain * y):
        assert cf.integrate(flow, START, 1.0).outcome.ok
