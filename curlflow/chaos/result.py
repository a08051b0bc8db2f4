"""What a computation of Lyapunov exponents hands back: the exponents, how far to trust them, and how they came about."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PyTree

from curlflow import _checks
from curlflow.chaos import ending, statistics
from curlflow.chaos.engine import blocks, runner
from curlflow.chaos.engine.problem import Problem, State
from curlflow.chaos.zeros import Zeros, count_zeros
from curlflow.outcome import Ending, Outcome


@dataclass(frozen=True, repr=False)
class LyapunovSpectrum:
    """Lyapunov exponents along one orbit, made by `lyapunov_spectrum`.

    Attributes
    ----------
    exponents
        Descending, shape (k,), in natural logarithms per unit time (per step for maps).
    stderr
        Their standard errors, shape (k,), from block averages; they account for the correlation of successive values.
    times
        The ends of the intervals averaged over, shape (intervals,).
    local
        The exponents of every interval alone, shape (intervals, k): their averages are `exponents`.
    history
        The exponents as they would have been, had the run ended at each of `times`, shape (intervals, k).
    n
        How many exponents the system has: the size of its state.
    mean_divergence
        The time average of tr J along the orbit, which the sum of all n exponents must equal; None if it was not computed.
    kaplan_yorke, entropy
        Kaplan–Yorke dimension; sum of the positive exponents with its standard error.
    outcome
        Completed (the two halves of the run agree within their errors) or not converged; or blew up, reached a fixed point,
        reached a cycle, or why the solver stopped.
    final_state
        The state at the end.
    stats
        Evidence: solver, tolerances, steps, the time between two QRs in the end.
    run
        The engine's own record, from which all this is read and from which a run goes on.
    """

    run: runner.Run
    _member: int | None = field(default=None)

    @cached_property
    def _series(self) -> tuple[Float[np.ndarray, "intervals k"], Float[np.ndarray, " intervals"]]:
        """Growth of the tangent vectors and of volumes in every interval; of a member, up to its own end."""
        growth, volume = self.run.log_growth, self.run.volume_growth
        if self._member is None:
            return growth, volume
        inside = int(np.sum(self._all_times <= self._escape))
        kept = slice(min(inside, max(int(self._state.interval) - self.run.transient, 0)))
        return growth[kept, :, self._member], volume[kept, self._member]

    @property
    def _all_times(self) -> Float[np.ndarray, " intervals"]:
        problem = self.run.problem
        count = self.run.transient + np.arange(1, len(self.run.log_growth) + 1)
        return float(problem.t0) + count * float(problem.dt)

    @property
    def _escape(self) -> float:
        return float(self._state.escape)

    @cached_property
    def _state(self) -> State:
        """Where this orbit stands."""
        return self.run.state if self._member is None else blocks.member_state(self.run.state, self._member)

    @property
    def dt(self) -> float:
        """The time between two values of the history."""
        return float(self.run.problem.dt)

    @property
    def n(self) -> int:
        """How many exponents the system has."""
        return self.run.n

    @property
    def times(self) -> Float[np.ndarray, " intervals"]:
        """The ends of the intervals averaged over."""
        return self._all_times[: len(self._series[0])]

    @property
    def T(self) -> float:
        """The time averaged over."""
        return len(self.times) * self.dt

    @cached_property
    def local(self) -> Float[np.ndarray, "intervals k"]:
        """The exponents of every interval alone."""
        rates = self._series[0] / self.dt
        return rates[:, np.argsort(-rates.mean(axis=0), kind="stable")] if len(rates) else rates

    @cached_property
    def exponents(self) -> Float[np.ndarray, " k"]:
        """The exponents, descending; NaN if the run ended before the first interval did."""
        return self.local.mean(axis=0) if len(self.local) else np.full(self.local.shape[1], np.nan)

    @cached_property
    def stderr(self) -> Float[np.ndarray, " k"]:
        """Standard errors of the exponents; infinite for runs of fewer than four intervals."""
        return statistics.standard_error(self.local)

    @property
    def history(self) -> Float[np.ndarray, "intervals k"]:
        """The exponents as they would have been, had the run ended at each of `times`."""
        return np.cumsum(self.local, axis=0) / np.arange(1, len(self.local) + 1)[:, None]

    @property
    def mean_divergence(self) -> float | None:
        """The time average of tr J, or of ln abs(det J) for a map."""
        volume = self._series[1]
        return float(volume.mean()) / self.dt if self.run.problem.with_divergence and len(volume) else None

    @property
    def resolution(self) -> Float[np.ndarray, " k"]:
        """How far from 0 an exponent must be to count as different from it.

        Three standard errors; log(T/dt)/T, because neighbouring orbits that separate like a power of time show that much; and
        the solver's error.
        """
        algebraic = math.log(len(self.local) + 1) / max(self.T, self.dt)
        return 3 * self.stderr + algebraic + 10 * float(self.run.problem.rtol)

    @property
    def kaplan_yorke(self) -> float | None:
        """The Kaplan–Yorke dimension; exponents within their resolution of 0 count as 0.

        None where not enough exponents were computed to tell.
        """
        rounded = np.where(np.abs(self.exponents) <= self.resolution, 0.0, self.exponents)
        return statistics.kaplan_yorke(rounded, self.n)

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

    @property
    def final_state(self) -> PyTree[Array]:
        """The state at the end."""
        return jtu.tree_map(jnp.asarray, self._state.y)

    @property
    def final_frame(self) -> PyTree[Array]:
        """The tangent vectors at the end: like the state, with an axis of length k before the last one of every leaf."""
        return jtu.tree_map(jnp.asarray, self._state.frame)

    @property
    def stats(self) -> dict[str, Any]:
        """Evidence: solver, tolerances, steps, the time between two QRs in the end."""
        problem, state = self.run.problem, self._state
        common = {"dt": self.dt, "steps": int(state.steps), "qr_interval": self.dt / int(state.pieces)}
        if problem.solver is None:
            return common
        solver = {
            "solver": type(problem.solver).__name__,
            "rtol": float(problem.rtol),
            "atol": float(problem.atol),
        }
        return solver | common

    @cached_property
    def outcome(self) -> Outcome:
        """How the run ended."""
        problem, t = self._own_problem, float(self._state.time)
        early = ending.early_end(problem, self._state, self._escape)
        if early is not None:
            return early
        if ending.is_at_rest(problem, self.final_state, t):
            message = f"At t = {t:.6g} the state is at rest: the exponents are those of a fixed point."
            return Outcome(Ending.FIXED_POINT, t, message)
        steps = ending.cycle_length(problem, self.final_state, t) if problem.solver is None else 0
        if steps:
            message = f"At t = {t:.6g} the state repeats itself every {steps} steps."
            return Outcome(Ending.CYCLE, t, message)
        agree = statistics.is_stationary(self.local, self.stderr)
        if not agree.all() or len(self.times) < statistics.FEWEST_INTERVALS:
            message = (
                f"The averages over the two halves of the run differ by more than their errors in {int((~agree).sum())} of "
                f"{len(agree)} exponents. Take a longer `T`, or a longer `Ttr` if the start was far from the attractor."
            )
            return Outcome(Ending.NOT_CONVERGED, t, message)
        if self._looks_like_a_cycle():
            message = f"One exponent is 0 and the others are negative over T = {self.T:g}: the orbit is a limit cycle."
            return Outcome(Ending.CYCLE, t, message)
        return Outcome(
            Ending.COMPLETED, t, f"The two halves of T = {self.T:g} agree within their standard errors."
        )

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
        conserved: Callable[[PyTree[Array]], Any] | None = None,
        symmetries: Callable[[PyTree[Array]], PyTree[Array]] | None = None,
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
            If the system is a map, or has too many conserved quantities to count.
        """
        problem, t = self._own_problem, float(self._state.time)
        if problem.solver is None:
            raise ValueError("`zeros` must be asked of a flow, but this spectrum is that of a map.")
        system, y = problem.system, self.final_state
        return count_zeros(
            lambda y: system(t, y, problem.args),
            y,
            at_rest=ending.is_at_rest(problem, y, t),
            autonomous=ending.is_autonomous(problem, y, t),
            conserved=getattr(system, "conserved", None) if conserved is None else conserved,
            symmetries=getattr(system, "symmetries", None) if symmetries is None else symmetries,
            observed=int(np.sum(np.abs(self.exponents) <= self.resolution)),
        )

    def extend(self, T: float, *, progress: bool = False) -> "LyapunovSpectrum":
        """Go on until the average covers the time T: the result is exactly that of one long run.

        Raises
        ------
        ValueError
            If T is not longer than what was averaged already, if the run ended early, or if this is one member of an ensemble
            (extend the ensemble).
        """
        if self._member is not None:
            raise ValueError(
                "`extend` must be asked of a whole ensemble, but this spectrum is one of its members."
            )
        return LyapunovSpectrum(_extended(self.run, T, progress))

    def to_xarray(self) -> xr.Dataset:
        """Exponents, errors, local exponents and history along `exponent` and `time`; the rest as attributes."""
        attributes = {"n": self.n, "outcome": str(self.outcome), "ending": str(self.outcome.ending)}
        optional = {"kaplan_yorke": self.kaplan_yorke, "mean_divergence": self.mean_divergence}
        attributes |= {name: value for name, value in (optional | self.stats).items() if value is not None}
        return xr.Dataset(
            {
                "exponents": ("exponent", self.exponents),
                "stderr": ("exponent", self.stderr),
                "local": (("time", "exponent"), self.local),
                "history": (("time", "exponent"), self.history),
            },
            coords={"exponent": np.arange(1, len(self.exponents) + 1), "time": self.times},
            attrs=attributes,
        )

    def __str__(self) -> str:
        pairs = zip(self.exponents, self.stderr, strict=True)
        shown = [f"{value:.4g} ± {error:.1g}" for value, error in pairs]
        if len(shown) > 6:
            shown = [*shown[:4], "…", shown[-1]]
        dimension = "" if self.kaplan_yorke is None else f", Kaplan–Yorke dimension {self.kaplan_yorke:.4g}"
        count = f"{len(self.exponents)} of {self.n} exponents over T = {self.T:g}"
        return f"LyapunovSpectrum: {count}: {', '.join(shown)}{dimension}; {self.outcome}"

    __repr__ = __str__

    @property
    def _own_problem(self) -> Problem:
        """The problem as this orbit sees it: of an ensemble of systems, its member's own."""
        problem = self.run.problem
        if self._member is None or problem.members != "systems":
            return problem

        def own(leaf: Any) -> Any:
            return leaf[self._member] if eqx.is_array(leaf) else leaf

        pair = jtu.tree_map(own, (problem.system, problem.args))
        return eqx.tree_at(lambda p: (p.system, p.args), problem, pair, is_leaf=lambda x: x is None)

    def _looks_like_a_cycle(self) -> bool:
        problem = self._own_problem
        if problem.solver is None or len(self.exponents) < 2:
            return False
        zero, next_one = self.exponents[:2]
        pattern = abs(zero) <= self.resolution[0] and next_one < -self.resolution[1]
        return bool(pattern) and ending.is_autonomous(problem, self.final_state, float(self._state.time))


