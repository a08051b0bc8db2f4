"""The command line: arguments in, files and tables out. What it runs lives in the rooms below."""

import os
import re
import sys
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

import curlflow as cf
from curlflow._later import _checks, jax, np

# What the library calls things that no option stands for, and what they are on the command line.
IN_WORDS = {"y0": "the start", "`verdict`": "the verdict", "`fn`": "`function`"}


def in_options(sentence: str, parameters: Iterable[Any]) -> str:
    """The sentence with the options of a command in the place of the library's arguments of the same name.

    "`alpha_h` must …" becomes "`--alpha-h` must …", T = 500 becomes `--time` = 500, and a remedy solver="kvaerno5" becomes
    --solver kvaerno5.
    """
    for parameter in parameters:
        spelled, name = "`/`".join(parameter.opts), re.escape(parameter.name)
        sentence = re.sub(rf"`{name}`", f"`{spelled}`", sentence)
        sentence = re.sub(rf"\b{name} = (?=[-\d])", f"`{spelled}` = ", sentence)
        sentence = re.sub(rf'\b{name}="(\w+)"', rf"{parameter.opts[0]} \1", sentence)
    for theirs, ours in IN_WORDS.items():
        sentence = re.sub(rf"(?<!\w){theirs}(?!\w)", ours, sentence)
    return sentence


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        _say(f"curlflow {version('curlflow')}")
        raise typer.Exit


