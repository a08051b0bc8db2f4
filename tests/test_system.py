"""What a system is, what it may know of itself, and that it is asked and checked in one place."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_systems import Henon, lorenz

import curlflow as cf
from curlflow import system

START = jnp.array([0.5, 1.0])


class Bare(eqx.Module):
    """A flow that knows nothing of itself: ẏ = −y³."""

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return -(y**3)


class Knowing(eqx.Module):
    """The same, which knows everything, and wrongly on purpose, so that it is seen who was asked."""

    coordinate_names: tuple[str, str] = eqx.field(static=True, default=("a", "b"))

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return -(y**3)

    def check_state(self, y: Any) -> None:
        if y.shape != (2,):
            raise ValueError("no state of mine")

    def loss(self, y: Any) -> Any:
        return jnp.sum(y)

    def conserved(self, y: Any) -> Any:
        return 2 * y

    def symmetries(self, y: Any) -> Any:
        return y[None]

    def tangent(self, t: Any, y: Any, V: Any, args: Any) -> Any:
        return 7 * V

    def divergence(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.asarray(11.0)

    def gradient_flow(self) -> "Knowing":
        return self

    def descend(self, y: Any, step: Any) -> Any:
        return y + 100 * step

    def rescale(self, y: Any, like: Any) -> Any:
        return 3 * like

    def output(self, y: Any, X: Any) -> Any:
        return X + 1


def test_a_plain_function_is_a_flow_and_a_step_makes_a_map():
    assert isinstance(lorenz, system.Flow)
    assert isinstance(Henon(), system.Map)
    assert not system.is_map(lorenz)
    assert system.is_map(Henon())


def test_what_can_be_called_is_a_flow_whatever_else_it_has():
    class Both(eqx.Module):
        def __call__(self, t: Any, y: Any, args: Any) -> Any:
            return -y

        def step(self, n: Any, y: Any, args: Any) -> Any:
            raise AssertionError("taken for a map")

    assert not system.is_map(Both())
    assert cf.lyapunov_spectrum(Both(), START, T=10.0).exponents == pytest.approx([-1.0, -1.0], abs=1e-6)


def test_a_system_that_knows_of_itself_is_asked():
    flow, V = Knowing(), jnp.eye(2)
    assert system.coordinate_names(flow) == ("a", "b")
    np.testing.assert_array_equal(system.velocity_and_tangents(flow, 0.0, START, V, None)[1], 7 * V)
    np.testing.assert_array_equal(system.euler_step(flow, 0.0, START, jnp.asarray(0.1), None), START + 10)
    np.testing.assert_array_equal(system.rescaled(flow, START, 2 * START), 6 * START)
    np.testing.assert_array_equal(system.outputs(flow, START, jnp.zeros((1, 2))), jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="no state of mine"):
        system.check_state(flow, jnp.ones(3))
    assert system.require_known(flow, "loss")(START) == 1.5


def test_a_system_that_does_not_has_fallbacks():
    flow, V = Bare(), jnp.array([[1.0, 0.0], [1.0, 1.0]])
    assert system.coordinate_names(flow) == ("$y_1$", "$y_2$")
    _, rates = system.velocity_and_tangents(flow, 0.0, START, V, None)
    np.testing.assert_allclose(rates, -3 * START**2 * V, rtol=1e-14)
    euler = system.euler_step(flow, 0.0, START, jnp.asarray(0.1), None)
    np.testing.assert_allclose(euler, START - 0.1 * START**3, rtol=1e-14)
    back = system.rescaled(flow, 5 * START, START)
    np.testing.assert_allclose(back, START, rtol=1e-14)
    system.check_state(flow, jnp.ones(3))
    with pytest.raises(ValueError, match="`system` must have a method `loss`, but Bare has none"):
        system.require_known(flow, "loss")


@pytest.mark.parametrize(
    "wrap",
    [
        cf.NormConstrained,
        lambda flow: cf.DescentMap(flow, 0.1),
        lambda flow: cf.orbits.TimeMap(flow, 1.0),
    ],
    ids=["NormConstrained", "DescentMap", "TimeMap"],
)
def test_a_wrapper_knows_just_what_it_wraps_knows(wrap: Any):
    assert system.known(wrap(Knowing()), "loss")(START) == 1.5
    assert system.known(wrap(Bare()), "loss") is None


def test_minibatch_descent_rescales_by_its_flow():
    """It asked itself before, which knows no rescaling, and so passed over what its flow knows."""

    class OwnRescale(eqx.Module):
        X: Any
        targets: Any

        def __call__(self, t: Any, y: Any, args: Any) -> Any:
            return 0 * y

        def velocity_on(self, y: Any, X: Any, targets: Any) -> Any:
            return 0 * y

        def rescale(self, y: Any, like: Any) -> Any:
            return 3 * like

    flow = OwnRescale(jnp.ones((4, 1)), jnp.ones((4, 1)))
    descent = cf.models.MinibatchDescent(flow, learning_rate=0.1, batch_size=2, key=jax.random.key(0))
    np.testing.assert_allclose(descent.step(0, START), 9 * START)  # two batches


def test_a_field_returns_what_looks_like_its_state():
    y = {"a": jnp.ones(2), "b": jnp.ones(())}
    system.require_same_structure(lambda y: y, y)
    for fn, message in (
        (lambda y: (y["a"], y["b"]), r"`system` must return a pytree like its state, but for"),
        (
            lambda y: y | {"a": y["b"]},
            r"must return float64\[2\] at y\['a'\], but returned float64\[\]",
        ),
        (lambda y: y | {"b": 1}, r"must return float64\[\] at y\['b'\], but returned int"),
    ):
        with pytest.raises(ValueError, match=message):
            system.require_same_structure(fn, y)


# ------------------------------------------------------------------------------------------ checked once a public call


class Counted(eqx.Module):
    """A decay to the origin which counts how often it is shown a state of known values to check."""

    counts: list[int] = eqx.field(static=True)

    def __hash__(self) -> int:
        return id(self.counts)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return -y * jnp.array([1.0, 2.0])

    def check_state(self, y: Any) -> None:
        if not isinstance(y, jax.core.Tracer):
            self.counts.append(1)


VERBS = {
    "integrate": lambda flow: cf.integrate(flow, START, 1.0),
    "jacobian": lambda flow: cf.jacobian(flow, START),
    "spectrum": lambda flow: cf.spectrum(flow, START),
    "curl_fraction": lambda flow: cf.curl_fraction(flow, START),
    "divergence": lambda flow: cf.fixed_points.divergence(flow, START),
    "classify": lambda flow: cf.classify(flow, jnp.zeros(2)),
    "find_fixed_points": lambda flow: cf.find_fixed_points(flow, bounds=(-START, START), starts=4),
    "is_gradient": lambda flow: cf.is_gradient(flow, jnp.stack([START, 2 * START, -START])),
    "lyapunov_spectrum": lambda flow: cf.lyapunov_spectrum(flow, START, T=5.0),
    "verdict": lambda flow: cf.verdict(flow, START, T=5.0),
    "gali": lambda flow: cf.chaos.gali(flow, START, T=5.0),
    "return_time": lambda flow: cf.orbits.return_time(flow, START, 5.0),
    "survey": lambda flow: cf.plane.survey(flow, (-1, 1), (-1, 1), resolution=11),
    "helmholtz_split": lambda flow: cf.gradient.helmholtz_split(flow, (-1, 1), (-1, 1), degree=4),
    "phase_portrait": lambda flow: cf.phase_portrait(flow, (-1, 1), (-1, 1), resolution=11),
    "eigenplane": lambda flow: cf.plane.eigenplane(flow, START),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_state_is_checked_once_a_public_call(verb: str):
    flow = Counted([])
    VERBS[verb](flow)
    assert len(flow.counts) == 1
