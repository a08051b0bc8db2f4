"""A computed orbit, or a batch of them, with its loss, its conserved quantities and its labels."""

from collections.abc import Callable
from dataclasses import field, replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow._saved import (
    attributes_of,
    compared,
    outcome_attributes,
    outcome_columns,
    parts_of,
    recorded,
)
from curlflow._trees import labelled_leaves, size, take
from curlflow.orbits.events import Passages
from curlflow.outcome import Outcome
from curlflow.system import Args, State, System, known, require_known

# Numbers that a look along a trajectory holds at once.
AT_ONCE = 2**20


@result
class Trajectory:
    """A computed orbit, or a batch of them, made by `integrate` and `iterate`.

    Attributes
    ----------
    ts
        The times saved, shape (times,), in the flow's units; the last one is where the computation ended.
    ys
        The states at those times: the state's pytree, every leaf with a leading time axis, and with a member axis after it if
        the run was a batch. A member that blew up is NaN after its own end; one at a fixed point stays there.
    outcome
        How the run ended: an `Outcome`, or one per member as a tuple if the run was a batch.
    stats
        Evidence: solver, tolerances, and the numbers of steps taken, accepted and rejected.
    system, args
        What was integrated or iterated; None where observables were saved in place of the states, and in a trajectory that
        was reopened without it.
    interpolation, rerun
        What is known of the run between its times: the solver's interpolation, if it was kept, and the same run once more,
        saved at other times; None where nothing is. `sampled` asks them.
    folded
        What `iterate` folded over its steps, by name.
    events
        When each of the `events` that `integrate` was to record was passed, and in what states, by name: `Passages` with
        times `ts` and states `ys`.
    final_state
        The state at the end, also where observables were saved; pass it on to continue. Of a batch, every member's at its own
        end, on a leading axis.
    saved_loss
        The loss as it was saved, of a reopened trajectory; it stands in where there is no system.
    """

    ts: Float[np.ndarray, " times"]
    ys: State
    outcome: Outcome | tuple[Outcome, ...]
    stats: dict[str, Any]
    final_state: State
    system: System | None = field(default=None, compare=False)
    args: Args = field(default=None, compare=False)
    interpolation: Any = field(default=None, compare=False)
    rerun: Callable[[np.ndarray], "Trajectory"] | None = field(default=None, compare=False)
    folded: dict[str, Any] = field(default_factory=dict)
    events: dict[str, Passages] = field(default_factory=dict)
    saved_loss: Float[np.ndarray, "times *members"] | None = field(default=None, compare=False)

    @property
    def is_batch(self) -> bool:
        """Whether the states have a member axis after the time axis."""
        return isinstance(self.outcome, tuple)

    def member(self, index: int) -> "Trajectory":
        """One member of a batch as a trajectory of its own, up to its own end."""
        if not isinstance(self.outcome, tuple):
            raise ValueError(
                "`member` must be asked of a batch, but this trajectory has a single initial condition."
            )
        ys = jtu.tree_map(lambda leaf: leaf[:, index], self.ys)
        kept = np.flatnonzero(_finite_times(ys))
        return Trajectory(
            ts=self.ts[kept],
            ys=take(ys, kept),
            outcome=self.outcome[index],
            stats=self.stats,
            final_state=take(self.final_state, index),
            system=self.system,
            args=self.args,
            rerun=None if self.rerun is None else partial(_member_again, self.rerun, index),
            saved_loss=None if self.saved_loss is None else self.saved_loss[kept, index],
        )

    def __call__(self, t: ArrayLike) -> State:
        """The state at any time or times `t` of the run, by the solver's own interpolation.

        Parameters
        ----------
        t
            A time, or an array of times of shape (times,), between the first and the last.

        Returns
        -------
        PyTree
            The state; with a leading time axis if `t` is an array.

        Raises
        ------
        ValueError
            If the run did not keep dense output, or if a time lies outside it.
        """
        if self.interpolation is None:
            raise ValueError(
                "A trajectory must be dense to be evaluated between its times, but this one is not: "
                "integrate with dense=True (no file keeps that)."
            )
        return _interpolate(self.interpolation, jnp.asarray(self._within(t)))

    def sampled(self, ts: ArrayLike) -> "Trajectory":
        """The same run saved at other times: from the interpolation of a dense trajectory, or by solving once more.

        The solver takes the same steps again, whatever the times, and interpolates in them.

        Parameters
        ----------
        ts
            Times of the run, shape (times,), in any order.

        Raises
        ------
        ValueError
            If a time lies outside the run, or the trajectory is none that `integrate` has made.

        Examples
        --------
        >>> import curlflow as cf, jax.numpy as jnp
        >>> orbit = cf.integrate(cf.toy_flow(), jnp.array([0.5, 0.0]), 6.0, ts=[0.0, 6.0])
        >>> orbit.sampled([1.0, 2.0, 3.0]).ys.shape
        (3, 2)
        """
        ts = np.atleast_1d(self._within(ts))
        if self.interpolation is not None:
            return replace(self, ts=ts, ys=self(ts), interpolation=None, saved_loss=None)
        if self.rerun is None:
            raise ValueError(
                "`sampled` must be asked of a trajectory that `integrate` has made in this session, but this one is not: "
                "nothing is known between its times."
            )
        backwards = self.ts[-1] < self.ts[0]
        ordered, place = np.unique(-ts if backwards else ts, return_inverse=True)
        run = self.rerun(-ordered if backwards else ordered)
        # By NumPy: JAX would compile a program for every number of times.
        ys = jtu.tree_map(lambda leaf: jnp.asarray(np.asarray(leaf)[place]), run.ys)
        return replace(self, ts=ts, ys=ys, saved_loss=None)

    def _within(self, t: ArrayLike) -> Float[np.ndarray, "*times"]:
        """The time or times as an array, if the run has them."""
        times = np.asarray(_checks.float64_array("t", t))
        low, high = sorted((float(self.ts[0]), float(self.ts[-1])))
        if times.ndim > 1 or np.any((times < low) | (times > high)):
            raise ValueError(
                f"`t` must be a time or a list of times between {low:g} and {high:g}, but is {times}."
            )
        return times

    def loss(self) -> Float[Array, "times *members"]:
        """The system's loss at every saved time (and member); of a trajectory reopened without its system, as it was saved.

        Raises
        ------
        ValueError
            If the system has no method `loss`, or there is neither a system nor a saved loss.
        """
        if self.system is None and self.saved_loss is not None:
            return jnp.asarray(self.saved_loss)
        return _along(self._told_by_system("loss"), self.ys, self.is_batch)

    def conserved_drift(self) -> Float[Array, "times *members"]:
        """How far the system's conserved quantities have drifted at every saved time: the integrator's honesty check.

        The largest change of any of them since the first saved time, divided by the largest magnitude of any of them then
        (undivided where all of them are exactly 0 then).

        Raises
        ------
        ValueError
            If the system has no method `conserved`, or there is no system.
        """
        return _drift(self._told_by_system("conserved"), self.ys, self.is_batch)

    def _told_by_system(self, name: str) -> Callable[[State], Any]:
        if self.system is None:
            raise ValueError(
                f"`system` must have a method `{name}`, but this trajectory has no system: observables were saved in place "
                "of states, or it was reopened without (from_xarray takes the system)."
            )
        return require_known(self.system, name)

    def to_xarray(self) -> "xr.Dataset":
        """The trajectory as a labelled dataset: one variable per leaf of the state along `time`, and the loss if it has one.

        A leaf whose name stands for something else already, as `time` does, gets ``y_`` in front of it.
        The outcome stands in the attributes; in a batch, in the variables `ending`, `end_time` and `message` along `member`.
        `.to_netcdf(path, engine="h5netcdf")` on the result writes it to disk; `from_xarray` makes it a trajectory again.
        """
        members = ("member",) if self.is_batch else ()
        variables: dict[str, Any] = {}
        has_loss = self.saved_loss is not None or known(self.system, "loss") is not None
        loss = np.asarray(self.loss()) if has_loss else None
        if loss is not None:
            variables["loss"] = (("time", *members), loss)
        attributes = attributes_of(self.stats)
        if isinstance(self.outcome, tuple):
            variables |= outcome_columns(self.outcome, "member")
        else:
            attributes |= outcome_attributes(self.outcome)
        leaves = labelled_leaves(self.ys, "time", *members, taken=variables)
        dataset = xr.Dataset(leaves | variables, coords={"time": self.ts}, attrs=attributes)
        held = [(self.ts, "time"), (loss, "loss"), *zip(jtu.tree_leaves(self.ys), leaves, strict=True)]
        return recorded(dataset, Trajectory, compared(self) | {"saved_loss": loss}, held)

    @classmethod
    def from_xarray(
        cls, dataset: "xr.Dataset", *, system: System | None = None, args: Args = None
    ) -> "Trajectory":
        """The trajectory of which `to_xarray` made the dataset, number by number.

        Parameters
        ----------
        dataset
            What `to_xarray` returned, or what was read from a file of it. A state of a class of your own needs that class
            imported where it was.
        system, args
            What was integrated or iterated, which no file holds. It is needed for `conserved_drift`, and gives the `loss` of
            states that were not saved; without it, `loss` is the saved one.

        Returns
        -------
        Trajectory
            Equal to the one that was saved, but without its dense output.

        Raises
        ------
        ValueError
            If the dataset is none of a trajectory, or no longer holds all of it.

        Examples
        --------
        >>> import curlflow as cf, jax.numpy as jnp, tempfile, xarray as xr
        >>> flow, path = cf.toy_flow(flip="readout"), f"{tempfile.mkdtemp()}/orbit.nc"
        >>> orbit = cf.integrate(flow, jnp.array([0.5, 1.5]), 20.0)
        >>> orbit.to_xarray().to_netcdf(path, engine="h5netcdf")
        >>> again = cf.Trajectory.from_xarray(xr.load_dataset(path, engine="h5netcdf"))
        >>> again == orbit, bool((again.loss() == orbit.loss()).all())
        (True, True)
        """
        return cls(**parts_of(dataset, Trajectory), system=system, args=args)

    def __str__(self) -> str:
        span = f"t = {self.ts[0]:g} … {self.ts[-1]:g}, {len(self.ts)} times, {self.stats['steps']} steps"
        if not isinstance(self.outcome, tuple):
            return f"Trajectory: {span}; {self.outcome}"
        endings = [outcome.ending.value for outcome in self.outcome]
        counts = ", ".join(f"{endings.count(ending)} {ending}" for ending in dict.fromkeys(endings))
        return f"Trajectory of {len(endings)} members: {span}; {counts}"


