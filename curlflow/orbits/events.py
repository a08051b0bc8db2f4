"""Events of an orbit: conditions that end a run, or are only recorded, found between the solver's steps and located."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow._traced import require_arguments, shapes_of
from curlflow._trees import labelled_leaves, size
from curlflow.system import Args, State, Time

# How often a condition is looked at within a step, in small systems, whose steps are long, and in large ones.
LOOKS, LOOKS_IN_LARGE, LARGE = 16, 4, 64
# Halvings of the time between two looks: to the last digit of the time.
HALVINGS = 56
# A condition that is this small at the start, compared with its values in the first step, starts at zero.
ZERO_AT_START = 1e-12

Condition: TypeAlias = Callable[[Time, State, Args], Any]
Direction: TypeAlias = Literal["rising", "falling"]


@final
class Event(eqx.Module):
    """A condition along an orbit, and in which direction it has to be passed.

    Parameters
    ----------
    condition
        A function (t, y, args) with one real value, whose zeros are the event, or with one truth value, which becomes true.
    direction
        "rising": only where the value comes from below zero, or becomes true. "falling": only where it comes from above, or
        ceases to be true. None: both for real values, becoming true for truth values.

    Raises
    ------
    ValueError
        If `condition` cannot be called, or `direction` is none of the above.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> ground = cf.orbits.Event(lambda t, y, args: y[0], direction="falling")
    >>> throw = cf.integrate(
    ...     lambda t, y, args: jnp.array([y[1], -0.5]), jnp.array([0.0, 10.0]), 99.0, stop=ground
    ... )
    >>> print(throw.outcome)
    stopped: The stop condition held at t = 40.
    """

    condition: Condition
    direction: Direction | None = eqx.field(static=True)

    def __init__(self, condition: Condition, direction: Direction | None = None):
        if not callable(condition):
            raise ValueError(f"`condition` must be a function (t, y, args), but is {condition!r}.")
        _checks.require_one_of("direction", direction, ("rising", "falling", None))
        self.condition = condition
        self.direction = direction


@result
class Passages:
    """When an orbit passed an event, and in what states; part of a `Trajectory`.

    Attributes
    ----------
    ts
        The times, shape (passages,).
    ys
        The states then, with a leading axis of passages.
    """

    ts: Float[Any, " passages"]
    ys: State

    def to_xarray(self) -> "xr.Dataset":
        """The leaves of the states along `passage`, and the time of each."""
        leaves = labelled_leaves(self.ys, "passage", taken=("time",))
        return xr.Dataset(leaves, coords={"time": ("passage", np.asarray(self.ts))})

    def __str__(self) -> str:
        count = len(self.ts)
        span = f" from t = {float(self.ts[0]):.6g} to {float(self.ts[-1]):.6g}" if count else ""
        return f"Passages: {count}{span}"


OneStop: TypeAlias = Literal["fixed point"] | Condition | Event
Stop: TypeAlias = OneStop | Sequence[OneStop] | Mapping[str, OneStop]
Events: TypeAlias = Condition | Event | Sequence[Condition | Event] | Mapping[str, Condition | Event]


def named_events(name: str, given: Any) -> dict[str, Event | Literal["fixed point"]]:
    """The events by name: their own, or that of the argument, numbered where there are several."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        several = {str(key): each for key, each in given.items()}
    elif isinstance(given, (list, tuple)):
        several = {f"{name}[{i}]": each for i, each in enumerate(given)}
    else:
        several = {name: given}
    return {key: _event(name, each) for key, each in several.items()}


def _event(name: str, given: Any) -> Event | Literal["fixed point"]:
    if isinstance(given, Event):
        return given
    if callable(given):
        return Event(given)
    if name == "stop" and isinstance(given, str) and given == "fixed point":
        return "fixed point"
    rest = '"fixed point", ' if name == "stop" else ""
    raise ValueError(
        f"`{name}` must be {rest}a function (t, y, args), an `Event`, several of these, or None, but is {given!r}."
    )


def check_events(name: str, events: Mapping[str, Event], t: Array, y: State, args: Args) -> None:
    """Refuse a condition whose value is neither one real number nor one truth value."""
    for key, event in events.items():
        require_arguments(name, event.condition, ("t", "y", "args"))
        value = shapes_of(name, lambda event=event: jnp.asarray(event.condition(t, y, args)))
        if value.shape != () or not (value.dtype == bool or jnp.issubdtype(value.dtype, jnp.floating)):
            where = "" if key == name else f" (`{key}`)"
            raise ValueError(
                f"`{name}`{where} must return one truth value or one real number, "
                f"but returned {value.dtype}{list(value.shape)}."
            )


def looks_in_a_step(y: State) -> int:
    """How often a condition is looked at within a step."""
    return LOOKS if size(y) <= LARGE else LOOKS_IN_LARGE


class Sighted(NamedTuple):
    """What was seen of the events in some steps: which of them, when, in what states; and what goes on to the next steps.

    The arrays have room for one passage of every event between any two looks, of which the first `number` are used.
    """

    number: Int[Array, ""]
    which: Int[Array, " room"]
    when: Float[Array, " room"]
    states: State
    sides: Float[Array, " events"]
    true_at_start: Bool[Array, " events"]


