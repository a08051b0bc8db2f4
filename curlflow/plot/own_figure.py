"""What ``ax=None`` means in every plot: a new figure of its own, in the paper's style."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from curlflow.plot.style import paper_style

Arguments = ParamSpec("Arguments")
Drawn = TypeVar("Drawn")
Plot = Callable[Arguments, Drawn]

# What constrained layout leaves free around a figure, and a little more, in inches; and the tallest figure, in widths.
MARGIN, TALLEST = 0.1, 1.6


@contextmanager
def own_figure(*, columns: int = 1, aspect: float) -> Iterator[Figure]:
    """A new figure in the paper's style, which lasts as long as the context; closed again if drawing on it fails."""
    with paper_style(columns=columns, aspect=aspect):
        figure = plt.figure()
        try:
            yield figure
        except BaseException:
            plt.close(figure)  # a refused argument leaves no empty figure behind
            raise


def on_own_figure(
    *, columns: int = 1, aspect: float, panels: int = 1, finish: Callable[[Figure, Any], None] | None = None
) -> Callable[[Plot[Arguments, Drawn]], Plot[Arguments, Drawn]]:
    """Let a plot draw on a figure of its own where it is given no axes.

    The plot takes the keyword `ax`, or `axes` if it has several panels, with the default None, and never sees that None:
    it says so to the type checker by ``assert ax is not None``.

    Parameters
    ----------
    columns, aspect
        The figure's width and its height over its width, as in `paper_style`.
    panels
        How many axes the plot draws on, side by side with one y axis.
    finish
        What is left to do to a figure of its own when all is drawn: a function of the figure and of what the plot returns.

    Returns
    -------
    Callable
        Decorates the plot. Signature and docstring stay.

    Examples
    --------
    >>> @on_own_figure(aspect=0.5)
    ... def diagonal(*, ax=None):
    ...     return ax.axline((0, 0), (1, 1))
    >>> width, height = diagonal().axes.figure.get_size_inches()
    >>> float(height / width)
    0.5
    """
    name = "ax" if panels == 1 else "axes"

    def decorate(plot: Plot[Arguments, Drawn]) -> Plot[Arguments, Drawn]:
        @wraps(plot)
        def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Drawn:
            if kwargs.get(name) is not None:
                return plot(*args, **kwargs)
            with own_figure(columns=columns, aspect=aspect) as figure:
                kwargs[name] = figure.subplots(1, panels, sharey=True)
                drawn = plot(*args, **kwargs)
                if finish is not None:
                    finish(figure, drawn)
            return drawn

        return wrapped

    return decorate


def fit_height(figure: Figure) -> None:
    """Give a figure whose axes have a shape of their own just the height that they and its legends need."""
    width = figure.get_size_inches()[0]
    figure.set_size_inches(width, TALLEST * width)
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    panels = max(box.height for box in boxes if box is not None)
    legends = sum(legend.get_window_extent().height for legend in figure.legends)
    needed = (panels + legends) / figure.dpi + MARGIN * (1 + len(figure.legends))
    figure.set_size_inches(width, min(needed, TALLEST * width))