class InOptions(TyperCommand):
    """A command that answers `--version`, and whose errors name what was typed: options, where the library has arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; the version is asked for before or behind the command's name."""
        _print_version("--version" in args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command: in double precision, and drawing into files only."""
        os.environ["MPLBACKEND"] = "Agg"
        jax.config.update("jax_enable_x64", True)
        try:
            return super().invoke(ctx)
        except ValueError as error:
            raise ValueError(in_options(str(error), self.params)) from error


app = typer.Typer(
    name="curlflow",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
# How wide a table and a help text are on a pipe or in a file, whatever the terminal behind it; COLUMNS says otherwise.
PIPED_COLUMNS = 80
FIGURES = (".pdf", ".png", ".svg")
# What a trajectory keeps of a large network: 1 GB of numbers.
SAVED_NUMBERS = 2**27
# The exit code of programs that Ctrl-C ended.
INTERRUPTED = 130
# The tour's own folder: what is in it under the tour's names was written by the tour.
TOUR_FOLDER = Path("curlflow-tour")

# The options that describe a network, the same for every command that takes one.
Hidden = Annotated[int, typer.Option("--hidden", "-N", help="Hidden units.")]
Inputs = Annotated[int, typer.Option("--inputs", "-M", help="Inputs.")]
Outputs = Annotated[int, typer.Option("--outputs", "-P", help="Outputs.")]
AlphaH = Annotated[
    float, typer.Option(metavar="FRACTION", help="Flipped fraction αh of the hidden layer's rules.")
]
AlphaR = Annotated[
    float, typer.Option(metavar="FRACTION", help="Flipped fraction αr of the readout layer's rules.")
]
Start = Annotated[
    str,
    typer.Option(
        metavar="KIND=NUMBER",
        help="Where the student begins. gaussian=SCALE: a random student; near=DISTANCE: beside the teacher.",
    ),
]
Covariance = Annotated[
    str,
    typer.Option(metavar="KIND", help="identity, or samples=COUNT: the sample covariance of so many inputs."),
]
Constrained = Annotated[bool, typer.Option("--norm-constrained", help="Keep the norm of each layer.")]
Rtol = Annotated[float, typer.Option(help="Relative tolerance.")]
Atol = Annotated[float, typer.Option(help="Absolute tolerance.")]
BlowUp = Annotated[float | None, typer.Option(help="Largest magnitude that a weight may reach.")]
Seed = Annotated[int, typer.Option(help="Seed of the teacher, the student and the inputs.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar; on a pipe there is none anyway.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
EPOCH = "an epoch of the paper (step 0.1) is 0.1"


class Flip(StrEnum):
    """Which layer of the two-neuron model learns with the wrong sign."""

    READOUT = "readout"
    HIDDEN = "hidden"
    BOTH = "both"
    NONE = "none"


class Solver(StrEnum):
    """A method of integration."""

    TSIT5 = "tsit5"
    DOPRI8 = "dopri8"
    KVAERNO5 = "kvaerno5"


class Layer(StrEnum):
    """A layer of the network."""

    HIDDEN = "hidden"
    READOUT = "readout"


SolverName = Annotated[
    Solver | None,
    typer.Option(
        "--solver",
        metavar="METHOD",
        help="tsit5, dopri8, or kvaerno5 for stiff systems; if not given, by the size of the network.",
    ),
]
MaxSteps = Annotated[int | None, typer.Option(help="Most steps to take; a million if not given.")]


def main() -> None:
    """Run the command line; what a user got wrong ends in one sentence and exit code 2."""
    if not sys.stdout.isatty():
        # rich would take the width of the terminal that stdin or stderr may still be.
        os.environ.setdefault("COLUMNS", str(PIPED_COLUMNS))
    try:
        app()
    except ValueError as error:
        _complain(str(error))
        raise SystemExit(2) from None
    except OSError as error:
        _complain(error.strerror or str(error))
        raise SystemExit(1) from None


def _complain(sentence: str) -> None:
    """To a terminal wrapped between words; to a pipe in one line."""
    errors = Console(stderr=True, markup=False, highlight=False, emoji=False)
    errors.print(f"curlflow: {sentence}", soft_wrap=not errors.is_terminal)


def _say(sentence: str, *, wrap: bool = True) -> None:
    """Print a sentence as it is: what stands in brackets is no markup. Names of files are not wrapped, to be copied whole."""
    console.print(sentence, markup=False, highlight=False, emoji=False, soft_wrap=not wrap)


def _progress(quiet: bool) -> bool:
    """Whether to show a progress bar: not if unwanted, and not where nobody watches."""
    return not quiet and sys.stderr.isatty()


@app.callback()
def about(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Curl flow: integrate it, classify its fixed points, draw its phase portraits.

    curlflow COMMAND -h explains a command. --install-completion lets the Tab
    key complete commands and options, once the shell is started anew.
    """


@app.command(cls=InOptions)
def tour(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="For figures, data and table; made if it does not exist."
        ),
    ] = TOUR_FOLDER,
    force: Force = False,
) -> None:
    """The main job end to end: integrate, classify, measure, draw.

    Every number stands beside its exact value. In its own folder,
    curlflow-tour, the tour overwrites what an earlier one wrote.
    """
    from curlflow.tour import FILES
    from curlflow.tour import tour as run

    _make_folder(out)
    if out != TOUR_FOLDER:
        for name in FILES:
            _new_file("--out", out / name, force=force)
    started = time.perf_counter()
    rows = run(
        out,
        announce=lambda sentence: _say(f"{time.perf_counter() - started:5.1f} s  {sentence}"),
    )
    _say("\nWhat curlflow computed, beside what theory gives exactly:")
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("quantity")
    for heading in ("computed", "exact"):
        table.add_column(heading, justify="right", max_width=14)
    table.add_column("difference", justify="right")
    for row in rows:
        difference = "" if row.difference is None else f"{row.difference:.1e}"
        mark = "" if row.agrees else "\ndisagrees"
        table.add_row(row.quantity, _text(row.computed), _text(row.exact), difference + mark)
    console.print(table)
    _say(f"Wrote {', '.join(FILES)} to {out}/ in {time.perf_counter() - started:.0f} s.")
    if not all(row.agrees for row in rows):
        raise typer.Exit(1)


