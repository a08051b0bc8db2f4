"""The public API under a type checker: a user's strict project has nothing to complain of, and mistakes are seen."""

import json
import subprocess
import sys
from pathlib import Path

import curlflow

HERE = Path(__file__).parent
# Like a user's: the package and the libraries are those that these tests run with.
SETTINGS = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "reportMissingModuleSource": "none"}
MISTAKES = """
import curlflow as cf

cf.integrate(3, [1.0], 1.0)
cf.lyapunov_spectrum(cf.toy_flow(), [1.0, 2.0], T="long")
cf.toy_flow(flip="sideways")
cf.integrate(cf.toy_flow(), [1.0, 2.0], 1.0).final
"""


def complaints(folder: Path, source: str) -> list[tuple[int, str]]:
    """Line and rule of everything that the checker finds wrong."""
    (folder / "project.py").write_text(source, encoding="utf-8")
    root = str(Path(curlflow.__file__).parents[1])
    (folder / "pyrightconfig.json").write_text(json.dumps(SETTINGS | {"extraPaths": [root]}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    found = subprocess.run([*command, "-p", str(folder)], capture_output=True, text=True, check=False)
    report = json.loads(found.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    return [(each["range"]["start"]["line"], each["rule"]) for each in report["generalDiagnostics"]]


def test_a_users_strict_project_has_nothing_to_complain_of(tmp_path: Path):
    source = (HERE / "typing" / "users_project.py").read_text(encoding="utf-8")
    assert complaints(tmp_path, source) == []


def test_a_users_mistakes_are_seen_by_the_type_checker(tmp_path: Path):
    lines = [line for line, _ in complaints(tmp_path, MISTAKES)]
    assert sorted(set(lines)) == [3, 4, 5, 6]


def test_the_package_says_that_it_is_typed():
    assert (Path(curlflow.__file__).parent / "py.typed").exists()
