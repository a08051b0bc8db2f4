"""The front door: 28 names and twelve rooms, each with its own list; what stands there is a contract with users."""

import ast
import subprocess
import sys
from types import ModuleType

import pytest

import curlflow as cf

NAMES = [
    *("CurlFlow", "Weights", "SignedGradientFlow", "NormConstrained", "DescentMap", "GramFlow", "toy_flow"),
    *("integrate", "iterate", "Trajectory", "Outcome", "Ending"),
    *("jacobian", "jacobian_operator", "spectrum", "curl_fraction", "is_gradient"),
    *("classify", "FixedPoint", "find_fixed_points"),
    *("lyapunov_spectrum", "LyapunovSpectrum", "verdict"),
    *("stability_boundary", "spectral_edges", "is_stable"),
    *("phase_portrait", "sweep"),
]
ROOMS = [
    *("models", "ensembles", "orbits", "fixed_points", "chaos", "gradient"),
    *("manifold", "random_matrix", "plane", "races", "plot", "sweeps"),
]
STATE = """
def state():
    looks = {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
    backend = matplotlib.get_backend(auto_select=False)
    draws = numpy.random.get_state()[1].tolist()
    return jax.config.jax_enable_x64, backend, looks, dict(os.environ), draws
"""


def test_the_door_has_these_names_and_rooms_and_no_others():
    assert len(NAMES) == 28
    assert sorted(cf.__all__) == sorted(NAMES + ROOMS)
    assert set(NAMES + ROOMS) <= set(dir(cf))


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_lists_what_it_offers(room: str):
    offered = getattr(cf, room).__all__
    assert len(offered) == len(set(offered)) > 0
    things = [getattr(getattr(cf, room), name) for name in offered]
    assert not any(isinstance(thing, ModuleType) for thing in things)
    assert all(thing.__doc__ for thing in things)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("Outcome", "Ending")])
def test_what_stands_at_the_door_stands_in_a_room_too(name: str):
    rooms = [getattr(cf, room) for room in ROOMS if name in getattr(cf, room).__all__]
    assert any(getattr(room, name) is getattr(cf, name) for room in rooms)


def test_opening_the_door_changes_nothing():
    code = f"import os, jax, numpy, matplotlib\n{STATE}\nbefore = state()\nfrom curlflow import *\nassert state() == before"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


HEAVY = ("matplotlib", "xarray", "zarr", "scipy.stats", "scipy.optimize", "distributed", "nolds")


def modules_after(code: str, *names: str) -> list[str]:
    """Which of the modules a new process has imported after running the code."""
    code = f"import sys\n{code}\nprint([name for name in {names} if name in sys.modules], file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ast.literal_eval(found.stderr)


def test_what_is_not_used_is_not_imported():
    assert modules_after("import curlflow", "jax", "numpy", *HEAVY) == []
    integrated = "import curlflow as cf\ncf.integrate, cf.Weights, cf.jacobian, cf.lyapunov_spectrum"
    assert modules_after(integrated, *HEAVY, "scipy.integrate") == []
    drawn = "import curlflow as cf\ncf.phase_portrait"
    assert "matplotlib" in modules_after(drawn, *HEAVY)


def test_help_takes_no_mathematics():
    arguments = "sys.argv = ['curlflow', 'lyapunov', '--help']"
    helped = f"from curlflow.cli import main\n{arguments}\ntry: main()\nexcept SystemExit: pass"
    assert modules_after(helped, "jax", "numpy", *HEAVY) == []