@app.command(cls=InOptions)
def portrait(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="File to write: .pdf, .png or .svg.")
    ] = Path("portrait.pdf"),
    s: Annotated[float, typer.Option("--teacher", "-s", help="The teacher's weight s.")] = 1.0,
    flip: Annotated[
        Flip, typer.Option(metavar="LAYER", help="Whose rule is flipped: readout, hidden, both or none.")
    ] = Flip.READOUT,
    half_width: Annotated[
        float, typer.Option(help="Half the width of the window, which is centred on the origin.")
    ] = 2.5,
    orbit: Annotated[
        list[str] | None,
        typer.Option(help="Draw the orbit from w1,w2; may be given several times.", metavar="W1,W2"),
    ] = None,
    start: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    t1: Annotated[
        float, typer.Option("--time", help="How long the orbits run; a small turn about a centre takes 2π/s.")
    ] = 20.0,
    nullclines: Annotated[bool, typer.Option("--nullclines", help="Draw the nullclines too.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Draw the gradient flow beside it.")] = False,
    force: Force = False,
) -> None:
    """The phase portrait of the two-neuron model.

    Example: curlflow portrait --orbit=-1.6,1 --orbit 0.7,0 --compare
    """
    if start:
        raise ValueError(
            f"`--start` must be written `--orbit` in a portrait, but is {start[0]!r}: it said where an orbit begins, and "
            "says of a network's student how it is drawn."
        )
    _new_file("--out", out, FIGURES, force=force)
    window, t1 = _window(half_width), _time(t1)
    starts = [_point(text) for text in orbit or ()]
    flow = cf.toy_flow(s, flip=None if flip is Flip.NONE else flip.value)
    flows = (
        {"a  gradient flow": flow.gradient_flow(), "b  curl flow": flow} if compare else {"curl flow": flow}
    )
    orbits = {
        name: {f"from ({w[0]:g}, {w[1]:g})": cf.integrate(moved, w, t1) for w in starts}
        for name, moved in flows.items()
    }
    if compare:
        drawn = cf.plot.compare_portraits(flows, window, window, trajectories=orbits, nullclines=nullclines)
    else:
        drawn = cf.phase_portrait(
            flow, window, window, trajectories=orbits["curl flow"], nullclines=nullclines
        )
    cf.plot.save_figure(drawn, out)
    _say(f"Wrote {out}.", wrap=False)


