"""The orbit beyond the end of its run: its states at equal times, and its returns."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float

from curlflow._trees import float64
from curlflow.chaos.result import LyapunovSpectrum
from curlflow.orbits.integrate import solved
from curlflow.orbits.iterate import Problem as MapProblem
from curlflow.orbits.iterate import iterated
from curlflow.orbits.returns import section_returns
from curlflow.orbits.solve import Problem
from curlflow.system import State

# So many states are observed, and fewer where that would be more than so many numbers.
SAMPLES, FEWEST_SAMPLES, MOST_NUMBERS = 8192, 1024, 50_000_000
# So many returns are waited for, first a few and then more; those of maps are cheap.
BATCHES_OF_RETURNS = (8, 32, 128, 512)
MOST_STEPS = 8192
# They are located at tolerances at least as tight as these.
CLOSING_RTOL, CLOSING_ATOL = 1e-10, 1e-13


class States(NamedTuple):
    """States of an orbit, stacked, and their times."""

    times: Float[np.ndarray, " times"]
    ys: State


def observed(spectrum: LyapunovSpectrum) -> States:
    """The states of the orbit from the final state on, over the time averaged before."""
    tangent, t0 = spectrum.tangent_system, spectrum.final_time
    samples = int(np.clip(MOST_NUMBERS // spectrum.n, FEWEST_SAMPLES, SAMPLES))
    if tangent.is_map:
        every = max(round(spectrum.T) // samples, 1)
        return _iterated(spectrum, every * (samples - 1), every)
    problem = _onwards(spectrum, spectrum.T, float(tangent.rtol), float(tangent.atol))
    run = solved(problem, spectrum.final_state, np.linspace(t0, t0 + spectrum.T, samples))
    return States(run.ts, run.ys)


def returns(spectrum: LyapunovSpectrum, periods: State | None, forcing: float | None) -> Iterator[States]:
    """The final state and its returns: at first a few, then more of them, over the time averaged before at most.

    A map returns with every step, a flow with every period of its forcing, where that is known, and else with every
    passage of the section through the final state at a right angle to its velocity, on which angles have these periods.
    """
    if spectrum.tangent_system.is_map:
        most = min(MOST_STEPS, max(MOST_NUMBERS // spectrum.n, BATCHES_OF_RETURNS[-1]))
        yield _iterated(spectrum, min(max(round(spectrum.T), 1), most), 1)
        return
    problem = _onwards(spectrum, spectrum.T, *_tight(spectrum))
    if forcing is not None:
        yield _strobed(spectrum, problem, forcing)
        return
    passages = section_returns(problem, spectrum.final_state, periods)
    found = [(spectrum.final_time, spectrum.final_state)]
    for count in BATCHES_OF_RETURNS:
        wanted = count - len(found) + 1
        new = list(islice(passages, wanted))
        found += [(each.time, each.state) for each in new]
        yield _stacked(found)
        if len(new) < wanted:
            return


def _iterated(spectrum: LyapunovSpectrum, steps: int, every: int) -> States:
    tangent = spectrum.tangent_system
    system: Any = tangent.system
    problem = MapProblem(system, tangent.args, None, {}, tangent.blow_up)
    run = iterated(problem, spectrum.final_state, round(spectrum.final_time), steps, every)
    return States(run.ts, run.ys)


def _strobed(spectrum: LyapunovSpectrum, problem: Problem, forcing: float) -> States:
    count = int(np.clip(spectrum.T // forcing, 1, BATCHES_OF_RETURNS[-1]))
    times = spectrum.final_time + forcing * np.arange(count + 1)
    until = eqx.tree_at(lambda p: p.t1, problem, float64(times[-1]))
    run = solved(until, spectrum.final_state, times)
    return States(run.ts, run.ys)


def _tight(spectrum: LyapunovSpectrum) -> tuple[float, float]:
    tangent = spectrum.tangent_system
    return min(float(tangent.rtol), CLOSING_RTOL), min(float(tangent.atol), CLOSING_ATOL)


def _onwards(spectrum: LyapunovSpectrum, time: float, rtol: float, atol: float) -> Problem:
    """The integration of the orbit beyond its final state, by the solver that brought it there."""
    tangent, t0 = spectrum.tangent_system, spectrum.final_time
    flow: Any = tangent.system
    assert tangent.solver is not None
    return Problem(
        t0=float64(t0),
        t1=float64(t0 + time),
        rtol=float64(rtol),
        atol=float64(atol),
        blow_up=tangent.blow_up,
        dtmax=tangent.dtmax,
        args=tangent.args,
        system=flow,
        solver=tangent.solver,
    )


def _stacked(found: list[tuple[float, State]]) -> States:
    times, states = zip(*found, strict=True)
    return States(np.array(times), jtu.tree_map(lambda *leaves: jnp.stack(leaves), *states))
