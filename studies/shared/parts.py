"""The command line of all studies, which consist of parts: each is computed, saved, drawn and reported on its own."""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import matplotlib as mpl
import xarray as xr

from curlflow.sweeps.workers import local_client

Results = TypeVar("Results")


class Part(NamedTuple, Generic[Results]):
    """One part of a study.

    `compute` takes whether the quick version is wanted, the folder of its sweep, and the client whose workers compute it
    (None: this process); a part without a sweep leaves the last two aside. It returns a Dataset, or a result that becomes one
    by `to_xarray`. `draw` writes the part's figures into a folder; `report` says what the numbers show.
    """

    compute: Callable[[bool, Path, Any], Results]
    draw: Callable[[Results, Path], None]
    report: Callable[[Results], str]


def run_parts(name: str, description: str | None, parts: Mapping[str, Part[Any]]) -> None:
    """Parse the command line, and go through the parts it asks for, in double precision."""
    options = _parser(name, description, parts).parse_args()
    jax.config.update("jax_enable_x64", True)
    mpl.use("Agg")
    options.out.mkdir(parents=True, exist_ok=True)
    figure = name.partition("_")[0]
    for chosen in options.parts:
        part, begin = parts[chosen], time.perf_counter()
        with local_client(options.workers) as client:
            results = part.compute(options.quick, options.out / f"{chosen}.zarr", client)
        numbers = results if isinstance(results, xr.Dataset) else results.to_xarray()
        numbers.to_netcdf(options.out / f"{figure}_{chosen}.nc", engine="h5netcdf")
        part.draw(results, options.out)
        print(f"{chosen} ({time.perf_counter() - begin:.0f} s)\n{part.report(results)}\n", flush=True)
    print(f"Figures and numbers are in {options.out}/.")


def _parser(name: str, description: str | None, parts: Mapping[str, Part[Any]]) -> argparse.ArgumentParser:
    """The options that every study has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller networks, coarser grids, fewer draws; the same figures"
    )
    parser.add_argument(
        "--parts", nargs="+", metavar="PART", choices=list(parts), default=list(parts),
        help=f"some of: {', '.join(parts)}; default: all",
    )  # fmt: skip
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes for sweeps (needs curlflow[cluster]); default: this one",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        default=Path("out") / name,
        help="where figures, numbers and sweeps go; default: %(default)s",
    )
    return parser