@app.command(cls=InOptions)
def integrate(
    ctx: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", help="File to write: .nc, a NetCDF file that xarray opens."
        ),
    ] = Path("trajectory.nc"),
    N: Hidden = 20,
    M: Inputs = 16,
    P: Outputs = 1,
    alpha_h: AlphaH = 0.0,
    alpha_r: AlphaR = 0.0,
    start: Start = "gaussian=1",
    covariance: Covariance = "identity",
    norm_constrained: Constrained = False,
    t1: Annotated[float, typer.Option("--time", help=f"How long to integrate; {EPOCH}.")] = 50.0,
    rtol: Rtol = 1e-8,
    atol: Atol = 1e-10,
    solver: SolverName = None,
    max_steps: MaxSteps = None,
    blow_up: BlowUp = None,
    seed: Seed = 0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also draw the loss against time: .pdf, .png or .svg."),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Integrate the curl flow of a random student, and save the trajectory.

    The student learns from a random teacher of the same size.

    Example: curlflow integrate -N 40 -M 8 --alpha-h 0.25 --plot loss.pdf
    """
    _new_file("--out", out, (".nc",), force=force)
    if plot is not None:
        _new_file("--plot", plot, FIGURES, force=force)
    t1 = _time(t1)
    flow, W0 = _network(N, M, P, alpha_h, alpha_r, start, covariance, norm_constrained, seed)
    times = int(np.clip(SAVED_NUMBERS // (W0.W1.size + W0.W2.size), 2, 257))
    try:
        trajectory = cf.integrate(
            flow,
            W0,
            t1,
            ts=np.linspace(0.0, t1, times),
            rtol=rtol,
            atol=atol,
            solver=None if solver is None else solver.value,
            max_steps=max_steps,
            blow_up=blow_up,
            progress=_progress(quiet),
        )
    except cf.orbits.Interrupted as interrupted:
        trajectory = interrupted.trajectory
    dataset = trajectory.to_xarray().assign_attrs(seed=seed, alpha_h=alpha_h, alpha_r=alpha_r, start=start)
    dataset.to_netcdf(out, engine="h5netcdf")
    _say(in_options(f"{trajectory}", ctx.command.params))
    _say(f"loss {float(trajectory.loss()[0]):.6g} → {float(trajectory.loss()[-1]):.6g}")
    _say(f"drift of the conserved quantities {float(trajectory.conserved_drift().max()):.1e}")
    if plot is not None:
        curve = cf.plot.loss({"curl flow": trajectory})[0]
        cf.plot.save_figure(curve.axes.figure, plot)  # pyright: ignore[reportOptionalMemberAccess]
    _say(f"Wrote {out}{f' and {plot}' if plot else ''}.", wrap=False)
    if trajectory.outcome.ending is cf.Ending.INTERRUPTED:  # pyright: ignore[reportAttributeAccessIssue]
        raise typer.Exit(INTERRUPTED)


@app.command(cls=InOptions)
def lyapunov(
    ctx: typer.Context,
    N: Hidden = 20,
    M: Inputs = 16,
    P: Outputs = 1,
    alpha_h: AlphaH = 0.0,
    alpha_r: AlphaR = 0.0,
    start: Start = "gaussian=1",
    covariance: Covariance = "identity",
    norm_constrained: Constrained = False,
    k: Annotated[int, typer.Option("--exponents", "-k", help="How many leading exponents.")] = 4,
    T: Annotated[float, typer.Option("--time", help=f"How long to average; {EPOCH}.")] = 500.0,
    Ttr: Annotated[float, typer.Option("--transient", help="How long to wait before.")] = 100.0,
    dt: Annotated[
        float, typer.Option("--interval", help="Time between two measurements of the tangent vectors.")
    ] = 1.0,
    rtol: Rtol = 1e-8,
    atol: Atol = 1e-10,
    solver: SolverName = None,
    max_steps: MaxSteps = None,
    blow_up: BlowUp = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Also save the history: .nc, NetCDF."),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """The leading Lyapunov exponents of a random student's curl flow, and a verdict.

    The verdict says what kind of motion the run settled to (chaotic,
    quasi-periodic, periodic, fixed point, transient chaos, blow-up,
    undecided), and which indicators say so.

    Example: curlflow lyapunov -N 2 -M 3 --alpha-h 0.5 --norm-constrained --seed 3
    """
    if out is not None:
        _new_file("--out", out, (".nc",), force=force)
    flow, W0 = _network(N, M, P, alpha_h, alpha_r, start, covariance, norm_constrained, seed)
    verdict = cf.verdict(
        flow,
        W0,
        k,
        T=T,
        Ttr=Ttr,
        dt=dt,
        rtol=rtol,
        atol=atol,
        solver=None if solver is None else solver.value,
        max_steps=max_steps,
        blow_up=blow_up,
        progress=_progress(quiet),
    )
    found = verdict.spectrum
    _say(in_options(f"{found.outcome}", ctx.command.params))
    table = Table("exponent", "value", "standard error")
    for i, (value, error) in enumerate(zip(found.exponents, found.stderr, strict=True), start=1):
        table.add_row(f"λ{i}", f"{value:+.6f}", f"{error:.6f}")
    console.print(table)
    _say(f"Verdict: {verdict.motion.value}")
    for each in verdict.evidence:
        _say(f"- {in_options(each.sentence, ctx.command.params)}")
    if out is not None:
        verdict.to_xarray().assign_attrs(seed=seed, start=start).to_netcdf(out, engine="h5netcdf")
        _say(f"Wrote {out}.", wrap=False)


@app.command(cls=InOptions)
def stability(
    c: Annotated[
        float | None, typer.Option("--ratio", "-c", help="Compression ratio c = M/N of a wide network.")
    ] = None,
    alpha_h: AlphaH = 0.0,
    alpha_r: AlphaR = 0.0,
    kappa: Annotated[
        float, typer.Option(help="Variance ratio κ of the readout's to the hidden layer's weights.")
    ] = 1.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Draw the stability diagram, with the point: .pdf, .png or .svg.",
        ),
    ] = None,
    layer: Annotated[
        Layer,
        typer.Option(
            metavar="LAYER", help="Whose flipped fraction is the diagram's axis: hidden or readout."
        ),
    ] = Layer.HIDDEN,
    force: Force = False,
) -> None:
    """Whether the solution manifold of a wide network is stable.

    At a point (--ratio), as a diagram (--out), or both.

    Example: curlflow stability -c 0.5 --alpha-h 0.3 -o hidden.pdf
    """
    if c is None and out is None:
        raise ValueError("Either `--ratio` or `--out` must be given, but neither was.")
    if out is not None:
        _new_file("--out", out, FIGURES, force=force)
    if c is not None:
        _print_stability(c, alpha_h, alpha_r, kappa)
    if out is not None:
        _draw_stability(out, layer, c, alpha_h, alpha_r, kappa)
        _say(f"Wrote {out}.", wrap=False)


@app.command(cls=InOptions)
def sweep(
    recipe: Annotated[Path, typer.Argument(help="The sweep: a TOML file.", metavar="FILE.toml")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="STORE", help="Where to write, instead of the store in the file."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes, instead of the number in the file.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compute a function over a grid of parameters and seeds.

    Killed and run again, it computes what is missing. It never overwrites: a
    store that was begun by another sweep is refused.

    Example: curlflow sweep fig3a.toml --workers 2
    """
    from curlflow.sweeps.recipe import read_recipe
    from curlflow.sweeps.workers import local_client

    asked = read_recipe(recipe)
    workers = asked.workers if workers is None else _checks.positive_integer("--workers", workers)
    if asked.budget is not None and workers is None:
        raise ValueError(
            f"`budget` must come with workers, which alone can be ended, but in {recipe} it is {asked.budget:g} and there "
            "are none: give --workers 1."
        )
    store = asked.store if out is None else out
    with local_client(workers) as client:
        results = cf.sweep(
            asked.function,
            asked.axes,
            seeds=asked.seeds,
            store=store,
            batch=asked.batch,
            client=client,
            budget=asked.budget,
            progress=_progress(quiet),
        )
    endings, counts = np.unique(results["ending"], return_counts=True)
    table = Table("ending", "cells")
    for ending, count in zip(endings, counts, strict=True):
        table.add_row(str(ending), str(count))
    console.print(table)
    _say(f"Everything is in {store}.", wrap=False)