def _member_again(rerun: Callable[[np.ndarray], Trajectory], index: int, ts: np.ndarray) -> Trajectory:
    return rerun(ts).member(index)


@eqx.filter_jit
def _along(function: Callable[[State], Array], ys: State, is_batch: bool) -> Array:
    """The function's value at every time (and member)."""
    members = jtu.tree_leaves(ys)[0].shape[1] if is_batch else 1

    def along(ys: State) -> Array:
        return jax.lax.map(function, ys, batch_size=_times_at_once(function, ys, members))

    return jax.vmap(along, in_axes=1, out_axes=1)(ys) if is_batch else along(ys)


@eqx.filter_jit
def _drift(conserved: Callable[[State], PyTree[Array]], ys: State, is_batch: bool) -> Array:
    """The largest change since the first time, relative. All times' quantities of a network would not fit into memory."""
    members = jtu.tree_leaves(ys)[0].shape[1] if is_batch else 1

    def drift(ys: State) -> Array:
        first = conserved(take(ys, 0))

        def change(y: State) -> Array:
            return optx.max_norm(jtu.tree_map(jnp.subtract, conserved(y), first))

        largest = optx.max_norm(first)
        changes = jax.lax.map(change, ys, batch_size=_times_at_once(conserved, ys, members))
        return changes / jnp.where(largest > 0, largest, 1.0)

    return jax.vmap(drift, in_axes=1, out_axes=1)(ys) if is_batch else drift(ys)


def _times_at_once(function: Callable[[State], Any], ys: State, members: int) -> int:
    """For how many times at once to evaluate a function of the state: as many as hardly need memory."""
    one = take(ys, 0)
    values = jax.tree.leaves(jax.eval_shape(function, one))
    numbers = max(size(one), sum(value.size for value in values))
    return min(max(AT_ONCE // (numbers * members), 1), len(jtu.tree_leaves(ys)[0]))


@eqx.filter_jit
def _interpolate(interpolation: Any, t: Array) -> State:
    return jax.vmap(interpolation.evaluate)(t) if t.ndim else interpolation.evaluate(t)


def _finite_times(ys: State) -> np.ndarray:
    """Which saved times hold a finite state, shape (times,)."""
    leaves = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jtu.tree_leaves(ys)]
    return np.all([np.isfinite(leaf).all(axis=1) for leaf in leaves], axis=0)
