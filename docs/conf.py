"""Sphinx configuration. The build executes every notebook and reaches for nothing on the network."""

import inspect
import os
import re
import sys
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from docutils import nodes
from docutils.nodes import Element
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import curlflow
from curlflow import system

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
nitpicky = True  # a link to curlflow that leads nowhere stops the build …
nitpick_ignore_regex = [
    ("py:.*", r"(?!curlflow\.).*")
]  # … and `y0` and the like, which name no object, do not

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


# Cells in which one of these is called have a picture below them.
DRAWS = re.compile(r"\b(phase_portrait|plot\.(?!paper_style|save_figure)\w+|plt\.(show|figure|subplots))\(")

# What a system is and may know of itself, and what stands in where it does not.
PROTOCOLS = [name for name, thing in vars(system).items() if Protocol in getattr(thing, "__bases__", ())]
ACCESSORS = [
    "check_state",
    "velocity_and_tangents",
    "euler_step",
    "rescaled",
    "outputs",
    "coordinate_names",
]


def public_rooms() -> list[str]:
    """The rooms at the front door, in its order."""
    return [name for name in curlflow.__all__ if inspect.ismodule(getattr(curlflow, name))]


def front_door() -> dict[str, str]:
    """The names at the front door that are no rooms, and where each is documented: in its room, if it has one."""
    names = [name for name in curlflow.__all__ if name not in public_rooms()]
    return {name: next((f"{room}.{name}" for room in rooms_with(name)), name) for name in names}


def rooms_with(name: str) -> list[str]:
    """The public rooms that offer what the front door has under this name."""
    thing = getattr(curlflow, name)
    rooms = {room: getattr(curlflow, room) for room in public_rooms()}
    return [room for room, there in rooms.items() if name in there.__all__ and getattr(there, name) is thing]


def write_api_pages(folder: Path) -> None:
    """The front door, what a system is, and one page for each public room."""
    pages = {"door": door_page(), "system": room_page("system", PROTOCOLS + ACCESSORS)}
    pages |= {room: room_page(room, getattr(curlflow, room).__all__) for room in public_rooms()}
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.rst"):
        stale.unlink()
    for number, (name, lines) in enumerate(pages.items()):
        (folder / f"{number:02d}-{name}.rst").write_text("\n".join(lines), encoding="utf-8")


def door_page() -> list[str]:
    """All names of the front door with their first sentences; in full, those that belong to no room."""
    page = [*heading("The front door"), ".. list-table::", ""]
    for name, place in front_door().items():
        first_sentence = (inspect.getdoc(getattr(curlflow, name)) or "").partition("\n")[0]
        page += [f"   * - :py:obj:`cf.{name} <curlflow.{place}>`", f"     - {first_sentence}"]
    roomless = [name for name, place in front_door().items() if name == place]
    return [*page, "", *descriptions("curlflow", roomless)]


def room_page(room: str, names: list[str]) -> list[str]:
    """The room's own words, then every class and function it offers."""
    return [
        *heading(f"curlflow.{room}"),
        f".. automodule:: curlflow.{room}",
        "",
        *descriptions(f"curlflow.{room}", names),
    ]


def heading(title: str) -> list[str]:
    return [title, "=" * len(title), ""]


def descriptions(module: str, names: list[str]) -> list[str]:
    """What autodoc is to write about classes and functions of a module."""
    lines = []
    for name in names:
        thing = getattr(sys.modules[module], name)
        signature = "()" if name in PROTOCOLS else ""  # theirs would say nothing
        if not isinstance(thing, type):
            lines += [f".. autofunction:: {module}.{name}", ""]
        elif issubclass(thing, Enum):
            lines += [f".. autoclass:: {module}.{name}()", "   :members:", "   :undoc-members:", ""]
        else:
            lines += [f".. autoclass:: {module}.{name}{signature}"]
            lines += ["   :members:", "   :special-members: __call__", ""]
    return lines


def full_names() -> dict[str, str]:
    """Where to find what docstrings name without its room.

    A single word in lower case is more often an argument than a function: it leads somewhere only from within its room, or if
    it is at the front door.
    """
    offered = [(room, name) for room in public_rooms() for name in getattr(curlflow, room).__all__]
    in_rooms = {name: f"{room}.{name}" for room, name in offered if re.search("[A-Z_]", name)}
    return in_rooms | {name: f"system.{name}" for name in PROTOCOLS} | front_door()


def resolve(app: Sphinx, env: BuildEnvironment, node: Element, content: Element) -> Element | None:
    """Where `CurlFlow`, `Trajectory.loss` or `chaos.gali` leads, if not to a neighbour in the same room."""
    if node.get("refdomain") != "py":
        return None
    target, names = node["reftarget"], full_names()
    first, dot, rest = target.removeprefix("curlflow.").partition(".")
    if first not in names and "." not in target:
        return None
    full = f"curlflow.{names.get(first, first)}{dot}{rest}"
    return env.domains.python_domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", full, node, content
    )


def correct_napoleon(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Take back what napoleon takes for a type: a property's words before a colon, and all but the last of "a, b, c"."""
    if what == "property" and (types := [line for line in lines if line.startswith(":type: ")]):
        lines.remove(types[0])
        lines[0] = f"{types[0].removeprefix(':type: ')}: {lines[0]}"
    lines[:] = [re.sub(r"^:ivar [^:]+:", lambda field: field[0].replace(", ", ","), line) for line in lines]


def require_figures(app: Sphinx, doctree: nodes.document) -> None:
    """With -W, stop at a cell that draws and yields no picture: it vanishes from its page without an error."""
    for cell in doctree.findall(nodes.container):
        if "cell" not in cell["classes"]:
            continue
        source = "".join(part.astext() for part in cell.findall(nodes.literal_block))
        if DRAWS.search(source) and not any(True for _ in cell.findall(nodes.image)):
            logging.getLogger(__name__).warning("A cell that draws yields no picture.", location=cell)


def setup(app: Sphinx) -> None:
    """Make the pages of the reference, and its names known."""
    write_api_pages(Path(__file__).parent / "api" / "generated")
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", correct_napoleon, priority=501)
    app.connect("doctree-read", require_figures)
