"""Every study is an entry script with the same command line; what they share works here and in worker processes."""

import importlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import curlflow as cf
from curlflow.sweeps.workers import local_client

STUDIES = Path(__file__).parents[2] / "studies"
SCRIPTS = sorted(path.stem for path in STUDIES.glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_scripts_docstring_has_its_command_its_cost_and_its_parts(name: str):
    script = importlib.import_module(name)
    text = script.__doc__ or ""
    (command,) = [line.strip() for line in text.splitlines() if "python studies/" in line]
    assert command.startswith(f"python studies/{name}.py [--quick] [--workers N] [--parts ")
    assert command.endswith("] [--out FOLDER]")
    assert "\nCost" in text
    listed = [line.split()[1] for line in text.splitlines() if line.startswith("- ")]
    assert listed == list(script.PARTS)


def test_importing_a_study_makes_no_array_and_leaves_the_precision_alone():
    program = "import jax; " + "; ".join(f"import {name}" for name in SCRIPTS)
    program += "; assert not jax.live_arrays(), jax.live_arrays(); assert not jax.config.jax_enable_x64"
    path = os.pathsep.join([str(STUDIES), *sys.path])
    settings = {**os.environ, "PYTHONPATH": path, "JAX_ENABLE_X64": "0"}
    subprocess.run([sys.executable, "-c", program], check=True, env=settings, timeout=300)


def test_the_command_line_computes_saves_draws_and_reports_the_parts_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from shared.parts import Part, run_parts

    def compute(quick: bool, store: Path, client: object) -> xr.Dataset:
        assert (store.name, client) == ("second.zarr", None)
        return xr.Dataset({"x": ("i", np.arange(2 if quick else 3))})

    def draw(results: xr.Dataset, out: Path) -> None:
        (out / "drawn").write_text(str(results.sizes["i"]))

    def unwanted(*_: object) -> xr.Dataset:
        raise AssertionError

    out = tmp_path / "new" / "folder"
    monkeypatch.setattr(sys, "argv", ["fig0_example.py", "--quick", "--parts", "second", "--out", str(out)])
    parts = {
        "first": Part(unwanted, draw, str),
        "second": Part(compute, draw, lambda results: f"x has {results.sizes['i']} values"),
    }
    run_parts("fig0_example", "An example.", parts)
    assert (out / "drawn").read_text() == "2"
    np.testing.assert_array_equal(xr.load_dataset(out / "fig0_second.nc", engine="h5netcdf")["x"], [0, 1])
    heading, report, *_ = capsys.readouterr().out.splitlines()
    assert heading.startswith("second (")
    assert report == "x has 2 values"


@pytest.mark.slow
def test_workers_compute_cells_that_use_what_studies_share_and_their_store_is_recognised(tmp_path: Path):
    fig6 = importlib.import_module("fig6_7_tanh_hidden")
    cell, axes = partial(fig6.stability_cell, total=20), {"c": [0.5, 1.0], "alpha_h": [0.5]}
    with local_client(2) as client:
        there = cf.sweep(cell, axes, seeds=1, store=tmp_path / "there.zarr", client=client)
    again = cf.sweep(cell, axes, seeds=1, store=tmp_path / "there.zarr")
    here = cf.sweep(cell, axes, seeds=1, store=tmp_path / "here.zarr")
    xr.testing.assert_identical(there, again)  # with its times: nothing was computed twice
    np.testing.assert_allclose(there["growth_rate"], here["growth_rate"], rtol=1e-12)


def races_of(seeds: int) -> cf.races.TimesComparison:
    """Curl descent first in every race."""
    return cf.races.compare_times(np.arange(1.0, seeds + 1), np.full(seeds, 50.0), horizon=100.0)


def test_races_of_which_no_number_could_be_significant_get_no_verdict():
    from shared.races import LEVEL, claim_faster

    _, found, verdict = claim_faster("faster", [races_of(4), None])
    assert verdict == "too few seeds to judge"
    assert found.startswith("first in 4 of 4 races at 2 points; gradient / curl ")
    assert races_of(8).signed_rank_test < LEVEL < races_of(7).signed_rank_test
    assert claim_faster("faster", [races_of(7)])[2] == "too few seeds to judge"
    assert claim_faster("faster", [races_of(8)])[1:] == (
        "faster at 1 of 1 point; gradient / curl 11.1 [7.14, 25]",
        "reproduced",
    )
    assert claim_faster("faster", [races_of(8), None])[2] == "weaker"


def test_above_the_critical_scale_too_few_races_tell_nothing():
    fig5 = importlib.import_module("fig5_faster")
    assert [verdict for *_, verdict in fig5.claim_teacher({1.0: races_of(4), 3.0: None})] == [
        "too few seeds to judge"
    ] * 2
    assert [verdict for *_, verdict in fig5.claim_teacher({1.0: races_of(8), 3.0: None})] == [
        "reproduced"
    ] * 2


@pytest.mark.parametrize(
    ("seeds", "verdicts"), [(2, {"too few seeds to judge"}), (3, {"reproduced", "not reproduced"})]
)
def test_two_seeds_are_no_majority(seeds: int, verdicts: set[str]):
    from shared.verdicts import boundary_claims

    beyond = np.array([[[False], [False]], [[False], [True]]]).repeat(seeds, axis=2)
    axes = {"c": [0.1, 2.0], "alpha_h": [0.0, 0.5], "seed": np.arange(seeds)}
    claims = boundary_claims("6", "they fail", "fail", xr.DataArray(beyond, axes, ("c", "alpha_h", "seed")))
    assert {verdict for *_, verdict in claims} == verdicts
    assert all(("for every seed" in found) == (seeds > 2) for _, found, _ in claims)


@pytest.mark.parametrize(
    ("seconds", "note"),
    [
        (20.0, "Cost: about a minute of one core."),
        (1500.0, "Cost: 25 minutes of one core."),
        (11163.0, "Cost: 3.1 hours of one core."),
    ],
)
def test_reports_end_with_what_they_cost_and_show_no_line_of_a_log(seconds: float, note: str):
    from shared.verdicts import cost_note

    fig4 = importlib.import_module("fig4_readout_flips")
    results = xr.Dataset(
        {
            name: (("c", "alpha_r", "seed"), np.full((2, 2, 2), value))
            for name, value in {"peak_error": 1.0, "test_error": 0.0, "wall_time": seconds / 8}.items()
        },
        {"c": [0.1, 1.0], "alpha_r": [0.0, 0.5]},
    )
    assert cost_note(results) == note
    assert fig4.report_diagram(results).endswith(f"\n\n{note}")
    pages = [path.read_text(encoding="utf-8") for path in (STUDIES.parent / "docs").glob("*.md")]
    assert not any("s of computing" in page for page in pages)
