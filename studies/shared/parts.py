"""The command line of studies that consist of parts: each is computed, saved, drawn and reported on its own."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes

import curlflow as cf
from curlflow.sweeps.workers import local_client


class Part(NamedTuple):
    """One part of a study.

    `compute` takes whether the quick version is wanted, the folder of its sweep, and the client whose workers compute it;
    `draw` writes the figure into a folder; `report` says what the numbers show.
    """

    compute: Callable[[bool, Path, Any], xr.Dataset]
    draw: Callable[[xr.Dataset, Path], None]
    report: Callable[[xr.Dataset], str]


@contextmanager
def panel(path: Path) -> Iterator[Axes]:
    """The axes of a figure of one column, which is saved in the end."""
    with cf.plot.paper_style(aspect=0.75):
        figure, ax = plt.subplots()
        yield ax
        cf.plot.save_figure(figure, path)


def run_parts(name: str, description: str | None, parts: Mapping[str, Part]) -> None:
    """Parse the command line, and go through the parts it asks for."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller networks, coarser grids; the same figures"
    )
    parser.add_argument(
        "--workers", type=int, help="worker processes (needs curlflow[cluster]); default: this one"
    )
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts), help="default: all")
    parser.add_argument(
        "--out", type=Path, default=Path("out") / name, help="folder for figures, data and sweeps"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    short_name = name.split("_")[0]
    for chosen in options.parts:
        part, begin = parts[chosen], time.perf_counter()
        with local_client(options.workers) as client:
            results = part.compute(options.quick, options.out / f"{chosen}.zarr", client)
        results.to_netcdf(options.out / f"{short_name}_{chosen}.nc", engine="h5netcdf")
        part.draw(results, options.out)
        print(f"{chosen} ({time.perf_counter() - begin:.0f} s)\n{part.report(results)}\n", flush=True)
