"""Sphinx configuration. The build executes every notebook and reaches for nothing on the network."""

import inspect
import os
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import curlflow

# XLA warns when compiling takes long, as it may on a busy machine: that is no part of a page.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Figures stand on their pages, whatever backend is set where they are built.
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"

project = "curlflow"
author = "The curlflow authors"
copyright = "2026, The curlflow authors"
release = metadata.version("curlflow")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build"]
default_role = "py:obj"  # `CurlFlow` in a docstring links to it

html_theme = "furo"
html_title = f"curlflow {release}"
html_show_sphinx = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_render_markdown_format = "myst"  # tables that a cell hands over are tables on the page
nb_output_stderr = "warn"  # with -W, a warning in a notebook stops the build

bibtex_bibfiles = ["refs.bib"]
bibtex_default_style = "unsrt"
bibtex_reference_style = "author_year"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # shapes and units stand in the text, where they can be read
napoleon_google_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True  # a frozen module's fields appear once, in the class's own text


# Used by their module's name, as in cf.ensembles; the names of all other rooms are at the front door themselves.
ROOMS_OFFERED_WHOLE = ["ensembles"]


def write_api_pages(folder: Path) -> None:
    """One page for each room that offers something, from the ground up."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.rst"):
        stale.unlink()
    for number, room in enumerate(rooms_from_the_ground_up()):
        names = names_offered(room)
        if names:
            (folder / f"{number:02d}-{room}.rst").write_text(api_page(room, names), encoding="utf-8")


def rooms_from_the_ground_up() -> list[str]:
    """All rooms, in the order of their floors."""
    pyproject = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    layers = pyproject["tool"]["importlinter"]["contracts"][0]["layers"]
    return [room for layer in reversed(layers) for room in re.findall(r"\w+", layer)]


def names_offered(room: str) -> list[str]:
    """What a room offers its users, under the names by which they import it."""
    if room in ROOMS_OFFERED_WHOLE:
        functions = inspect.getmembers(sys.modules[f"curlflow.{room}"], inspect.isfunction)
        return [f"curlflow.{room}.{name}" for name, _ in functions if not name.startswith("_")]
    return [
        f"curlflow.{name}"
        for name, thing in vars(curlflow).items()
        if not name.startswith("_") and getattr(thing, "__module__", "").startswith(f"curlflow.{room}")
    ]


def api_page(room: str, names: list[str]) -> str:
    """The room's own words, then every class and function it offers."""
    page = [room, "=" * len(room), "", inspect.getdoc(sys.modules[f"curlflow.{room}"]) or "", ""]
    for name in names:
        if isinstance(getattr(curlflow, name.removeprefix("curlflow."), None), type):
            page += [f".. autoclass:: {name}", "   :members:", "   :special-members: __call__", ""]
        else:
            page += [f".. autofunction:: {name}", ""]
    return "\n".join(page)


write_api_pages(Path(__file__).parent / "api" / "generated")
