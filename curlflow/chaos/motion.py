"""The verdict: what kind of motion an orbit settles to, and on what evidence it rests."""

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PRNGKeyArray

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow._saved import texts
from curlflow.chaos.engine.tangent_system import TangentSystem, as_tangent_system
from curlflow.chaos.kinds import Evidence, Motion
from curlflow.chaos.lyapunov import averaged
from curlflow.chaos.result import LyapunovSpectrum, spectrum_of
from curlflow.chaos.weighing import Observable, weigh
from curlflow.orbits.solvers import SolverChoice
from curlflow.system import Args, State, StateLike, System


@result
class Verdict:
    """What kind of motion an orbit settles to, made by `verdict`.

    Attributes
    ----------
    motion
        One of the `Motion` values, e.g. ``Motion.CHAOTIC``; compares equal to its text, ``"chaotic"``.
    evidence
        What each indicator found, in the order in which they were asked; see `Evidence`.
    spectrum
        The exponents that were computed.
    """

    motion: Motion
    evidence: tuple[Evidence, ...]
    spectrum: LyapunovSpectrum

    def to_xarray(self) -> "xr.Dataset":
        """The spectrum's dataset along `exponent` and `time`, the evidence along `indicator`, the motion as an attribute."""
        found = {
            "value": np.array([each.value for each in self.evidence], float),
            "threshold": np.array([each.threshold for each in self.evidence], float),
            "sentence": texts([each.sentence for each in self.evidence]),
        }
        return (
            self.spectrum.to_xarray()
            .assign({name: ("indicator", values) for name, values in found.items()})
            .assign_coords(indicator=texts([each.indicator for each in self.evidence]))
            .assign_attrs(motion=self.motion.value)
        )

    @classmethod
    def from_xarray(cls, dataset: "xr.Dataset", *, system: System | TangentSystem | None = None) -> "Verdict":
        """The verdict of which `to_xarray` made the dataset, number by number.

        Parameters
        ----------
        dataset
            What `to_xarray` returned, or what was read from a file of it. `LyapunovSpectrum.from_xarray` takes it too.
        system
            As for `LyapunovSpectrum.from_xarray`.

        Returns
        -------
        Verdict
            Equal to the one that was saved.

        Raises
        ------
        ValueError
            If the dataset is none of a verdict, or no longer holds all of it.

        Examples
        --------
        >>> import curlflow as cf, jax.numpy as jnp
        >>> found = cf.verdict(cf.toy_flow(flip="readout"), jnp.array([0.5, 0.0]), T=30.0)
        >>> cf.chaos.Verdict.from_xarray(found.to_xarray()) == found
        True
        """
        spectrum = LyapunovSpectrum.from_xarray(dataset, system=system)
        missing = [name for name in ("indicator", "value", "threshold", "sentence") if name not in dataset]
        missing += [] if "motion" in dataset.attrs else ["motion"]
        if missing:
            raise ValueError(
                f"`dataset` must be what `to_xarray` made of a Verdict, but has no `{missing[0]}`, as if of a spectrum alone."
            )
        columns = [dataset[name].values.tolist() for name in ("indicator", "value", "threshold", "sentence")]
        evidence = tuple(Evidence(*each) for each in zip(*columns, strict=True))
        return cls(Motion(dataset.attrs["motion"]), evidence, spectrum)

    def __str__(self) -> str:
        lines = (f"{self.spectrum}", *(each.sentence for each in self.evidence))
        return "\n".join([f"Verdict: {self.motion.value}", *(f"  - {line}" for line in lines)])


