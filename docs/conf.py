"""Sphinx configuration. The build executes every notebook and reaches for nothing on the network."""

import inspect
from importlib import metadata
from pathlib import Path
from types import ModuleType

import curlflow

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

html_theme = "furo"
html_title = f"curlflow {release}"
html_show_sphinx = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "warn"  # with -W, a warning in a notebook stops the build

bibtex_bibfiles = ["refs.bib"]
bibtex_default_style = "unsrt"
bibtex_reference_style = "author_year"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_ivar = True  # a frozen module's fields appear once, in the class's own text


def write_api_pages(folder: Path) -> None:
    """One page for each room that offers something at the front door, in the front door's order."""
    rooms: dict[str, dict[str, object]] = {}
    for name, thing in vars(curlflow).items():
        if not name.startswith("_") and not isinstance(thing, ModuleType):
            room = thing.__module__.removeprefix("curlflow.").split(".")[0]
            rooms.setdefault(room, {})[name] = thing

    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.rst"):
        stale.unlink()
    for number, (room, things) in enumerate(rooms.items()):
        room_docstring = inspect.getdoc(getattr(curlflow, room)) or ""
        entries = [
            f".. autoclass:: {name}\n   :members:\n"
            if isinstance(thing, type)
            else f".. autofunction:: {name}\n"
            for name, thing in things.items()
        ]
        heading = f"{room}\n{'=' * len(room)}\n\n{room_docstring}\n\n.. currentmodule:: curlflow\n"
        (folder / f"{number:02d}-{room}.rst").write_text("\n".join([heading, *entries]), encoding="utf-8")


write_api_pages(Path(__file__).parent / "api" / "generated")
