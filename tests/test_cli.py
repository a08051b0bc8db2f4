"""The command line: what it writes, and that what a user got wrong ends in a sentence and exit code 2."""

import csv
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

import curlflow as cf
import curlflow.tour
from curlflow import cli
from curlflow.tour import Row

COMMANDS = ("tour", "portrait", "integrate", "lyapunov", "stability", "sweep")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run the command line as `curlflow …` does, in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["curlflow", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, out, err

    return run


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is refused is refused before anything is computed."""

    def compute(*_: Any, **__: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(cf, "integrate", compute)
    monkeypatch.setattr(cf, "verdict", compute)
    monkeypatch.setattr(cf.random_matrix, "stability_margin", compute)
    monkeypatch.setattr(cf, "phase_portrait", compute)
    monkeypatch.setattr(cf.plot, "compare_portraits", compute)
    monkeypatch.setattr(curlflow.tour, "tour", compute)


# ------------------------------------------------------------------------------------------------ help


def test_help_names_the_commands_and_their_options(run: Any):
    code, out, _ = run("--help")
    assert code == 0
    assert {"tour", "portrait", "integrate"} <= set(out.split())
    for command, options in {
        "tour": ["--out"],
        "portrait": [
            "--out",
            "-o",
            "--flip",
            "--teacher",
            "--half-width",
            "--orbit",
            "--time",
            "--compare",
            "--force",
        ],
        "integrate": [
            "--out",
            "--hidden",
            "--inputs",
            "--alpha-h",
            "--alpha-r",
            "--start",
            "--rtol",
            "--plot",
        ],
    }.items():
        code, out, _ = run(command, "--help")
        assert code == 0
        assert set(options) <= set(out.replace("│", " ").replace(",", " ").split())


def test_the_installed_command_ends_with_the_right_codes(tmp_path: Path):
    """As a process of its own: the exit codes, one sentence on stderr, and nothing on stdout."""
    command = Path(sys.executable).with_name("curlflow")
    ended = subprocess.run(
        [command, "portrait", "--out", "missing/portrait.pdf"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == "curlflow: `--out` must lie in an existing folder, but missing is none.\n"


# -------------------------------------------------------------------------------------------- bad input


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "portrait --out missing/portrait.pdf",
            "`--out` must lie in an existing folder, but missing is none.",
        ),
        ("portrait --out portrait.docx", "`--out` must end in .pdf or .png or .svg, but is 'portrait.docx'."),
        ("portrait --teacher nan", "`--teacher`/`-s` must be finite, but is nan."),
        ("portrait --orbit 1", "`--orbit` must be two numbers W1,W2, but is '1'."),
        ("portrait --orbit 1,2,3", "`--orbit` must be two numbers W1,W2, but is '1,2,3'."),
        ("portrait --orbit 1,two", "`--orbit` must be a number, but is 'two'."),
        ("portrait --orbit=1,inf", "`--orbit` must be finite, but is inf."),
        (
            "portrait --start 1,1",
            "`--start` must be written `--orbit` in a portrait, but is '1,1': it said where an orbit begins, and says of "
            "a network's student how it is drawn.",
        ),
        ("portrait --half-width 0", "`--half-width` must be positive, but is 0."),
        ("portrait --half-width nan", "`--half-width` must be finite, but is nan."),
        ("portrait --orbit 1,1 --time nan", "`--time` must be finite, but is nan."),
        ("integrate --out trajectory.csv", "`--out` must end in .nc, but is 'trajectory.csv'."),
        ("integrate --out missing/t.nc", "`--out` must lie in an existing folder, but missing is none."),
        ("integrate --plot missing/t.pdf", "`--plot` must lie in an existing folder, but missing is none."),
        ("integrate --plot loss.txt", "`--plot` must end in .pdf or .png or .svg, but is 'loss.txt'."),
        (
            "integrate --start gausian=1",
            "`--start` must be gaussian=NUMBER or near=NUMBER, but is 'gausian=1'.",
        ),
        ("integrate --start gaussian=nan", "`--start gaussian` must be finite, but is nan."),
        ("integrate --start gaussian=-1", "`--start gaussian` must be positive, but is -1."),
        ("integrate --start near=0", "`--start near` must be positive, but is 0."),
        ("integrate --start near", "`--start near` must be a number, but is ''."),
        (
            "integrate --covariance full",
            "`--covariance` must be identity or samples=COUNT, but is 'full'.",
        ),
        (
            "integrate --covariance samples=2.5",
            "`--covariance` must be identity or samples=COUNT, but is 'samples=2.5'.",
        ),
        ("integrate --covariance samples=0", "`--covariance samples` must be at least 1, but is 0."),
        ("integrate --alpha-h 1.5", "`--alpha-h` must lie between 0 and 1, but is 1.5."),
        ("integrate --alpha-r nan", "`--alpha-r` must be finite, but is nan."),
        ("integrate -N 0", "`--hidden`/`-N` must be at least 1, but is 0."),
        ("integrate --time inf", "`--time` must be finite, but is inf."),
        ("integrate --time 0", "`--time` must not be 0, but is: an orbit has to run for some time."),
        (
            "integrate --seed 99999999999999999999",
            "`--seed` must be a whole number from 0 to 9223372036854775807, but is 99999999999999999999.",
        ),
        ("lyapunov --seed -1", "`--seed` must be a whole number from 0 to 9223372036854775807, but is -1."),
        ("stability -c -0.5", "`--ratio`/`-c` must be positive, but is -0.5."),
        ("stability -c 0.5 --alpha-r 2", "`--alpha-r` must lie between 0 and 1, but is 2."),
        ("stability", "Either `--ratio` or `--out` must be given, but neither was."),
        ("stability -o diagram.nc", "`--out` must end in .pdf or .png or .svg, but is 'diagram.nc'."),
        ("tour --out taken", "`--out` must be a folder, but taken is a file."),
        (
            "tour --out taken/tour",
            "`--out` must be a folder that can be made, but taken/tour cannot: Not a directory.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(run: Any, tmp_path: Path, arguments: str, sentence: str):
    (tmp_path / "taken").write_text("a file")
    code, out, err = run(*arguments.split())
    assert (code, out, err) == (2, "", f"curlflow: {sentence}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("integrate --max-steps 0", "`--max-steps` must be at least 1, but is 0."),
        (
            "integrate --start gaussian=1e9 --blow-up 1e6",
            "`--blow-up` must exceed the largest entry of the start",
        ),
        ("integrate --rtol 1e-20", "`--rtol` must lie between 2.2e-14"),
        ("integrate --rtol 0", "`--rtol` must be positive, but is 0."),
        ("integrate --atol -1", "`--atol` must not be negative, but is -1."),
    ],
)
def test_what_the_integrator_refuses_is_said_in_one_sentence(
    run: Any, tmp_path: Path, arguments: str, sentence: str
):
    code, out, err = run(*arguments.split(), "-N", 2, "-M", 2)
    assert (code, out) == (2, "")
    assert err.startswith(f"curlflow: {sentence}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("portrait --flip sideways", "sideways"),
        ("portrait --colour red", "--colour"),
        ("integrate -N many", "--hidden"),
        ("integrate --hiden 3", "--hiden"),
        ("tour --fast", "--fast"),
        ("potrait", "potrait"),
    ],
)
def test_unknown_options_and_values_are_named(run: Any, tmp_path: Path, arguments: str, named: str):
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert named in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------- portrait


@pytest.mark.slow
def test_portrait_draws_the_orbits_it_was_asked_for(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: dict[str, Any] = {}

    def phase_portrait(*arguments: Any, **options: Any) -> cf.plot.Portrait:
        asked.update(options, arguments=arguments)
        return original(*arguments, resolution=12, **options)

    original = cf.phase_portrait
    monkeypatch.setattr(cf, "phase_portrait", phase_portrait)
    code, out, err = run(
        "portrait", "--orbit=-1.6,1", "--orbit", "0.7,0", "-s", 0.5, "--half-width", 2, "--flip", "hidden", "--nullclines",
        "--time", 3, "-o", "portrait.png",
    )  # fmt: skip
    assert (code, out, err) == (0, "Wrote portrait.png.\n", "")
    assert (tmp_path / "portrait.png").read_bytes().startswith(b"\x89PNG")
    flow, xlim, ylim = asked["arguments"]
    assert (float(flow.s), float(flow.d1), float(flow.d2)) == (0.5, -1.0, 1.0)
    assert xlim == ylim == (-2.0, 2.0)
    assert asked["nullclines"]
    orbits = asked["trajectories"]
    assert list(orbits) == ["from (-1.6, 1)", "from (0.7, 0)"]
    for orbit, w0 in zip(orbits.values(), ([-1.6, 1.0], [0.7, 0.0]), strict=True):
        np.testing.assert_array_equal(orbit.ys[0], w0)
        assert orbit.ts[-1] == 3.0


def test_compared_portraits_stand_side_by_side(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, Any] = {}

    def compare_portraits(flows: Any, *arguments: Any, **options: Any) -> Any:
        asked.update(options, flows=flows)
        return original(flows, *arguments, resolution=12, **options)

    original = cf.plot.compare_portraits
    monkeypatch.setattr(cf.plot, "compare_portraits", compare_portraits)
    code, _, _ = run("portrait", "--compare", "--orbit", "0.7,0", "--time", 3, "-o", "both.pdf")
    assert code == 0
    assert (tmp_path / "both.pdf").read_bytes().startswith(b"%PDF")
    assert [float(flow.d2) for flow in asked["flows"].values()] == [1.0, -1.0]
    assert [list(orbits) for orbits in asked["trajectories"].values()] == [["from (0.7, 0)"]] * 2


# -------------------------------------------------------------------------------------------- integrate

SMALL = ("integrate", "-N", 3, "-M", 2, "--time", 2, "--quiet")


def test_integrate_saves_a_trajectory_that_xarray_opens(run: Any, tmp_path: Path):
    code, out, err = run(*SMALL, "--alpha-h", 0.5, "--seed", 3, "--plot", "loss.pdf", "-o", "run.nc")
    assert (code, err) == (0, "")
    assert "completed: Reached t = 2." in out
    assert "Wrote run.nc and loss.pdf." in out
    assert (tmp_path / "loss.pdf").read_bytes().startswith(b"%PDF")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as dataset:
        assert dict(dataset["W1"].sizes) == {"time": 257, "W1_axis0": 3, "W1_axis1": 2}
        assert dict(dataset["W2"].sizes) == {"time": 257, "W2_axis0": 1, "W2_axis1": 3}
        assert (dataset.attrs["seed"], dataset.attrs["alpha_h"]) == (3, 0.5)
        assert float(dataset["time"][-1]) == 2.0
        first, last = (float(dataset["loss"][i]) for i in (0, -1))
    assert f"loss {first:.6g} → {last:.6g}" in out
    run(*SMALL, "--alpha-h", 0.5, "--seed", 3, "-o", "again.nc")
    run(*SMALL, "--alpha-h", 0.5, "--seed", 4, "-o", "other.nc")
    one, again, other = (
        xr.load_dataset(tmp_path / f"{n}.nc", engine="h5netcdf") for n in ("run", "again", "other")
    )
    np.testing.assert_array_equal(one["W1"], again["W1"])
    assert np.abs(one["W1"] - other["W1"]).max() > 0.01


@pytest.mark.parametrize(
    "more", [("--norm-constrained",), ("--covariance", "samples=5", "--start", "near=1e-3")]
)
def test_integrate_takes_the_other_settings(run: Any, tmp_path: Path, more: tuple[str, ...]):
    code, out, err = run(*SMALL, *more, "-o", "run.nc")
    assert (code, err) == (0, "")
    dataset = xr.load_dataset(tmp_path / "run.nc", engine="h5netcdf")
    if "--norm-constrained" in more:
        norms = np.sqrt((dataset["W1"] ** 2).sum(["W1_axis0", "W1_axis1"]))
        np.testing.assert_allclose(norms, norms[0], rtol=1e-6)
        assert "drift of the conserved quantities" in out
    else:
        assert 0 < float(dataset["loss"][0]) < 1e-4


def test_a_blow_up_is_a_result(run: Any):
    code, out, err = run(
        "integrate",
        "-N",
        3,
        "-M",
        2,
        "--time",
        50,
        "--quiet",
        "--alpha-h",
        1,
        "--alpha-r",
        1,
        "--start",
        "gaussian=2",
    )
    assert (code, err) == (0, "")
    assert "blew up: " in out


def test_the_remedy_of_a_step_limit_is_an_option(run: Any, tmp_path: Path):
    code, out, _ = run(*SMALL, "--max-steps", 5, "--blow-up", 100)
    assert code == 0
    sentence = " ".join(out.split())
    assert "5 steps reached only t = " in sentence
    assert "Raise `--max-steps`, loosen `--rtol` and `--atol`, or" in sentence
    assert "take --solver kvaerno5." in sentence
    code, out, _ = run(*SMALL, "--solver", "tsit5", "-o", "run.nc")
    assert code == 0
    assert xr.load_dataset(tmp_path / "run.nc", engine="h5netcdf").attrs["solver"] == "Tsit5"


# ------------------------------------------------------------------------------------------------- tour


def test_a_row_agrees_within_its_tolerance():
    assert Row("words", "saddle", "saddle").agrees
    assert not Row("words", "saddle", "centre").agrees
    assert Row("words", "saddle", "centre").difference is None
    assert Row("number", 1.0 + 1e-7, 1.0).agrees
    assert not Row("number", 1.0 + 1e-5, 1.0).agrees
    assert Row("large number", 1000.0005, 1000.0).agrees
    assert not Row("large number", 1000.005, 1000.0).agrees
    assert not Row("not a number", float("nan"), 1.0).agrees
    assert Row("loose", 0.01, 0.0, tolerance=0.02).agrees


def test_a_disagreement_ends_the_tour_with_exit_code_1(run: Any, monkeypatch: pytest.MonkeyPatch):
    rows = [Row("period", 6.25, 6.5), Row("kind", "saddle", "saddle")]
    monkeypatch.setattr(curlflow.tour, "tour", lambda *_, **__: rows)
    code, out, _ = run("tour", "--out", "new/folder")
    assert code == 1
    lines = [line.split() for line in out.splitlines()]
    (period,) = (i for i, words in enumerate(lines) if "period" in words)
    assert lines[period] == ["period", "6.25", "6.5", "2.5e-01"]
    assert lines[period + 1] == ["disagrees"]
    assert out.count("disagrees") == 1


def test_the_tours_table_has_the_numbers_that_are_printed(tmp_path: Path):
    rows = [Row("period", 6.25, 6.5), Row("  its kind", "node, on a manifold", "saddle")]
    curlflow.tour._write_table(rows, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        heading, *written = csv.reader(file)
    assert heading == ["quantity", "computed", "exact", "difference", "agrees"]
    assert written == [
        ["period", "6.25", "6.5", "0.25", "False"],
        ["  its kind", "node, on a manifold", "saddle", "", "False"],
    ]


@pytest.mark.slow
def test_the_tour_agrees_with_theory_in_every_row(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "160")  # quantities in one line
    code, out, err = run("tour", "--out", "here")
    assert (code, err) == (0, "")
    assert "disagrees" not in out
    for quantity in (
        "period at r = 1.4",
        "unstable directions",
        "divergence tr J",
        "Lyapunov exponent",
        "blew up",
    ):
        assert quantity in out
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "network_portrait.pdf",
        "table.csv",
        "toy_loss.pdf",
        "toy_portraits.pdf",
        "trajectory.nc",
    ]
    assert "table.csv" in out.splitlines()[-1]
    with (tmp_path / "here" / "table.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert len(written) > 20
    for row in written:
        assert row["agrees"] == "True"
        assert row["quantity"].strip() in out
    for path in (tmp_path / "here").glob("*.pdf"):
        content = path.read_bytes()
        assert content.startswith(b"%PDF")
        assert b"/Type3" not in content
    trajectory = xr.load_dataset(tmp_path / "here" / "trajectory.nc", engine="h5netcdf")
    assert trajectory["W1"].shape[1:] == (20, 16)
    assert float(trajectory["loss"][-1]) < float(trajectory["loss"][0])


# ---------------------------------------------------------------------------------------------------- lyapunov


def test_lyapunov_prints_exponents_and_a_verdict_and_saves_both(run: Any, tmp_path: Path):
    code, out, _ = run(
        "lyapunov", "-N", 6, "-M", 2, "-k", 3, "--time", 40, "--transient", 60, "--seed", 1, "--quiet", "--out", "found.nc"
    )  # fmt: skip
    assert code == 0
    assert "λ3" in out
    assert "λ4" not in out
    assert "Verdict: fixed point" in out
    found = xr.load_dataset(tmp_path / "found.nc", engine="h5netcdf")
    assert found.attrs["motion"] == "fixed point"
    assert found.attrs["seed"] == 1
    assert found.sizes["indicator"] == len(found["sentence"])
    assert found.sizes["exponent"] == 3


@pytest.mark.parametrize("arguments", [("-k", 0), ("-k", 100), ("--time", -1)])
def test_lyapunov_refuses_what_cannot_be_computed(run: Any, arguments: tuple[Any, ...]):
    code, _, err = run("lyapunov", "-N", 3, "-M", 2, "--quiet", *arguments)
    assert code == 2
    assert "must" in err


def test_the_remedy_of_exponents_is_an_option_too(run: Any):
    code, out, _ = run("lyapunov", "-N", 3, "-M", 2, "-k", 1, "--max-steps", 1, "--rtol", 1e-13, "--quiet")
    assert code == 0
    assert "Raise `--max-steps`, loosen `--rtol`" in " ".join(out.split())


# --------------------------------------------------------------------------------------------------- stability


@pytest.mark.parametrize(
    ("arguments", "ratios"),
    [
        ("-c 0.5", "none"),
        # Every input: above 1/(1 + √κ)² = 1/4. Every hidden unit: X = κ − W1ᵀ W1, at κ = 4 unstable up to c = 1.
        ("-c 0.5 --alpha-h 1", "above 0.25"),
        ("-c 0.5 --alpha-r 1 --kappa 4", "0 to 1"),
    ],
)
def test_stability_says_which_ratios_are_unstable(run: Any, arguments: str, ratios: str):
    code, out, _ = run("stability", *arguments.split())
    assert code == 0
    (row,) = (line for line in out.splitlines() if "unstable ratios c" in line)
    assert row.removeprefix("unstable ratios c").strip() == ratios


@pytest.mark.parametrize("arguments", [("--version",), *((command, "--version") for command in COMMANDS)])
def test_version_is_that_of_the_package(run: Any, arguments: tuple[str, ...]):
    assert run(*arguments) == (0, f"curlflow {version('curlflow')}\n", "")


def test_the_diagram_marks_the_point_that_was_asked_for(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    saved: list[Any] = []
    monkeypatch.setattr(cf.plot, "save_figure", lambda figure, path: saved.append(figure))
    run("stability", "-c", 0.5, "--alpha-h", 0.3, "-o", "hidden.pdf")
    run("stability", "-c", 3, "--alpha-r", 1, "--layer", "readout", "-o", "readout.pdf")
    run("stability", "-o", "bare.pdf")
    hidden, readout, bare = (figure.axes[0] for figure in saved)
    assert [line.get_xydata().tolist() for line in hidden.lines] == [[[0.5, 0.3]]]
    assert [line.get_xydata().tolist() for line in readout.lines] == [[[3.0, 1.0]]]
    assert readout.get_xlim()[1] > 3.0
    assert len(bare.lines) == 0


# ----------------------------------------------------------------------------------------------------- manners


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_80_columns_and_into_words(run: Any, command: str):
    code, out, _ = run(command, "-h")
    assert (code, out) == (0, run(command, "--help")[1])
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "\x1b" not in out
    for example in re.findall(r"Example: .*", getattr(cli, command).__doc__):  # in one line, to be copied
        assert example in out


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("arguments", "option", "existing"),
    [
        ("portrait -o here.pdf", "--out", "here.pdf"),
        ("portrait", "--out", "portrait.pdf"),
        ("integrate", "--out", "trajectory.nc"),
        ("integrate -o new.nc --plot loss.pdf", "--plot", "loss.pdf"),
        ("lyapunov -o found.nc", "--out", "found.nc"),
        ("stability -c 0.5 -o diagram.pdf", "--out", "diagram.pdf"),
        ("tour -o .", "--out", "trajectory.nc"),
    ],
)
def test_files_that_exist_are_not_overwritten_in_silence(
    run: Any, tmp_path: Path, arguments: str, option: str, existing: str
):
    (tmp_path / existing).write_text("mine")
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    sentence = (
        f"`{option}` must not overwrite a file, but {existing} exists: give another name, or `--force`."
    )
    assert err == f"curlflow: {sentence}\n"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(existing, "mine")]


def test_force_overwrites(run: Any, tmp_path: Path):
    (tmp_path / "diagram.pdf").write_text("old")
    code, _, err = run("stability", "-o", "diagram.pdf", "--force")
    assert (code, err) == (0, "")
    assert (tmp_path / "diagram.pdf").read_bytes().startswith(b"%PDF")


def test_the_tour_goes_again_through_its_own_folder_and_through_no_other(
    run: Any, monkeypatch: pytest.MonkeyPatch
):
    def write(folder: Path, **_: Any) -> list[Row]:
        for name in curlflow.tour.FILES:
            (folder / name).touch()
        return [Row("period", 1.0, 1.0)]

    monkeypatch.setattr(curlflow.tour, "tour", write)
    assert [run("tour")[0] for _ in range(2)] == [0, 0]
    assert [run("tour", "-o", "other")[0] for _ in range(2)] == [0, 2]
    code, out, _ = run("tour", "-o", "other", "--force")
    assert code == 0
    assert f"Wrote {', '.join(curlflow.tour.FILES)} to other/" in " ".join(out.split())


def test_a_bar_is_shown_to_a_terminal_only(run: Any, monkeypatch: pytest.MonkeyPatch):
    assert run("integrate", "-N", 2, "-M", 2, "--time", 1)[2] == ""
    monkeypatch.setattr(cli.sys.stderr, "isatty", lambda: True)
    assert "100.00%" in run("integrate", "-N", 2, "-M", 2, "--time", 1, "--force")[2]
    assert run("integrate", "-N", 2, "-M", 2, "--time", 1, "--force", "--quiet")[2] == ""


def test_names_of_the_library_are_told_as_options():
    def parameter(name: str, *options: str) -> Any:
        return SimpleNamespace(name=name, opts=options)

    options = [parameter("T", "--time"), parameter("k", "--exponents", "-k"), parameter("solver", "--solver")]
    for sentence, told in {
        "The two halves of T = 500 agree.": "The two halves of `--time` = 500 agree.",
        "`k` must be at least 1.": "`--exponents`/`-k` must be at least 1.",
        "Take another `Ttr`; at t = 3 k was small.": "Take another `Ttr`; at t = 3 k was small.",
        'Or take solver="kvaerno5".': "Or take --solver kvaerno5.",
        "the largest entry of y0, 3": "the largest entry of the start, 3",
    }.items():
        assert cli.in_options(sentence, options) == told


def command_line(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `curlflow …` as a process of its own, its output on pipes."""
    command = Path(sys.executable).with_name("curlflow")
    settings = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return subprocess.run(
        [command, *arguments],
        env={**settings, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_on_a_pipe_there_are_80_columns():
    assert max(map(len, command_line("integrate", "-h").stdout.splitlines())) == 80


def test_as_many_columns_as_COLUMNS_says(run: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert max(map(len, run("integrate", "-h")[1].splitlines())) == 100


def test_the_shell_completes_commands_and_options():
    asked = {"_CURLFLOW_COMPLETE": "complete_bash", "COMP_WORDS": "curlflow stab", "COMP_CWORD": "1"}
    assert command_line(**asked).stdout.split() == ["stability"]