def verdict(
    system: System | TangentSystem,
    y0: StateLike,
    k: int | None = None,
    *,
    T: float,
    Ttr: float = 0.0,
    dt: float = 1.0,
    observable: Observable | None = None,
    key: PRNGKeyArray | None = None,
    t0: float = 0.0,
    args: Args = None,
    batch: None = None,
    solver: SolverChoice | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    dtmax: float | None = None,
    max_steps: int | None = None,
    blow_up: float | None = None,
    angles: StateLike | None = None,
    period: float | None = None,
    progress: bool = False,
) -> Verdict:
    """What kind of motion an orbit settles to, from several indicators, or that they disagree.

    A kind of motion is named where everything speaks for it, and undecided is the answer everywhere else.

    - Fixed point: the orbit has less left to go than the solver's errors, and tangent vectors do not grow there.
    - Periodic: no exponent is positive, and the orbit closes: of a map after some number of steps, of a flow at a return to
      the section through its state; of a forced flow, when the forcing is back too.
    - Quasi-periodic: no exponent is positive, the orbit does not close, is stationary, does not attract from all sides
      (as cycles do), its section points fill a curve at least, tangent vectors grow no faster than shear makes them, and the
      0–1 test sees regular motion.
    - Chaotic: the largest exponent is positive in both halves of the run, for ten Lyapunov times at least, tangent vectors
      grow exponentially and align (as far as the gap between the first two exponents lets them), and the 0–1 test sees it.
      Never a linear system, an autonomous flow in a plane, or any flow on a line.
    - Transient chaos: the orbit has settled to one of the regular kinds, but had been chaotic until then by the same
      indicators. Growth alone does not tell: it is also what the departure from an unstable solution looks like.
    - Undecided, among much else: rest or a cycle at which tangent vectors grow, which only rounding or symmetry holds (the
      binary digits of 2x mod 1 run out after 53 steps); slow motion, whose series are too short; heteroclinic cycles; and
      everything within fewer than 50 intervals.

    Parameters
    ----------
    system
        A flow, a map, or a `TangentSystem` of either. The orbit is also observed by the solver and the tolerances with which
        the exponents were computed.
    y0, T, Ttr, dt, key, t0, args, solver, rtol, atol, dtmax, max_steps, blow_up, progress
        As for `lyapunov_spectrum`.
    k
        How many leading exponents to compute. Two are needed, where the state is more than one number, and always computed;
        None means no more than those.
    observable
        Function from the state to the number given to the 0–1 test; None means that of the coordinates that vary most which
        decorrelates soonest.
    angles
        The period of every coordinate that is an angle, and 0 for all others, in the form of the state: `[2 * jnp.pi, 0.0]`
        of a pendulum. An orbit closes when its angles are back but for whole periods.
    period
        Flows only: the period of the forcing, where it has one. The orbit is then looked at after every period. Without it, a
        forced orbit closes only where the vector field is found to repeat itself too.
    batch
        Not to be had: a verdict is on one orbit. Ask for one member after another.

    Returns
    -------
    Verdict
        The kind of motion, the evidence, and the spectrum.

    Raises
    ------
    ValueError
        If `batch` is given, `angles` does not look like the state or has a negative period, `period` is not positive or the
        system a map, or as `lyapunov_spectrum` does.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> cf.verdict(cf.toy_flow(s=1.0, flip="readout"), jnp.array([0.5, 0.3]), T=400.0).motion
    <Motion.PERIODIC: 'periodic'>
    """
    tangent = as_tangent_system(
        system,
        dt=dt,
        t0=t0,
        args=args,
        solver=solver,
        rtol=rtol,
        atol=atol,
        dtmax=dtmax,
        max_steps=max_steps,
        blow_up=blow_up,
    ).averaging_divergence(False)
    if batch is not None or tangent.members is not None:
        raise ValueError(
            "`batch` must be left out, because a verdict is on one orbit: ask for one member after another."
        )
    periods, forcing = _periods(angles, y0), _forcing_period(period, tangent)
    k = 1 if k is None else k
    run = averaged(tangent, y0, k, T=T, Ttr=Ttr, key=key, progress=progress, at_least=2)
    spectrum = spectrum_of(run)
    motion, evidence = weigh(spectrum, observable, periods, forcing)
    return Verdict(motion, tuple(evidence), spectrum)


def _periods(angles: StateLike | None, y0: StateLike) -> State | None:
    if angles is None:
        return None
    periods, state = _checks.state_pytree("angles", angles), _checks.state_pytree("y0", y0)
    shapes = jtu.tree_map(jnp.shape, (periods, state))
    if jtu.tree_structure(periods) != jtu.tree_structure(state) or shapes[0] != shapes[1]:
        raise ValueError(
            "`angles` must look like the state, with the period of every angle and 0 for every other coordinate, "
            f"but is {angles!r}."
        )
    if any(np.any(np.asarray(leaf) < 0) for leaf in jtu.tree_leaves(periods)):
        raise ValueError(f"`angles` must hold periods, which are not negative, but is {angles!r}.")
    return periods


def _forcing_period(period: float | None, tangent: TangentSystem) -> float | None:
    if period is None:
        return None
    if tangent.is_map:
        raise ValueError(f"`period` must be left out for a map, which has no forcing, but is {period!r}.")
    return _checks.positive_number("period", period)
