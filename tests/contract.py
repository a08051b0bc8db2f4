"""What every flow and map must be, checked in one place: one that passes works everywhere in the package.

A test module says what to check as `Subject`s, and runs each of `CHECKS` on each of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

ROUNDING = 1e-13


@dataclass(frozen=True)
class Subject:
    """A flow f(t, y, args) or a map with `step(n, y, args)`, and where to check it.

    `make(scale)` returns the system and its `args`, with numbers (never shapes or signs) that depend on the scale;
    `states` has a leading axis of a few states.
    """

    make: Callable[[float], tuple[Any, Any]]
    states: PyTree

    def state(self, index: int) -> PyTree:
        return jtu.tree_map(lambda leaf: leaf[index], self.states)

    def count(self) -> int:
        return len(jtu.tree_leaves(self.states)[0])


def rule(system: Any) -> Callable[[Any, PyTree, Any], PyTree]:
    """The map's step, or the flow itself."""
    return getattr(system, "step", system)


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Collect the compilations that happen inside the block."""
    seen: list[str] = []

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def assert_close(actual: PyTree, expected: PyTree, tolerance: float = ROUNDING) -> None:
    """Same structure, and entries equal up to a fraction of the largest expected one."""
    assert jtu.tree_structure(actual) == jtu.tree_structure(expected)
    actual_vector, expected_vector = (
        np.asarray(ravel_pytree(actual)[0]),
        np.asarray(ravel_pytree(expected)[0]),
    )
    scale = np.abs(expected_vector).max()
    assert scale > 0, "a comparison with zeros shows nothing"
    np.testing.assert_allclose(actual_vector, expected_vector, rtol=0, atol=tolerance * scale)


def returns_what_looks_like_its_state(subject: Subject) -> None:
    system, args = subject.make(1.0)
    y = subject.state(0)
    value = rule(system)(0.0, y, args)
    assert jtu.tree_structure(value) == jtu.tree_structure(y)
    for leaf, expected in zip(jtu.tree_leaves(value), jtu.tree_leaves(y), strict=True):
        assert leaf.shape == expected.shape
        assert leaf.dtype == expected.dtype == jnp.float64
        assert np.isfinite(leaf).all()


def compiled_is_eager(subject: Subject) -> None:
    system, args = subject.make(1.0)
    eager = rule(system)(0.0, subject.state(0), args)
    compiled = eqx.filter_jit(lambda system, *rest: rule(system)(*rest))(system, 0.0, subject.state(0), args)
    assert_close(compiled, eager)


def mapped_over_states_is_a_loop(subject: Subject) -> None:
    system, args = subject.make(1.0)
    mapped = jax.vmap(lambda y: rule(system)(0.0, y, args))(subject.states)
    loop = [rule(system)(0.0, subject.state(i), args) for i in range(subject.count())]
    assert_close(mapped, jtu.tree_map(lambda *leaves: jnp.stack(leaves), *loop))


def mapped_over_systems_is_a_loop(subject: Subject) -> None:
    pairs, y = [subject.make(scale) for scale in (1.0, 2.0)], subject.state(0)
    stacked = jtu.tree_map(
        lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *pairs
    )
    mapped = eqx.filter_vmap(lambda pair: rule(pair[0])(0.0, y, pair[1]), in_axes=(eqx.if_array(0),))(stacked)
    loop = [rule(system)(0.0, y, args) for system, args in pairs]
    assert_close(mapped, jtu.tree_map(lambda *leaves: jnp.stack(leaves), *loop))


def derivatives_forward_backward_and_by_differences_agree(subject: Subject) -> None:
    system, args = subject.make(1.0)
    y, unravel = ravel_pytree(subject.state(0))
    v, _ = ravel_pytree(subject.state(1))
    v /= jnp.linalg.norm(v)

    def flat(y: jax.Array) -> jax.Array:
        return ravel_pytree(rule(system)(0.0, unravel(y), args))[0]

    _, forward = jax.jvp(flat, (y,), (v,))
    assert_close(forward, jax.jacrev(flat)(y) @ v)
    step = 1e-3  # fourth order: what is left is the fifth derivative, and rounding
    differences = (
        8 * (flat(y + step * v) - flat(y - step * v)) - flat(y + 2 * step * v) + flat(y - 2 * step * v)
    )
    assert_close(differences / (12 * step), forward, tolerance=1e-9)


def survives_being_taken_apart(subject: Subject) -> None:
    system, args = subject.make(1.0)
    rebuilt = jtu.tree_unflatten(jtu.tree_structure(system), jtu.tree_leaves(system))
    assert type(rebuilt) is type(system)
    combined = eqx.combine(*eqx.partition(system, eqx.is_array))
    expected = rule(system)(0.0, subject.state(0), args)
    for again in (rebuilt, combined):
        assert_close(rule(again)(0.0, subject.state(0), args), expected, tolerance=0.0)


def new_numbers_do_not_recompile(subject: Subject) -> None:
    compiled = eqx.filter_jit(lambda system, t, y, args: rule(system)(t, y, args))
    (first, first_args), (second, second_args) = subject.make(1.0), subject.make(2.0)
    states, t = [subject.state(0), subject.state(1)], jnp.asarray(0.0)
    value = compiled(first, t, states[0], first_args)
    with compilations() as seen:
        other = compiled(second, t, states[1], second_args)
    assert seen == []
    difference = jtu.tree_map(lambda a, b: jnp.abs(a - b).max(), value, other)
    assert max(map(float, jtu.tree_leaves(difference))) > 0, "`make` must give other numbers"


CHECKS = (
    returns_what_looks_like_its_state,
    compiled_is_eager,
    mapped_over_states_is_a_loop,
    mapped_over_systems_is_a_loop,
    derivatives_forward_backward_and_by_differences_agree,
    survives_being_taken_apart,
    new_numbers_do_not_recompile,
)
