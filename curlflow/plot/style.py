"""The look of every figure: journal widths, embedded fonts, colours that survive colour blindness and grey printing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from curlflow import _checks

# What paper.mplstyle sets, and nothing else.
PAPER: Final = mpl.rc_params_from_file(Path(__file__).with_name("paper.mplstyle"), use_default_template=False)

SINGLE_COLUMN: Final[float] = PAPER["figure.figsize"][0]  # inches
DOUBLE_COLUMN: Final = 178 / 25.4

# From the palette of Okabe and Ito, which no common colour blindness confuses. In grey print their lightness also falls in
# this order, and no two things that may meet in one figure differ by colour alone.
BLACK: Final = "#000000"
BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"
PURPLE: Final = "#882255"
SKY_BLUE: Final = "#56B4E9"
GREY: Final = "#7F7F7F"

CURL_FLOW: Final = BLUE
GRADIENT_FLOW: Final = ORANGE
FLOW_COLOURS: Final = {"curl flow": CURL_FLOW, "gradient flow": GRADIENT_FLOW, "": CURL_FLOW}
# Orbits without a colour of their own go through these: solid, dashed, dash-dotted, then with more dots between the dashes.
ORBIT_COLOURS: Final = (PURPLE, SKY_BLUE, BLACK)
ORBIT_DASHES: Final = ("solid", "dashed", "dashdot")
# Curves over one axis, where dashes have to tell in grey print what colours tell else: twenty looks.
CURVE_COLOURS: Final = (PURPLE, GREEN, BLACK, VERMILION)
CURVE_DASHES: Final = ("solid", (0, (4, 1.2)), "dashdot", "dotted", (0, (6, 1, 1, 1, 1, 1)))
NULLCLINES: Final = ((GREEN, "dashdot"), (ORANGE, "dotted"))
SOLUTION_MANIFOLD: Final = VERMILION
FIELD: Final = "#66727e"
SAMPLES: Final = "#c4ccd4"

# White where the loss is least; light throughout, so that whatever is drawn over it can be seen.
LOSS_COLOURS: Final = LinearSegmentedColormap.from_list(
    "curlflow_loss", ["#ffffff", "#e9eef2", "#d3dbe3", "#bcc7d2"]
)


Item = TypeVar("Item")


@contextmanager
def paper_style(*, columns: int = 1, aspect: float = 0.75) -> Iterator[None]:
    """Draw figures for a paper: inside this context new figures have a journal column's width and matching type.

    The look is that of the matplotlib style sheet "curlflow.plot.paper", which can be used without this context too.

    Parameters
    ----------
    columns
        1 for figures 85 mm wide, 2 for 178 mm.
    aspect
        Height over width of a new figure.

    Raises
    ------
    ValueError
        If `columns` is neither 1 nor 2, or the aspect is not positive.

    Examples
    --------
    >>> import curlflow as cf, matplotlib.pyplot as plt
    >>> with cf.plot.paper_style(columns=1, aspect=1.0):
    ...     fig, ax = plt.subplots()
    >>> [round(25.4 * side) for side in fig.get_size_inches()]  # millimetres
    [85, 85]
    >>> plt.close(fig)

    For a whole script:

    >>> plt.style.use("curlflow.plot.paper")
    >>> plt.rcParams["font.size"], plt.rcParams["axes.spines.right"]
    (8.0, False)
    >>> plt.rcdefaults()  # matplotlib's own look again
    """
    if columns not in (1, 2):
        raise ValueError(f"`columns` must be 1 or 2, but is {columns!r}.")
    if not aspect > 0:
        raise ValueError(f"`aspect` must be positive, but is {aspect!r}.")
    width = SINGLE_COLUMN if columns == 1 else DOUBLE_COLUMN
    interactive = mpl.is_interactive()
    try:
        with mpl.rc_context({**PAPER, "figure.figsize": (width, aspect * width)}):
            try:
                yield
            finally:
                interactive = mpl.is_interactive()
    finally:
        # A notebook's first figure loads its backend, which switches this on: not to be taken back with the rest of the look.
        mpl.interactive(interactive)


def labelled(name: str, given: Mapping[str, Item] | Sequence[Item], kind: type) -> Iterator[tuple[str, Item]]:
    """What a plot is to draw, with labels: those of a mapping, and none for a list.

    Raises
    ------
    ValueError
        If it is one thing of its kind and no list of them.
    """
    if isinstance(given, kind):
        what = kind.__name__.lower()
        raise ValueError(
            f"`{name}` must be a list or a mapping from labels, but is one {what}: "
            f'write {{"label": {what}}} or [{what}].'
        )
    return iter(given.items() if isinstance(given, Mapping) else [("", item) for item in given])


def curve_looks(labels: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Colour, dash and label for every curve, the flows' own colours by their labels; no label where it is empty."""
    for number, label in enumerate(labels):
        colour = FLOW_COLOURS.get(label) if label else None
        colour = colour or CURVE_COLOURS[number % len(CURVE_COLOURS)]
        yield {"color": colour, "linestyle": CURVE_DASHES[number % len(CURVE_DASHES)], "label": label or None}