@dataclass(frozen=True, repr=False)
class LyapunovEnsemble:
    """Lyapunov exponents of several orbits computed together; a sequence of `LyapunovSpectrum`, each with its own outcome.

    Attributes
    ----------
    exponents, stderr
        Shape (members, k). A member that blew up has the averages up to its own end.
    outcome
        One `Outcome` per member.
    """

    run: runner.Run

    def __len__(self) -> int:
        return len(np.asarray(self.run.state.escape))

    def __getitem__(self, member: int) -> LyapunovSpectrum:
        return self._members[member]

    @cached_property
    def _members(self) -> tuple[LyapunovSpectrum, ...]:
        return tuple(LyapunovSpectrum(self.run, member) for member in range(len(self)))

    @property
    def exponents(self) -> Float[np.ndarray, "members k"]:
        """The members' exponents."""
        return np.stack([spectrum.exponents for spectrum in self._members])

    @property
    def stderr(self) -> Float[np.ndarray, "members k"]:
        """The members' standard errors."""
        return np.stack([spectrum.stderr for spectrum in self._members])

    @property
    def outcome(self) -> tuple[Outcome, ...]:
        """The members' outcomes."""
        return tuple(spectrum.outcome for spectrum in self._members)

    def extend(self, T: float, *, progress: bool = False) -> "LyapunovEnsemble":
        """Go on until the averages cover the time T, as `LyapunovSpectrum.extend` does."""
        return LyapunovEnsemble(_extended(self.run, T, progress))

    def to_xarray(self) -> xr.Dataset:
        """Exponents, errors and endings along `member` and `exponent`."""
        outcomes = self.outcome
        return xr.Dataset(
            {
                "exponents": (("member", "exponent"), self.exponents),
                "stderr": (("member", "exponent"), self.stderr),
                "ending": ("member", [str(outcome.ending) for outcome in outcomes]),
                "end_time": ("member", [outcome.time for outcome in outcomes]),
            },
            coords={"exponent": np.arange(1, self.exponents.shape[1] + 1), "member": np.arange(len(self))},
        )

    def __str__(self) -> str:
        counts = Counter(outcome.ending.value for outcome in self.outcome)
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        leading = self.exponents[:, 0]
        span = f"largest exponents {np.nanmin(leading):.4g} … {np.nanmax(leading):.4g}"
        return f"LyapunovEnsemble of {len(self)} members: {span}; {listed}"

    __repr__ = __str__


def intervals(span: float, dt: float) -> int:
    """How many intervals dt cover a span of time, but for rounding."""
    return math.ceil(span / dt * (1 - 1e-12))


def _extended(run: runner.Run, T: float, progress: bool) -> runner.Run:
    wanted, done = intervals(_checks.positive_number("T", T), float(run.problem.dt)), len(run.log_growth)
    if wanted <= done:
        raise ValueError(
            f"`T` must be longer than the time {done * float(run.problem.dt):g} already averaged, but is {T:g}."
        )
    if not run.can_go_on:
        raise ValueError("A run must be able to go on to be extended, but this one has ended early.")
    return runner.go_on(run, wanted, progress)
