"""The main job from end to end: what `curlflow tour` computes, draws and compares with exact values."""

import csv
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from scipy.integrate import quad

from curlflow import ensembles, plot
from curlflow._results import result
from curlflow.chaos import lyapunov_spectrum
from curlflow.fixed_points import FixedPoint, classify
from curlflow.fixed_points.linearize import divergence, spectrum
from curlflow.models.curl import CurlFlow, Weights
from curlflow.models.toy import ToyFlow, toy_flow
from curlflow.orbits.integrate import integrate
from curlflow.orbits.returns import return_time, settling_time
from curlflow.orbits.trajectory import Trajectory
from curlflow.outcome import Outcome
from curlflow.plane.planes import principal_plane
from curlflow.plot import compare_portraits, phase_portrait, save_figure

# What the tour leaves in its folder.
PORTRAITS, LOSS, NETWORK, TRAJECTORY, TABLE = FILES = (
    "toy_portraits.pdf",
    "toy_loss.pdf",
    "network_portrait.pdf",
    "trajectory.nc",
    "table.csv",
)
# Enough for every dense orbit below.
DENSE_STEPS = 16384


@result
class Row:
    """A number that curlflow computed, beside the value that theory gives exactly."""

    quantity: str
    computed: float | str
    exact: float | str
    tolerance: float = 1e-6

    @property
    def difference(self) -> float | None:
        """|computed − exact|, or None for words."""
        if isinstance(self.computed, str) or isinstance(self.exact, str):
            return None
        return abs(self.computed - self.exact)

    @property
    def agrees(self) -> bool:
        """Whether words are equal, or numbers within the tolerance, relative to the exact value if it is above 1."""
        if isinstance(self.computed, str) or isinstance(self.exact, str):
            return self.computed == self.exact
        return abs(self.computed - self.exact) <= self.tolerance * max(abs(self.exact), 1.0)

    def __str__(self) -> str:
        verdict = "agrees" if self.agrees else "differs"
        return f"Row: {self.quantity.strip()} {self.computed}, exactly {self.exact}; {verdict}"


def tour(folder: Path, announce: Callable[[str], None] = lambda _: None) -> list[Row]:
    """Run the tour, write its figures, its data and its table into `folder`, and return the table.

    Parameters
    ----------
    folder
        An existing folder. It receives `FILES`: three figures (.pdf), a trajectory (.nc) and the table (.csv).
    announce
        Called with a sentence before each step.

    Returns
    -------
    list of Row
        Every number computed that has an exact value, beside that value.
    """
    flow = toy_flow(s=1.0, flip="readout")
    announce("Integrating gradient flow and curl flow of the two-neuron model from the same start")
    start = jnp.array([-1.8, 1.4])
    orbits = {
        name: integrate(moved, start, 12.0, dense=True, max_steps=DENSE_STEPS, rtol=1e-11, atol=1e-13)
        for name, moved in {"gradient flow": flow.gradient_flow(), "curl flow": flow}.items()
    }
    rows = _orbit_rows(orbits)
    announce("Classifying the two-neuron model's fixed points, and timing its closed orbits")
    rows += _toy_rows(flow)
    announce("Drawing its phase portraits")
    _draw_toy(flow, orbits, folder)
    announce("Integrating a network of 16 inputs and 20 hidden units, a quarter of its readout rules flipped")
    network, student, teacher = ensembles.student_teacher(jax.random.key(1), N=20, M=16, alpha_r=0.25)
    learning = integrate(
        network, jax.tree.map(lambda layer: 0.3 * layer, student), 60.0, rtol=1e-10, atol=1e-12
    )
    learning.to_xarray().to_netcdf(folder / TRAJECTORY, engine="h5netcdf")
    rows += _network_rows(network, teacher, learning)
    announce("Drawing how it learned, in the plane of the two principal components of its way")
    _draw_network(network, learning, folder)
    announce("Estimating leading Lyapunov exponents")
    rows += _lyapunov_rows(flow)
    announce("Flipping the rules of both layers: blow-up in finite time")
    rows.append(_blow_up_row())
    _write_table(rows, folder / TABLE)
    return rows


