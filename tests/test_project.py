"""The pages around the code say what the code does: README, architecture page, citation, changelog."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import curlflow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_example_runs_and_shows_what_its_comments_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) < 80
    results = re.split(r"\n(?! )", printed.strip())  # what goes on in the next line is indented there
    _, at_the_solution, without_flips, with_flips = results
    assert "stable node" in at_the_solution
    assert "saddle" in without_flips
    assert "centre" in with_flips


def test_the_readmes_table_names_only_what_is_at_the_front_door():
    table = README.split("## What is there")[1].split("##")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names = [
        name for cell in cells if "curlflow tour" not in cell for name in re.findall(r"`([\w.]+)`", cell)
    ]
    assert len(names) >= 10
    assert [name for name in names if not is_offered(name)] == []


def is_offered(name: str) -> bool:
    """Whether a name is at the front door, or "room.name" in a public room."""
    room, _, last = name.rpartition(".")
    there = getattr(curlflow, room) if room else curlflow
    return (not room or room in curlflow.__all__) and last in there.__all__


def test_the_architecture_page_shows_every_room_on_its_floor_and_no_other():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d+) \| `(\w+)` \|", page, flags=re.MULTILINE)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = pyproject["tool"]["importlinter"]["contracts"][0]["layers"]
    floors = enumerate(re.findall(r"\w+", layer) for layer in reversed(layers))
    assert sorted(shown) == sorted((str(floor), room) for floor, rooms in floors for room in rooms)
    there = {path.stem for path in (ROOT / "curlflow").iterdir() if path.suffix == ".py" or is_package(path)}
    assert {room for _, room in shown} == there - {"__init__"}


def is_package(path: Path) -> bool:
    return (path / "__init__.py").exists()


def test_citation_and_package_have_the_same_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {version('curlflow')}\n" in citation
