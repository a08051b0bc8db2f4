"""The command line: arguments in, files and tables out. What it runs lives in the rooms below."""

import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import typer
from rich.console import Console
from rich.table import Table

import curlflow as cf
from curlflow import _checks

app = typer.Typer(
    name="curlflow",
    help="Curl flow: integrate it, classify its fixed points, draw its phase portraits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(width=None if sys.stdout.isatty() else 110)
FIGURES = (".pdf", ".png", ".svg")


class Flip(StrEnum):
    """Which layer of the two-neuron model learns with the wrong sign."""

    READOUT = "readout"
    HIDDEN = "hidden"
    NONE = "none"


def main() -> None:
    """Run the command line; what a user got wrong ends in one sentence and exit code 2."""
    jax.config.update("jax_enable_x64", True)
    mpl.use("Agg")
    try:
        app()
    except ValueError as error:
        print(f"curlflow: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@app.command()
def tour(
    out: Annotated[
        Path, typer.Option(help="Folder for the figures and the data; made if it does not exist.")
    ] = Path("curlflow-tour"),
) -> None:
    """The main job end to end: integrate, classify, measure, draw; every number beside its exact value."""
    from curlflow.tour import tour as run

    _make_folder(out)
    started = time.perf_counter()
    rows = run(
        out,
        announce=lambda sentence: console.print(f"[dim]{time.perf_counter() - started:5.1f} s[/] {sentence}"),
    )
    table = Table(title="What curlflow computed, beside what theory gives exactly", title_justify="left")
    table.add_column("quantity", no_wrap=True)
    for heading in ("computed", "exact", "difference"):
        table.add_column(heading, justify="right")
    for row in rows:
        difference = "" if row.difference is None else f"{row.difference:.1e}"
        mark = "" if row.agrees else "  ← disagrees"
        table.add_row(row.quantity, _text(row.computed), _text(row.exact), difference + mark)
    console.print(table)
    files = ", ".join(sorted(path.name for path in out.iterdir()))
    console.print(f"Wrote {files} to {out}/ in {time.perf_counter() - started:.0f} s.")
    if not all(row.agrees for row in rows):
        raise typer.Exit(1)


@app.command()
def portrait(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .pdf, .png or .svg.")] = Path(
        "portrait.pdf"
    ),
    s: Annotated[float, typer.Option(help="The teacher's weight.")] = 1.0,
    flip: Annotated[Flip, typer.Option(help="Which layer's rule is flipped.")] = Flip.READOUT,
    limits: Annotated[float, typer.Option(help="Half the width of the window about the origin.")] = 2.5,
    start: Annotated[
        list[str] | None,
        typer.Option(help="Draw the orbit from w1,w2; may be given several times.", metavar="W1,W2"),
    ] = None,
    t1: Annotated[float, typer.Option("--time", help="How long to run the orbits.")] = 20.0,
    nullclines: Annotated[bool, typer.Option("--nullclines", help="Draw the nullclines too.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Draw the gradient flow beside it.")] = False,
) -> None:
    """The phase portrait of the two-neuron model.

    Example: curlflow portrait --start=-1.6,1 --start 0.7,0 --compare -o portrait.pdf
    """
    _checks.writable_file("--out", out, FIGURES)
    window = _window(limits)
    starts = [_point(text) for text in start or ()]
    flow = cf.toy_flow(s, flip=None if flip is Flip.NONE else flip.value)
    flows = (
        {"a  gradient flow": flow.gradient_flow(), "b  curl flow": flow} if compare else {"curl flow": flow}
    )
    orbits = {
        name: {f"from ({w[0]:g}, {w[1]:g})": cf.integrate(moved, w, t1) for w in starts}
        for name, moved in flows.items()
    }
    if compare:
        panels = cf.compare_portraits(flows, window, window, trajectories=orbits, nullclines=nullclines)
        axes = panels["b  curl flow"].ax
    else:
        axes = cf.phase_portrait(
            flow, window, window, trajectories=orbits["curl flow"], nullclines=nullclines
        ).ax
    cf.save_figure(axes.figure, out)
    console.print(f"Wrote {out}.")


@app.command()
def integrate(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write: .nc, a NetCDF file that xarray opens.")
    ] = Path("trajectory.nc"),
    N: Annotated[int, typer.Option("--hidden", "-N", help="Hidden units.")] = 20,
    M: Annotated[int, typer.Option("--inputs", "-M", help="Inputs.")] = 16,
    P: Annotated[int, typer.Option("--outputs", "-P", help="Outputs.")] = 1,
    alpha_h: Annotated[float, typer.Option(help="Flipped fraction of the hidden layer's rules.")] = 0.0,
    alpha_r: Annotated[float, typer.Option(help="Flipped fraction of the readout layer's rules.")] = 0.0,
    start: Annotated[
        str,
        typer.Option(help="gaussian=SCALE: a random student; near=DISTANCE: beside the solution manifold."),
    ] = "gaussian=1",
    covariance: Annotated[
        str, typer.Option(help="identity, or samples=COUNT: the sample covariance of so many inputs.")
    ] = "identity",
    norm_constrained: Annotated[
        bool, typer.Option("--norm-constrained", help="Keep the norm of each layer.")
    ] = False,
    t1: Annotated[float, typer.Option("--time", help="How long to integrate.")] = 50.0,
    rtol: Annotated[float, typer.Option(help="Relative tolerance.")] = 1e-8,
    atol: Annotated[float, typer.Option(help="Absolute tolerance.")] = 1e-10,
    seed: Annotated[int, typer.Option(help="Seed of the teacher, the student and the inputs.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the loss against time: .pdf, .png or .svg.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Integrate the curl flow of a random student towards a random teacher, and save the trajectory.

    Example: curlflow integrate -N 40 -M 8 --alpha-h 0.25 --start near=1e-3 --time 100 --plot loss.pdf
    """
    _checks.writable_file("--out", out, (".nc",))
    if plot is not None:
        _checks.writable_file("--plot", plot, FIGURES)
    flow, W0 = _network(N, M, P, alpha_h, alpha_r, start, covariance, norm_constrained, seed)
    trajectory = cf.integrate(flow, W0, t1, rtol=rtol, atol=atol, progress=not quiet)
    dataset = trajectory.to_xarray().assign_attrs(seed=seed, alpha_h=alpha_h, alpha_r=alpha_r, start=start)
    dataset.to_netcdf(out, engine="h5netcdf")
    console.print(str(trajectory))
    console.print(f"loss {float(trajectory.loss()[0]):.6g} → {float(trajectory.loss()[-1]):.6g}")
    console.print(f"drift of the conserved quantities {float(trajectory.conserved_drift().max()):.1e}")
    if plot is not None:
        curve = cf.plot_loss({"curl flow": trajectory})[0]
        cf.save_figure(curve.axes.figure, plot)  # pyright: ignore[reportOptionalMemberAccess]
    console.print(f"Wrote {out}{f' and {plot}' if plot else ''}.")


def _network(
    N: int,
    M: int,
    P: int,
    alpha_h: float,
    alpha_r: float,
    start: str,
    covariance: str,
    constrained: bool,
    seed: int,
) -> tuple[Any, cf.Weights]:
    draw, nudge, inputs = jax.random.split(jax.random.key(seed), 3)
    kind, amount = _setting("--start", start, ("gaussian", "near"))
    C = None
    if covariance != "identity":
        _, samples = _setting("--covariance", covariance, ("samples",))
        C = cf.ensembles.sample_covariance(inputs, M=M, samples=int(samples))
    flow, student, teacher = cf.ensembles.student_teacher(
        draw, N=N, M=M, P=P, alpha_h=alpha_h, alpha_r=alpha_r, C=C
    )
    if kind == "near":
        W0 = cf.ensembles.near_solution(nudge, teacher, distance=amount)
    else:
        W0 = jax.tree.map(lambda layer: _checks.positive_number("--start gaussian", amount) * layer, student)
    return (cf.NormConstrained(flow) if constrained else flow), W0


def _setting(option: str, text: str, known: tuple[str, ...]) -> tuple[str, float]:
    """Read key=number."""
    key, _, value = text.partition("=")
    if key not in known:
        raise ValueError(
            f"`{option}` must be {' or '.join(f'{name}=NUMBER' for name in known)}, but is {text!r}."
        )
    return key, _checks.finite_number(f"{option} {key}", value)  # pyright: ignore[reportArgumentType]


def _point(text: str) -> Any:
    parts = text.split(",")
    if len(parts) != 2:
        raise ValueError(f"`--start` must be two numbers W1,W2, but is {text!r}.")
    return jnp.array([_checks.finite_number("--start", part) for part in parts])  # pyright: ignore[reportArgumentType]


def _window(limits: float) -> tuple[float, float]:
    half = _checks.positive_number("--limits", limits)
    return -half, half


def _make_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ValueError(f"`--out` must be a folder, but {path} is a file.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"`--out` must be a folder that can be made, but {path} cannot: {error.strerror}."
        ) from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"`--out` must be writable, but {path} is not.")


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"