def _write_table(rows: list[Row], path: Path) -> None:
    """The table with all digits, as text that a spreadsheet opens. What is indented belongs to the line above, as printed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["quantity", "computed", "exact", "difference", "agrees"])
        table.writerows([row.quantity, row.computed, row.exact, row.difference, row.agrees] for row in rows)


def _orbit_rows(orbits: dict[str, Trajectory]) -> list[Row]:
    rows = []
    for name, orbit in orbits.items():
        flow = orbit.system
        assert isinstance(flow, ToyFlow)
        exact = flow.solution(5.0, orbit.ys[0])
        rows.append(Row(f"{name}: w1 at t = 5", float(orbit(5.0)[0]), float(exact[0])))
        exact_time = float(flow.settling_time(orbit.ys[0], 1e-3))
        rows.append(Row(f"{name}: error below 1e-3 from t =", settling_time(orbit, 0.5e-6), exact_time))
        rows.append(
            Row(f"{name}: drift of the conserved quantity", float(orbit.conserved_drift().max()), 0.0)
        )
    return rows


def _toy_rows(flow: ToyFlow) -> list[Row]:
    origin, stable, unstable = jnp.zeros(2), jnp.array([0.5, 2.0]), jnp.array([2.0, 0.5])
    attracting, repelling = classify(flow, stable), classify(flow, unstable)
    rows = [
        Row(
            "toy model, origin under gradient flow",
            _describe(classify(flow.gradient_flow(), origin)),
            "saddle",
        ),
        Row("toy model, origin under curl flow", _describe(classify(flow, origin)), "centre"),
        Row("  its frequency |Im λ|", abs(classify(flow, origin).eigenvalues[0].imag), 1.0),
        Row("toy model, solution (0.5, 2)", _describe(attracting), "stable node, on a manifold"),
        Row("  eigenvalue across the manifold", attracting.eigenvalues[-1].real, 0.5**2 - 2.0**2),
        Row("toy model, solution (2, 0.5)", _describe(repelling), "unstable node, on a manifold"),
        Row("  eigenvalue across the manifold", repelling.eigenvalues[0].real, 2.0**2 - 0.5**2),
    ]
    for radius in (0.5, 1.0, 1.4):
        w0 = jnp.array([radius, 0.0])
        rows.append(
            Row(f"toy model, period at r = {radius:g}", return_time(flow, w0, 60.0), float(flow.period(w0)))
        )
    return rows


def _network_rows(flow: CurlFlow, teacher: Weights, learning: Trajectory) -> list[Row]:
    (P, M), (N,) = flow.S.shape, flow.d2.shape
    # On the solution manifold the nonzero eigenvalues are those of −(W1ᵀ D2 W1 + ‖W2‖² D1), an M × M symmetric matrix.
    across = -np.linalg.eigvalsh(
        teacher.W1.T @ (flow.d2[:, None] * teacher.W1) + jnp.vdot(teacher.W2, teacher.W2) * jnp.diag(flow.d1)
    )
    solution = classify(flow, teacher)
    origin = jax.tree.map(jnp.zeros_like, teacher)
    sigma = float(jnp.sum(flow.d1 * flow.S[0] ** 2))
    trace = float(-jnp.vdot(teacher.W2, teacher.W2) * flow.d1.sum() - (flow.d2 @ teacher.W1**2).sum())
    return [
        Row("network at the teacher, stable directions", solution.n_stable, int((across < 0).sum())),
        Row("  unstable directions", solution.n_unstable, int((across > 0).sum())),
        Row("  directions along the manifold", solution.n_manifold, N * (M + P) - P * M),
        Row("  leading eigenvalue across the manifold", _leading_across(solution), float(across.max())),
        Row("  divergence tr J", float(divergence(flow, teacher)), trace),
        Row(
            "network, leading eigenvalue at the origin",
            spectrum(flow, origin).eigenvalues[0].real,
            sigma**0.5,
        ),
        Row("network, drift of its conserved quantities", float(learning.conserved_drift().max()), 0.0),
        Row("network, loss after learning", float(learning.loss()[-1]), 0.0),
    ]


def _lyapunov_rows(flow: ToyFlow) -> list[Row]:
    closed = lyapunov_spectrum(flow, jnp.array([1.0, 0.0]), T=1000.0, Ttr=20.0)
    resting = lyapunov_spectrum(flow, jnp.array([0.5, 2.0]), T=1000.0, Ttr=20.0)
    return [
        # Beside a closed orbit of a family, tangents grow linearly: the estimate falls to 0 as ln T / T.
        Row("toy model, Lyapunov exponent λ1, closed orbit", float(closed.exponents[0]), 0.0, tolerance=0.02),
        Row("toy model, Lyapunov exponent λ1, stable solution", float(resting.exponents[0]), 0.0),
        Row("toy model, Lyapunov exponent λ2, stable solution", float(resting.exponents[1]), 0.5**2 - 2.0**2),
    ]


def _blow_up_row() -> Row:
    """Both rules flipped is gradient ascent: with p = w1 w2 and h = w1² − w2² constant, ṗ = −√(h² + 4p²) (1 − p)."""
    start = jnp.array([2.0, 1.0])
    ended = integrate(
        toy_flow(s=1.0, flip="both"), start, 10.0, dense=True, max_steps=DENSE_STEPS, rtol=1e-11, atol=1e-13
    )
    escape = quad(lambda p: 1 / (np.hypot(3.0, 2 * p) * (p - 1)), 2.0, np.inf, epsabs=1e-13, epsrel=1e-12)[0]
    assert isinstance(ended.outcome, Outcome)
    return Row(f"both layers flipped: {ended.outcome.ending} at t =", ended.outcome.time or 0.0, escape)


def _draw_toy(flow: ToyFlow, orbits: dict[str, Trajectory], folder: Path) -> None:
    inside = jnp.array([0.7, 0.0])
    closed = integrate(flow, inside, float(flow.period(inside)))
    panels = compare_portraits(
        {"a  gradient flow": flow.gradient_flow(), "b  curl flow": flow},
        (-2.5, 2.5),
        (-2.5, 2.5),
        trajectories={
            "a  gradient flow": {"gradient flow": orbits["gradient flow"]},
            "b  curl flow": {"curl flow": orbits["curl flow"], "closed orbit": closed},
        },
    )
    _save(panels["b  curl flow"].ax, folder / PORTRAITS)
    _save(plot.loss(orbits, inset=(0.0, 0.2))[0], folder / LOSS)


def _draw_network(flow: CurlFlow, learning: Trajectory, folder: Path) -> None:
    """Learning in the plane that holds most of it, around the whole way."""
    plane = principal_plane(learning)
    places = plane.project(learning.ys)
    centre, reach = (places.max(axis=0) + places.min(axis=0)) / 2, 0.6 * np.ptp(places, axis=0).max()
    (left, right), (low, high) = np.stack([centre - reach, centre + reach], axis=-1).tolist()
    portrait = phase_portrait(
        flow,
        (left, right),
        (low, high),
        plane=plane,
        fixed_points=[classify(flow, learning.final_state)],
        trajectories={"curl flow": learning},
        nullclines=True,
    )
    _save(portrait.ax, folder / NETWORK)


def _save(drawn: Artist, path: Path) -> None:
    figure = drawn.get_figure(root=True)
    assert figure is not None
    save_figure(figure, path)
    plt.close(figure)


def _describe(point: FixedPoint) -> str:
    return f"{point.kind.value}, on a manifold" if point.n_manifold else point.kind.value


def _leading_across(point: FixedPoint) -> float:
    """The largest real part among the eigenvalues across the manifold, which leaves out the manifold's own zeros."""
    across = np.delete(np.real(point.eigenvalues), np.argsort(np.abs(point.eigenvalues))[: point.n_manifold])
    return float(across.max())
