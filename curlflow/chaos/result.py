"""What a computation of Lyapunov exponents hands back: the exponents, how far to trust them, and how they came about."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, fields
from typing import Any, NamedTuple, overload

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Bool, Float, Int

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
from curlflow.chaos import ending, remarks, statistics
from curlflow.chaos.engine import blocks, frames, runner
from curlflow.chaos.engine.runner import Run, intervals
from curlflow.chaos.engine.tangent_system import DEFAULT_RTOL, RunState, TangentSystem
from curlflow.chaos.zeros import Zeros, count_zeros
from curlflow.outcome import Outcome
from curlflow.system import Args, State, System, known

# The fields of a spectrum that are states.
STATES = ("initial_state", "final_state", "final_frame")


@result
class LyapunovSpectrum:
    """Lyapunov exponents along one orbit, made by `lyapunov_spectrum`.

    Attributes
    ----------
    exponents
        Descending, shape (k,), in natural logarithms per unit time (per step for maps). NaN if the run ended before the first
        interval did; −∞ where the derivative vanishes on the orbit (superstable), or cannot be told from 0.
    stderr
        Their standard errors, shape (k,), from block averages; they account for the correlation of successive values.
        Infinite for runs of fewer than four intervals.
    times
        The ends of the intervals averaged over, shape (intervals,).
    local
        The exponents of every interval alone, shape (intervals, k): their averages are `exponents`.
    n
        How many exponents the system has: the size of its state.
    mean_divergence
        The time average of tr J along the orbit (of ln abs(det J) for a map), which the sum of all n exponents must equal;
        None if it was not computed.
    outcome
        Completed (the two halves of the run agree within their errors) or not converged; or blew up, reached a fixed point,
        reached a cycle, or why the solver stopped.
    initial_state
        The state before the transient.
    final_state
        The state at the end.
    final_frame
        The tangent vectors at the end, orthonormal: like the state, with an axis of length k before the last one of every
        leaf.
    final_time
        The time at the end.
    stats
        Evidence: solver, tolerances, steps, the time between two QRs in the end.
    tangent
        The tangent system that was stepped, of a member of an ensemble its own; None in a spectrum reopened without it.
    record
        The engine's own record, from which the run goes on; None in a reopened spectrum.
    member
        Which member of an ensemble this is; None for a run of its own.
    """

    exponents: Float[np.ndarray, " k"]
    stderr: Float[np.ndarray, " k"]
    times: Float[np.ndarray, " intervals"]
    local: Float[np.ndarray, "intervals k"]
    n: int
    mean_divergence: float | None
    outcome: Outcome
    initial_state: State
    final_state: State
    final_frame: State
    final_time: float
    stats: dict[str, Any]
    tangent: TangentSystem | None = field(default=None, compare=False)
    record: Run | None = field(default=None, compare=False)
    member: int | None = field(default=None, compare=False)

    @property
    def tangent_system(self) -> TangentSystem:
        """The tangent system that was stepped; of a member of an ensemble, its own.

        Raises
        ------
        ValueError
            If the spectrum was reopened without a system.
        """
        if self.tangent is None:
            raise ValueError(
                "A spectrum must know its system for this, but this one was reopened without: from_xarray takes the system."
            )
        return self.tangent

    @property
    def run(self) -> Run:
        """The engine's own record, from which the run goes on.

        Raises
        ------
        ValueError
            If the spectrum was reopened.
        """
        return _not_reopened(self.record)

    @property
    def dt(self) -> float:
        """The time between two values of the history."""
        return self.stats["dt"]

    @property
    def T(self) -> float:
        """The time averaged over."""
        return len(self.times) * self.dt

    @property
    def history(self) -> Float[np.ndarray, "intervals k"]:
        """The exponents as they would have been, had the run ended at each of `times`."""
        return np.cumsum(self.local, axis=0) / np.arange(1, len(self.local) + 1)[:, None]

    @property
    def resolution(self) -> Float[np.ndarray, " k"]:
        """How far from 0 an exponent must be to count as different from it.

        Three standard errors; log(T/dt)/T, because neighbouring orbits that separate like a power of time show that much; and
        the solver's error.
        """
        # A map's steps have no error but rounding; what is counted then is the default of flows.
        rtol = self.stats.get("rtol", DEFAULT_RTOL)
        return statistics.resolution(self.stderr, len(self.local), self.dt, rtol)

    @property
    def kaplan_yorke(self) -> float | None:
        """The Kaplan–Yorke dimension; exponents within their resolution of 0 count as 0.

        None where not enough exponents were computed to tell, or their errors are not known.
        """
        rounded = np.where(np.abs(self.exponents) <= self.resolution, 0.0, self.exponents)
        return statistics.kaplan_yorke(np.where(np.isfinite(self.stderr), rounded, np.nan), self.n)

    @property
    def entropy(self) -> tuple[float, float]:
        """The sum of the positive exponents and its standard error (Pesin's value of the Kolmogorov–Sinai entropy).

        A lower bound where fewer than all positive exponents were computed.
        """
        positive = self.exponents > self.resolution
        if not positive.any():
            return 0.0, 0.0
        total = self.local[:, positive].sum(axis=1, keepdims=True)
        return float(total.mean()), float(statistics.standard_error(total)[0])

    def finite_time(self, window: float) -> Float[np.ndarray, "windows k"]:
        """The exponents of consecutive windows of about the given length, a whole number of intervals each.

        Raises
        ------
        ValueError
            If `window` is not positive or longer than the run.
        """
        width = max(round(_checks.positive_number("window", window) / self.dt), 1)
        if width > len(self.local):
            raise ValueError(f"`window` must not be longer than the run, T = {self.T:g}, but is {window:g}.")
        count = len(self.local) // width
        return self.local[: count * width].reshape(count, width, -1).mean(axis=1)

    def zeros(
        self,
        *,
        conserved: Callable[[State], Any] | None = None,
        symmetries: Callable[[State], State] | None = None,
    ) -> Zeros:
        """How many exponents of this flow must be zero, and why, counted at the final state.

        Parameters
        ----------
        conserved
            Function of the state whose values, any pytree, are constant along orbits; None means the system's own method
            `conserved`, if it has one.
        symmetries
            Function from the state to the directions in which continuous symmetries move it, stacked on a leading axis of
            every leaf; None means the system's own method `symmetries`, if it has one.

        Raises
        ------
        ValueError
            If the system is a map, or has too many conserved quantities to count, or if the spectrum was reopened without its
            system.
        """
        tangent, y, t = self.tangent_system, self.final_state, self.final_time
        system: Any = tangent.system
        if tangent.is_map:
            raise ValueError("`zeros` must be asked of a flow, but this spectrum is that of a map.")
        looks = ending.look(tangent, self.initial_state, y, np.array(t))
        return count_zeros(
            lambda y: system(t, y, tangent.args),
            y,
            at_rest=bool(looks.at_rest),
            autonomous=bool(looks.autonomous),
            conserved=known(system, "conserved") if conserved is None else conserved,
            symmetries=known(system, "symmetries") if symmetries is None else symmetries,
            observed=int(np.sum(np.abs(self.exponents) <= self.resolution)),
        )

    def extend(self, T: float, *, progress: bool = False) -> "LyapunovSpectrum":
        """Go on until the average covers the time T: the result is exactly that of one long run.

        Raises
        ------
        ValueError
            If T is not longer than what was averaged already, if the run ended early, if this is one member of an ensemble
            (extend the ensemble), or if the spectrum was reopened.
        """
        if self.member is not None:
            raise ValueError(
                "`extend` must be asked of a whole ensemble, but this spectrum is one of its members."
            )
        return spectrum_of(_extended(self.run, T, progress))

    def to_xarray(self) -> "xr.Dataset":
        """Exponents, errors, local exponents and history along `exponent` and `time`; the rest as attributes."""
        optional = {"kaplan_yorke": self.kaplan_yorke, "mean_divergence": self.mean_divergence} | self.stats
        dataset = xr.Dataset(
            {
                "exponents": ("exponent", self.exponents),
                "stderr": ("exponent", self.stderr),
                "local": (("time", "exponent"), self.local),
                "history": (("time", "exponent"), self.history),
            },
            coords={"exponent": np.arange(1, len(self.exponents) + 1), "time": self.times},
            attrs={"n": self.n, **outcome_attributes(self.outcome), **attributes_of(optional)},
        )
        held = [(getattr(self, name), name) for name in ("exponents", "stderr", "local")]
        return recorded(dataset, LyapunovSpectrum, compared(self), [(self.times, "time"), *held])

    @classmethod
    def from_xarray(
        cls, dataset: "xr.Dataset", *, system: System | TangentSystem | None = None, args: Args = None
    ) -> "LyapunovSpectrum":
        """The spectrum of which `to_xarray` made the dataset, number by number.

        Parameters
        ----------
        dataset
            What `to_xarray` returned, or what was read from a file of it. A state of a class of your own needs that class
            imported where it was.
        system, args
            The flow or map, which no file holds, or the `TangentSystem`, if `t0` or the solver were not the default. Only
            `zeros` needs it.

        Returns
        -------
        LyapunovSpectrum
            Equal to the one that was saved, but it cannot be extended.

        Raises
        ------
        ValueError
            If the dataset is none of a spectrum, or no longer holds all of it.

        Examples
        --------
        >>> import curlflow as cf, jax.numpy as jnp
        >>> flow = cf.toy_flow(flip="readout")
        >>> spectrum = cf.lyapunov_spectrum(flow, jnp.array([0.5, 2.0]), T=60.0)
        >>> again = cf.LyapunovSpectrum.from_xarray(spectrum.to_xarray(), system=flow)
        >>> again == spectrum, again.zeros() == spectrum.zeros()
        (True, True)
        """
        parts = parts_of(dataset, LyapunovSpectrum)
        return cls(**parts, tangent=_tangent_system(system, args, parts["stats"]))

    def __str__(self) -> str:
        pairs = zip(self.exponents, self.stderr, strict=True)
        shown = [f"{value:.4g} ± {error:.1g}" for value, error in pairs]
        if len(shown) > 6:
            shown = [*shown[:4], "…", shown[-1]]
        dimension = "" if self.kaplan_yorke is None else f", Kaplan–Yorke dimension {self.kaplan_yorke:.4g}"
        count = f"{len(self.exponents)} of {self.n} exponents over T = {self.T:g}"
        return f"LyapunovSpectrum: {count}: {', '.join(shown)}{dimension}; {self.outcome}"


@result
class LyapunovEnsemble(Sequence[LyapunovSpectrum]):
    """Lyapunov exponents of several orbits computed together; a sequence of `LyapunovSpectrum`, each with its own outcome.

    Attributes
    ----------
    members
        The members' spectra; the object itself is a sequence of them. A member that blew up has the averages up to its own
        end.
    record
        The engine's own record, from which the ensemble goes on; None in a reopened one.
    """

    members: tuple[LyapunovSpectrum, ...]
    record: Run | None = field(default=None, compare=False)

    @property
    def run(self) -> Run:
        """The engine's own record, from which the ensemble goes on.

        Raises
        ------
        ValueError
            If the ensemble was reopened.
        """
        return _not_reopened(self.record)

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> LyapunovSpectrum: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[LyapunovSpectrum, ...]: ...

    def __getitem__(self, index: int | slice) -> LyapunovSpectrum | tuple[LyapunovSpectrum, ...]:
        return self.members[index]

    def __iter__(self) -> Iterator[LyapunovSpectrum]:
        return iter(self.members)

    @property
    def exponents(self) -> Float[np.ndarray, "members k"]:
        """The members' exponents."""
        return np.stack([spectrum.exponents for spectrum in self.members])

    @property
    def stderr(self) -> Float[np.ndarray, "members k"]:
        """The members' standard errors."""
        return np.stack([spectrum.stderr for spectrum in self.members])

    @property
    def outcome(self) -> tuple[Outcome, ...]:
        """The members' outcomes."""
        return tuple(spectrum.outcome for spectrum in self.members)

    def extend(self, T: float, *, progress: bool = False) -> "LyapunovEnsemble":
        """Go on until the averages cover the time T, as `LyapunovSpectrum.extend` does."""
        return ensemble_of(_extended(self.run, T, progress))

    def to_xarray(self) -> "xr.Dataset":
        """Exponents, errors and endings along `member` and `exponent`; the local exponents along `time` too.

        Local exponents are NaN after the first `intervals` of each member.
        """
        columns = self._columns()
        dataset = xr.Dataset(
            {
                "exponents": (("member", "exponent"), columns["exponents"]),
                "stderr": (("member", "exponent"), columns["stderr"]),
                "local": (("member", "time", "exponent"), columns["local"]),
                "intervals": ("member", columns["intervals"]),
                **outcome_columns(self.outcome, "member"),
            },
            coords={
                "exponent": np.arange(1, columns["exponents"].shape[1] + 1),
                "member": np.arange(len(self)),
                "time": columns["times"],
            },
        )
        held = [(columns[name], name) for name in ("exponents", "stderr", "local", "intervals")]
        return recorded(dataset, LyapunovEnsemble, columns, [(columns["times"], "time"), *held])

    def _columns(self) -> dict[str, Any]:
        """Every field of the spectra, of all members together: their arrays stacked, all else listed."""
        listed = {
            each.name: [getattr(spectrum, each.name) for spectrum in self.members]
            for each in fields(LyapunovSpectrum)
            if each.compare
        }
        intervals = np.array([len(times) for times in listed["times"]])
        times = max(listed["times"], key=len)
        local = np.full((len(self), len(times), listed["exponents"][0].size), np.nan)
        for own, count, row in zip(listed["local"], intervals, local, strict=True):
            row[:count] = own
        states = {name: jtu.tree_map(lambda *leaves: jnp.stack(leaves), *listed[name]) for name in STATES}
        arrays = {"exponents": self.exponents, "stderr": self.stderr, "local": local, "times": times}
        return listed | states | arrays | {"intervals": intervals}

    @classmethod
    def from_xarray(
        cls, dataset: "xr.Dataset", *, system: System | TangentSystem | None = None, args: Args = None
    ) -> "LyapunovEnsemble":
        """The ensemble of which `to_xarray` made the dataset, number by number.

        Parameters
        ----------
        dataset, system, args
            As for `LyapunovSpectrum.from_xarray`; of an ensemble of systems, their `TangentSystem`.

        Returns
        -------
        LyapunovEnsemble
            Equal to the one that was saved, but it cannot be extended.

        Raises
        ------
        ValueError
            If the dataset is none of an ensemble, or no longer holds all of it.

        Examples
        --------
        >>> import curlflow as cf, jax.numpy as jnp
        >>> starts = jnp.array([[0.5, 2.0], [2.0, 0.5]])
        >>> several = [cf.lyapunov_spectrum(cf.toy_flow(), start, T=20.0) for start in starts]
        >>> spectra = cf.chaos.LyapunovEnsemble(tuple(several))
        >>> cf.chaos.LyapunovEnsemble.from_xarray(spectra.to_xarray()) == spectra
        True
        """
        columns = parts_of(dataset, LyapunovEnsemble)
        counts = columns.pop("intervals").tolist()
        members = []
        for i, count in enumerate(counts):
            own = {name: jtu.tree_map(lambda leaf, i=i: leaf[i], columns[name]) for name in STATES}
            own |= {"times": columns["times"][:count], "local": columns["local"][i, :count]}
            own |= {name: column[i] for name, column in columns.items() if name not in own}
            tangent = _tangent_system(system, args, own["stats"], member=i)
            members.append(LyapunovSpectrum(**own, tangent=tangent))
        return cls(tuple(members))

    def __str__(self) -> str:
        counts = Counter(outcome.ending.value for outcome in self.outcome)
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        leading = self.exponents[:, 0]
        known = leading[~np.isnan(leading)]
        span = f"largest exponents {known.min():.4g} … {known.max():.4g}" if known.size else "no exponents"
        return f"LyapunovEnsemble of {len(self)} members: {span}; {listed}"


def spectrum_of(run: Run) -> LyapunovSpectrum:
    """The spectrum of one run."""
    looks = ending.look(run.tangent, run.first, run.state.y, np.asarray(run.state.time))
    settings = _Settings.of(run)
    length = int(_before_escape(run, settings, np.asarray(run.state.escape)))
    averages = _averages(run.log_growth[:length, :, None] / settings.dt)
    return _spectrum(run, settings, run.state, looks, *averages)


def ensemble_of(run: Run) -> LyapunovEnsemble:
    """The spectra of all members of an ensemble; those that lasted equally long are averaged at once."""
    state = jtu.tree_map(np.asarray, run.state)
    looks = ending.look(run.tangent, run.first, run.state.y, state.time[blocks.block_of_members(state)])
    settings = _Settings.of(run)
    lengths, members = _lengths(run, state, settings), {}
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        averages = _averages(run.log_growth[:length][..., chosen] / settings.dt)
        for i, member in enumerate(chosen):
            of_member = (part[..., [i]] for part in averages)
            own_looks = ending.Looks(*(part[member] for part in looks))
            own_state = blocks.member_state(state, int(member))
            members[int(member)] = _spectrum(
                run, settings, own_state, own_looks, *of_member, member=int(member)
            )
    return LyapunovEnsemble(tuple(members[member] for member in sorted(members)), run)


class _Settings(NamedTuple):
    """Numbers of a run, read off it once: what all members of an ensemble share."""

    dt: float
    times: Float[np.ndarray, " intervals"]
    tolerances: dict[str, float]
    solver: str | None

    @classmethod
    def of(cls, run: Run) -> "_Settings":
        """The settings of a run."""
        tangent, dt = run.tangent, float(run.tangent.dt)
        times = float(tangent.t0) + (run.transient + np.arange(1, len(run.log_growth) + 1)) * dt
        tolerances = {"rtol": float(tangent.rtol), "atol": float(tangent.atol)}
        return cls(dt, times, tolerances, None if tangent.is_map else type(tangent.solver).__name__)


def _lengths(run: Run, state: RunState, settings: _Settings) -> Int[np.ndarray, " members"]:
    """How many intervals every member averages over: up to its own escape, or to the end of its block."""
    done = state.interval[blocks.block_of_members(state)] - run.transient
    return np.minimum(_before_escape(run, settings, np.asarray(state.escape)), np.maximum(done, 0))


def _before_escape(
    run: Run, settings: _Settings, escape: Float[np.ndarray, "*members"]
) -> Int[np.ndarray, "*members"]:
    """How many intervals end before a time of escape, which the solver of a flow knows to its tolerance only."""
    margins = 0.0 if run.tangent.is_map else 10 * settings.tolerances["rtol"] * np.abs(settings.times)
    return np.asarray(np.sum(np.expand_dims(escape, -1) >= settings.times + margins, axis=-1))


def _averages(
    rates: Float[np.ndarray, "intervals k runs"],
) -> tuple[Float[np.ndarray, "intervals k runs"], Float[np.ndarray, "k runs"], Bool[np.ndarray, "k runs"]]:
    """Local exponents in the order of descending averages, standard errors, and whether both halves agree."""
    count, k, runs = rates.shape
    if count:
        order = np.argsort(-rates.mean(axis=0), axis=0, kind="stable")
        rates = np.take_along_axis(rates, order[None], axis=1)
    columns = rates.reshape(count, k * runs)
    stderr = statistics.standard_error(columns)
    agree = statistics.is_stationary(columns, stderr)
    return rates, stderr.reshape(k, runs), agree.reshape(k, runs)


def _spectrum(
    run: Run,
    settings: _Settings,
    state: RunState,
    looks: ending.Looks,
    local: Float[np.ndarray, "intervals k 1"],
    stderr: Float[np.ndarray, "k 1"],
    agree: Bool[np.ndarray, "k 1"],
    member: int | None = None,
) -> LyapunovSpectrum:
    local, stderr, agree = np.ascontiguousarray(local[..., 0]), stderr[..., 0], agree[..., 0]
    count = len(local)
    resolution = statistics.resolution(stderr, count, settings.dt, settings.tolerances["rtol"])
    alone = run.tangent if member is None else run.tangent.of_member(member)
    outcome = ending.outcome_of(alone, state, looks, local, agree, resolution)
    superstable = remarks.superstable(alone, state, max(int(looks.cycle), int(looks.at_rest)), local)
    local[-1:, superstable], stderr = -np.inf, np.where(superstable, 0.0, stderr)
    exponents = local.mean(axis=0) if count else np.full(len(stderr), np.nan)
    divergence = _mean_divergence(run, settings, count, member)
    notes = remarks.remarks(run, state, exponents, divergence, count)
    return LyapunovSpectrum(
        exponents=exponents,
        stderr=stderr,
        times=settings.times[:count],
        local=local,
        n=run.n,
        mean_divergence=divergence,
        outcome=Outcome(outcome.ending, outcome.time, " ".join([outcome.message, *notes])),
        initial_state=run.first if member is None else _of_member(run.first, member),
        final_state=jtu.tree_map(jnp.asarray, state.y),
        final_frame=_final_frame(run.tangent, state),
        final_time=float(state.time),
        stats=_stats(settings, state),
        tangent=alone,
        record=run,
        member=member,
    )


def _final_frame(tangent: TangentSystem, state: RunState) -> State:
    """The tangent vectors, orthonormal in the units of the state whatever those are in which they were kept."""
    V = jtu.tree_map(jnp.asarray, state.frame)
    return V if tangent.units is None else frames.orthonormalise(tangent.in_state_units(V), True)[0]


def _mean_divergence(run: Run, settings: _Settings, count: int, member: int | None) -> float | None:
    if not run.tangent.with_divergence or not count:
        return None
    growth = run.volume_growth[:count] if member is None else run.volume_growth[:count, member]
    return float(growth.mean()) / settings.dt


def _stats(settings: _Settings, state: RunState) -> dict[str, Any]:
    pieces = {"steps": int(state.steps), "qr_interval": settings.dt / int(state.pieces)}
    common = {"dt": settings.dt} | pieces
    return common if settings.solver is None else {"solver": settings.solver} | settings.tolerances | common


def _of_member(states: State, member: int) -> State:
    """One member's of several states, members last."""
    return jtu.tree_map(lambda leaf: jnp.asarray(np.asarray(leaf)[..., member]), states)


def _not_reopened(record: Run | None) -> Run:
    if record is None:
        raise ValueError(
            "A run must be the one that was computed to go on or to be looked into, but this one was reopened: no file keeps "
            "the engine's record. Compute it again, or a longer one from the start."
        )
    return record


def _tangent_system(
    system: System | TangentSystem | None, args: Args, stats: dict[str, Any], member: int | None = None
) -> TangentSystem | None:
    """The tangent system of a reopened spectrum, made of a flow or map with what its statistics say."""
    if isinstance(system, TangentSystem):
        return system if member is None else system.of_member(member)
    if system is None:
        return None
    tolerances = {name: stats[name] for name in ("rtol", "atol") if name in stats}
    return TangentSystem(system, args=args, dt=stats["dt"], **tolerances)


def _extended(run: Run, T: float, progress: bool) -> Run:
    dt, done = float(run.tangent.dt), len(run.log_growth)
    wanted = intervals(_checks.positive_number("T", T), dt)
    if wanted <= done:
        raise ValueError(f"`T` must be longer than the time {done * dt:g} already averaged, but is {T:g}.")
    if not run.can_go_on:
        raise ValueError("A run must be able to go on to be extended, but this one has ended early.")
    return runner.go_on(run, wanted, progress)