def _print_stability(c: float, alpha_h: float, alpha_r: float, kappa: float) -> None:
    edges = cf.spectral_edges(c, alpha_h, alpha_r, kappa)
    bands = [f"[{-high:.6g}, {-low:.6g}]" for low, high in edges[np.isfinite(edges)].reshape(-1, 2)[::-1]]
    margin = float(cf.random_matrix.stability_margin(c, alpha_h, alpha_r, kappa))
    window = cf.random_matrix.instability_window(alpha_h, alpha_r, kappa)
    table = Table.grid(padding=(0, 2))
    table.add_row("solution manifold", "stable" if margin > 0 else "unstable")
    table.add_row("eigenvalues across it, bands", " ".join(bands))
    table.add_row("distance to instability", f"{margin:.6g}")
    table.add_row("unstable ratios c", _interval(float(window.lower), float(window.upper)))
    for layer, other in ((Layer.HIDDEN, alpha_r), (Layer.READOUT, alpha_h)):
        critical = float(cf.random_matrix.critical_alpha(c, layer=layer.value, other=other, kappa=kappa))
        table.add_row(f"critical fraction, {layer.value} layer", f"{critical:.6g}")
    console.print(table)


def _interval(lower: float, upper: float) -> str:
    """The numbers between the two ends, in words."""
    if np.isinf(lower):
        return "none"
    return f"above {lower:.6g}" if np.isinf(upper) else f"{lower:.6g} to {upper:.6g}"