def orbit_looks(labels: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """A colour and a dash for every orbit, by its label: no two of those without a colour of their own look alike."""
    others = 0
    for label in labels:
        if label in FLOW_COLOURS:
            yield FLOW_COLOURS[label], "solid"
            continue
        dash, colour = divmod(others, len(ORBIT_COLOURS))
        is_named = dash < len(ORBIT_DASHES)
        yield ORBIT_COLOURS[colour], ORBIT_DASHES[dash] if is_named else (0, (4, 1) + (1, 1) * (dash - 1))
        others += 1


def save_figure(figure: Any, path: str | Path) -> Path:
    """Save a figure, as PDF, PNG, SVG (these the same bytes every time) or whatever the path's suffix says.

    Parameters
    ----------
    figure
        The figure, or anything drawn in it: a subfigure, axes, an artist, what a function of `curlflow.plot` returned (a
        `Portrait`, the dict of `compare_portraits`, the lines of `loss`), or a list or dict of these.
    path
        Where to, with a suffix that matplotlib knows. Its folder must exist.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    ValueError
        If what was drawn does not lie in exactly one figure, a file cannot be written there, or its format is unknown.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp, tempfile
    >>> orbit = cf.integrate(cf.toy_flow(), jnp.array([-1.5, 1.0]), 20.0)
    >>> lines = cf.plot.loss({"curl flow": orbit})
    >>> cf.plot.save_figure(lines, f"{tempfile.mkdtemp()}/loss.pdf").name
    'loss.pdf'
    """
    path, root = _checks.writable_file("path", path), _figure_of(figure)
    suffix = path.suffix.lstrip(".").lower()
    _checks.require_one_of("path's suffix", suffix, tuple(sorted(root.canvas.get_supported_filetypes())))
    # Without a creation date the same figure gives the same file.
    metadata: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix, {})
    # The file's settings only: the rest of the look is the figure's own, which need not be the paper's.
    with mpl.rc_context({name: PAPER[name] for name in ("pdf.fonttype", "ps.fonttype", "svg.hashsalt")}):
        root.savefig(path, metadata=metadata, dpi=PAPER["savefig.dpi"])
    return path


def _figure_of(drawn: Any) -> Figure:
    """The one figure in which everything lies that was drawn."""
    figures = set(_figures(drawn))
    if len(figures) != 1:
        found = (
            f"lies in {len(figures)}"
            if figures
            else f"{type(drawn).__name__} with nothing in it that was drawn"
        )
        raise ValueError(
            "`figure` must be a figure, or axes, artists or results of curlflow.plot that lie in one, "
            f"but {'' if figures else 'is '}{found}."
        )
    return figures.pop()


def _figures(drawn: Any) -> Iterator[Figure]:
    """The figures of an artist, or of all artists in a list, a dict or a result."""
    if isinstance(drawn, Artist):
        figure = drawn.get_figure(root=True)
        yield from () if figure is None else (figure,)
        return
    parts: Iterable[Any] = ()
    if is_dataclass(drawn):
        parts = (getattr(drawn, each.name, None) for each in fields(drawn))
    elif isinstance(drawn, Mapping):
        parts = drawn.values()
    elif isinstance(drawn, (list, tuple, set, np.ndarray)):
        parts = drawn.flat if isinstance(drawn, np.ndarray) else drawn
    for part in parts:
        yield from _figures(part)


def log_levels(values: np.ndarray, decades: float) -> tuple[float, float]:
    """The colour range for positive values on a logarithmic scale: the top, and so many decades below it."""
    top = float(np.nanmax(values))
    return top * 10.0**-decades, top