class Watch(eqx.Module):
    """Events beside the solver's interpolation of some steps, in which they are looked for."""

    events: tuple[Event, ...]
    interpolation: diffrax.DenseInterpolation
    value_at: Callable[[Event, Array, State], Array]

    def local(self, step: Array) -> diffrax.AbstractLocalInterpolation:
        """The interpolation within a step; diffrax's clock runs forwards."""
        ts, infos = self.interpolation.ts, jtu.tree_map(lambda leaf: leaf[step], self.interpolation.infos)
        return self.interpolation.interpolation_cls(t0=ts[step], t1=ts[step + 1], **infos)

    def value(self, event: Event, clock: Array, y: State) -> Array:
        """The condition's value; of a truth value, 1 or −1."""
        value = jnp.asarray(self.value_at(event, jnp.asarray(self.interpolation.direction * clock), y))
        return jnp.where(value, 1.0, -1.0) if value.dtype == bool else value

    def values(self, clock: Array, y: State) -> Float[Array, " events"]:
        """The values of all conditions."""
        return jnp.stack([self.value(event, clock, y) for event in self.events])

    def values_in_step(self, step: Array, looks: int) -> Float[Array, "looks events"]:
        """The values of all conditions at equally spaced times in a step, the end among them."""
        local = self.local(step)
        return jax.vmap(lambda clock: self.values(clock, local.evaluate(clock)))(self.looks(step, looks))

    def looks(self, step: Array, looks: int) -> Float[Array, " looks"]:
        """Equally spaced times in a step, the end among them."""
        ts = self.interpolation.ts
        parts = jnp.arange(1, looks + 1) / looks
        return jnp.where(parts < 1, ts[step] + parts * (ts[step + 1] - ts[step]), ts[step + 1])

    def located(
        self, event: Array, step: Array, begin: Array, end: Array, side: Array
    ) -> tuple[Array, State]:
        """The first time between two looks at which a condition has left its side, to the last digit, and the state then."""
        local = self.local(step)
        branches = [lambda clock, y, each=each: self.value(each, clock, y) for each in self.events]

        def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            begin, end = bracket
            middle = begin + 0.5 * (end - begin)
            value = jax.lax.switch(event, branches, middle, local.evaluate(middle))
            stays = jnp.sign(value) == side
            return jnp.where(stays, middle, begin), jnp.where(stays, end, middle)

        _, end = jax.lax.fori_loop(0, HALVINGS, halve, (begin, end))
        return end, local.evaluate(end)


def sighted(watch: Watch, y: State, sides: Float[Array, " events"], is_truth: Sequence[bool]) -> Sighted:
    """The passages of events in the steps that were watched, in the order of time.

    `y` is the state at their start, and `sides` are the signs of the conditions there, NaN where they are still unknown.
    """
    looks, ts = looks_in_a_step(y), watch.interpolation.ts
    steps, taken = len(ts) - 1, watch.interpolation.ts_size - 1
    first = watch.values(ts[0], y)
    values = jax.vmap(lambda step: watch.values_in_step(step, looks))(jnp.arange(steps))
    start = jnp.where(jnp.isnan(sides), _sides_at_start(first, values[0]), sides)
    signs = jnp.sign(values).reshape(steps * looks, -1)
    passed = _passed(watch.events, is_truth, start, signs) & (jnp.arange(len(signs)) < taken * looks)[:, None]
    places = jnp.nonzero(passed.ravel(), size=passed.size, fill_value=0)[0]
    old = jnp.concatenate([start[None], signs[:-1]])

    def locate(i: Any, found: tuple[Array, State]) -> tuple[Array, State]:
        row, event = jnp.divmod(places[i], len(watch.events))
        step, look = jnp.divmod(row, looks)
        clocks = watch.looks(step, looks)
        begin = jnp.where(look > 0, clocks[look - 1], ts[step])
        when, state = watch.located(event, step, begin, clocks[look], old[row, event])
        return found[0].at[i].set(watch.interpolation.direction * when), jtu.tree_map(
            lambda leaf, one: leaf.at[i].set(one), found[1], state
        )

    room = (
        jnp.zeros(passed.size),
        jtu.tree_map(lambda leaf: jnp.zeros((passed.size, *leaf.shape), leaf.dtype), y),
    )
    number = jnp.sum(passed)
    when, states = jax.lax.fori_loop(0, number, locate, room)
    return Sighted(
        number=number,
        which=places % len(watch.events),
        when=when,
        states=states,
        # Of a run that has not moved yet nothing is known.
        sides=jnp.where(taken > 0, signs[jnp.maximum(taken * looks, 1) - 1], sides),
        true_at_start=jnp.array([e.direction != "falling" for e in watch.events])
        & jnp.asarray(is_truth)
        & (first > 0),
    )


def _sides_at_start(first: Float[Array, " events"], step: Float[Array, "looks events"]) -> Array:
    """The signs of the conditions at the start; 0, which is not left by an event, where a value vanishes up to rounding."""
    vanishes = jnp.abs(first) <= ZERO_AT_START * jnp.max(jnp.abs(step), axis=0)
    return jnp.where(vanishes | jnp.isnan(first), 0.0, jnp.sign(first))


def _passed(
    events: Sequence[Event],
    is_truth: Sequence[bool],
    start: Float[Array, " events"],
    signs: Float[Array, "looks events"],
) -> Bool[Array, "looks events"]:
    """Where a condition has left the side on which it was a look before, in the direction asked for."""
    old = jnp.concatenate([start[None], signs[:-1]])
    rising = jnp.array([e.direction != "falling" for e in events])
    falling = jnp.array(
        [
            e.direction == "falling" or (e.direction is None and not b)
            for e, b in zip(events, is_truth, strict=True)
        ]
    )
    wanted = (rising & (old < 0)) | (falling & (old > 0))
    return wanted & (signs != old) & ~jnp.isnan(signs)