def _draw_stability(
    path: Path, layer: Layer, asked: float | None, alpha_h: float, alpha_r: float, kappa: float
) -> None:
    c, alpha = np.linspace(0.01, 1.25 * max(asked or 0.0, 1.6), 500), np.linspace(0.001, 0.999, 500)
    fractions = (alpha[:, None], alpha_r) if layer is Layer.HIDDEN else (alpha_h, alpha[:, None])
    margin = cf.random_matrix.stability_margin(c, *fractions, kappa)
    contours = cf.plot.stability_diagram(c, alpha, margin, layer=layer.value)
    ax = contours.axes
    ax.text(0.03, 0.04, "stable", transform=ax.transAxes, fontsize=8)
    ax.text(0.97, 0.93, "unstable", transform=ax.transAxes, fontsize=8, horizontalalignment="right")
    if asked is not None:
        _mark(ax, asked, alpha_h if layer is Layer.HIDDEN else alpha_r)
    cf.plot.save_figure(ax.figure, path)


def _mark(ax: Any, c: float, fraction: float) -> None:
    """The point that was asked for, whole also on the diagram's edge, and its numbers on the side with more room."""
    ax.plot(c, fraction, "o", markersize=5, color="black", markeredgecolor="white", clip_on=False, zorder=5)
    left, below = c > sum(ax.get_xlim()) / 2, fraction > 0.5
    ax.annotate(
        f"({c:g}, {fraction:g})",
        (c, fraction),
        xytext=(-6 if left else 6, -9 if below else 5),
        textcoords="offset points",
        fontsize=8,
        horizontalalignment="right" if left else "left",
    )


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
) -> "tuple[Any, cf.Weights]":
    draw, nudge, inputs = jax.random.split(jax.random.key(_checks.random_seed("--seed", seed)), 3)
    kind, amount = _setting("--start", start, ("gaussian", "near"))
    C = None
    if covariance != "identity":
        C = cf.ensembles.sample_covariance(inputs, M=M, samples=_samples(covariance))
    flow, student, teacher = cf.ensembles.student_teacher(
        draw, N=N, M=M, P=P, alpha_h=alpha_h, alpha_r=alpha_r, C=C
    )
    if kind == "near":
        W0 = cf.ensembles.near_solution(
            nudge, teacher, distance=_checks.positive_number("--start near", amount)
        )
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


def _samples(covariance: str) -> int:
    """Read samples=COUNT."""
    key, _, count = covariance.partition("=")
    if key != "samples" or not count.isdecimal():
        raise ValueError(f"`--covariance` must be identity or samples=COUNT, but is {covariance!r}.")
    return _checks.positive_integer("--covariance samples", int(count))


def _time(t1: float) -> float:
    """How long an orbit runs; backwards if negative."""
    if _checks.finite_number("--time", t1) == 0:
        raise ValueError("`--time` must not be 0, but is: an orbit has to run for some time.")
    return float(t1)


def _point(text: str) -> Any:
    parts = text.split(",")
    if len(parts) != 2:
        raise ValueError(f"`--orbit` must be two numbers W1,W2, but is {text!r}.")
    return jax.numpy.array([_checks.finite_number("--orbit", part) for part in parts])  # pyright: ignore[reportArgumentType]


def _window(half_width: float) -> tuple[float, float]:
    half = _checks.positive_number("--half-width", half_width)
    return -half, half


def _new_file(option: str, path: Path, suffixes: tuple[str, ...] = (), *, force: bool) -> None:
    """Refuse a file that could not be written, or that is there already and is not to be lost."""
    _checks.writable_file(option, path, suffixes)
    if path.exists() and not force:
        raise ValueError(
            f"`{option}` must not overwrite a file, but {path} exists: give another name, or `--force`."
        )


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
