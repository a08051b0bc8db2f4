"""A contract for results that can be reopened: through a real file they come back as what they were, and draw the same."""

import dataclasses
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from test_results import public_results

import curlflow as cf
from curlflow import _saved

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*FixedLengthUTF32"
)  # of no texts at all: Zarr's own business

TOY = cf.toy_flow(s=1.0, flip="readout")
START = jnp.array([0.5, 1.5])
DONE = cf.Outcome(cf.Ending.COMPLETED, 2.0, "Reached t = 2 → done.")
BLEW_UP = cf.Outcome(cf.Ending.BLEW_UP, None, "It passed 1e+06.")
STATS = {"solver": "Tsit5", "rtol": 1e-8, "steps": 12, "limit": np.inf, "remark": None, "is_stiff": False}
EVIDENCE = (
    cf.chaos.Evidence("0–1 test", 1 / 3, np.nan, "K = 0.33."),
    cf.chaos.Evidence("closes", -np.inf, 1e-300, "After 2π."),
)


class Pair(NamedTuple):
    left: Any
    right: Any


class Mixed(eqx.Module):
    weights: cf.Weights
    pair: Pair
    rest: Any = None
    order: int = eqx.field(static=True, default=3)


def by_hand(state: Any, members: int | None = None, **more: Any) -> cf.Trajectory:
    """A trajectory of three times of a state, whose numbers have digits that few decimals would lose."""
    shape = (3,) if members is None else (3, members)
    numbers = jnp.exp(jnp.arange(3.0 * (members or 1)).reshape(shape))
    outcome = DONE if members is None else (DONE, BLEW_UP)
    ys = jax.tree.map(
        lambda leaf: numbers.reshape(*shape, *[1] * np.ndim(leaf)) * leaf / 3 if leaf is not None else None,
        state,
    )
    return cf.Trajectory(np.array([0.0, 0.1, 2.0]), ys, outcome, STATS, state, **more)


def weights() -> cf.Weights:
    return cf.ensembles.gaussian_weights(jax.random.key(0), N=3, M=2)


def nested() -> Any:
    return {"time": jnp.array(1.0), "b": [jnp.ones((2, 2)), (jnp.array(-0.0), None)], "a/b": {"W1": START}}


FOLDED = {
    "ends": {"largest": np.float32(0.1), "where": np.array([True, False])},
    "two words": jnp.array([1 + 2j, complex(np.nan, -np.inf)]),
    "count": jnp.arange(3, dtype=jnp.int32),
    "names": ("a", 1, 2.5, 1j, None),
}


@cache
def spectrum() -> cf.LyapunovSpectrum:
    return cf.lyapunov_spectrum(TOY, jnp.array([0.5, 2.0]), T=60.0)


@cache
def orbit() -> cf.Trajectory:
    return cf.integrate(
        TOY, START, 5.0, ts=np.linspace(0, 5, 41), events={"a/b": lambda t, y, args: y[1] - 1}
    )


def ensemble() -> cf.chaos.LyapunovEnsemble:
    both = cf.CurlFlow(S=[1.0], d1=[-1], d2=[-1])
    starts = cf.Weights(W1=[[[2.0]], [[0.01]], [[0.3]]], W2=[[[1.0]], [[0.01]], [[-0.2]]])
    return cf.lyapunov_spectrum(both, starts, T=5.0, batch="states")  # of which two blow up, one at once


KINDS: dict[str, Callable[[], Any]] = {
    "orbit": orbit,
    "weights": lambda: by_hand(weights(), system=cf.CurlFlow([1.0, 2.0], d1=[1, 1], d2=[1, 1, 1])),
    "gram": lambda: by_hand(cf.models.Gram(jnp.eye(2), jnp.ones((1, 2)), jnp.eye(1))),
    "nested": lambda: by_hand(nested()),
    "named tuple": lambda: by_hand(Pair(START, [weights()])),
    "module": lambda: by_hand(Mixed(weights(), Pair(START, jnp.array(2.0)))),
    "batch": lambda: by_hand(jnp.array([1.0, -0.5]), members=2, system=TOY),
    "folded": lambda: by_hand(START, folded=FOLDED),
    "without passages": lambda: by_hand(
        START, events={"none": cf.orbits.Passages(np.zeros(0), np.zeros((0, 2)))}
    ),
    "spectrum": lambda: cf.spectrum(TOY, jnp.zeros(2)),
    "fixed point": lambda: cf.classify(TOY, jnp.zeros(2)),
    "fixed points": lambda: cf.find_fixed_points(TOY, jnp.array([[0.1, 0.0], [0.4, 2.0]])),
    "no fixed points": lambda: cf.fixed_points.FixedPoints((), 3, 0, 0, 1, BLEW_UP),
    "exponents": spectrum,
    "ensemble": ensemble,
    "verdict": lambda: cf.chaos.Verdict(cf.chaos.Motion.PERIODIC, EVIDENCE, spectrum()),
}


@cache
def made(name: str) -> Any:
    return KINDS[name]()


def by_netcdf(data: xr.Dataset, folder: Path) -> xr.Dataset:
    data.to_netcdf(folder / "result.nc", engine="h5netcdf")
    return xr.load_dataset(folder / "result.nc", engine="h5netcdf")


def by_netcdf_lazily(data: xr.Dataset, folder: Path) -> xr.Dataset:
    data.to_netcdf(folder / "result.nc", engine="h5netcdf")
    return xr.open_dataset(folder / "result.nc", engine="h5netcdf")


def by_zarr(data: xr.Dataset, folder: Path) -> xr.Dataset:
    data.to_zarr(folder / "result.zarr", consolidated=False)
    return xr.open_zarr(folder / "result.zarr", consolidated=False, chunks=None)


def bits(value: Any) -> Any:
    """Everything a value is: kinds of containers and arrays, dtypes, shapes, and every bit of the numbers."""
    if isinstance(value, (np.ndarray, jax.Array)):
        numbers = np.asarray(value)
        return isinstance(value, jax.Array), numbers.dtype, numbers.shape, numbers.tobytes()
    if dataclasses.is_dataclass(value):
        own = {
            each.name: bits(getattr(value, each.name)) for each in dataclasses.fields(value) if each.compare
        }
        return type(value), own
    if isinstance(value, dict):
        return [(key, bits(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [bits(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return type(value), repr(value)


# ------------------------------------------------------------------------------------------------- the contract


def test_every_kind_that_can_be_reopened_is_looked_at():
    reopened = {kind for kind in public_results().values() if hasattr(kind, "from_xarray")}
    assert {type(made(name)) for name in KINDS} == reopened


@pytest.mark.parametrize("through", [by_netcdf, by_netcdf_lazily, by_zarr])
@pytest.mark.parametrize("name", KINDS)
def test_it_comes_back_as_what_it_was(name: str, through: Callable[..., xr.Dataset], tmp_path: Path):
    saved = made(name)
    with through(saved.to_xarray(), tmp_path) as data:
        again = type(saved).from_xarray(data)
    assert type(again) is type(saved)
    assert again == saved
    assert bits(again) == bits(saved)
    assert str(again) == str(saved)
    xr.testing.assert_identical(again.to_xarray(), saved.to_xarray())


@pytest.mark.parametrize("name", KINDS)
def test_what_the_dataset_said_without_us_it_still_says(name: str):
    data = made(name).to_xarray()
    plain = {key: value for key, value in data.attrs.items() if key != _saved.RECORD}
    assert all(isinstance(value, (str, int, float)) for value in plain.values())
    if isinstance(made(name), (cf.FixedPoint, cf.chaos.LyapunovEnsemble)) or name == "batch":
        return
    outcome = getattr(made(name), "spectrum", made(name)).outcome
    assert (plain["outcome"], plain["ending"]) == (f"{outcome}", outcome.ending.value)
    assert plain.get("end_time") == outcome.time


# ------------------------------------------------------------------------------------------------- its figures


def drawn(draw: Callable[..., Any], *results: Any) -> list[Any]:
    """The numbers of all lines, bars and bands of a figure of its own."""
    figure, ax = plt.subplots()
    draw(*results, ax=ax)
    found: list[Any] = [np.asarray(line.get_xydata()) for line in ax.get_lines()]
    found += [np.array(bar.get_bbox().get_points()) for bar in ax.patches if hasattr(bar, "get_bbox")]
    found += [np.array(path.vertices) for group in ax.collections for path in group.get_paths()]
    plt.close(figure)
    assert found
    return found


def window() -> cf.plane.Survey:
    """A window in which nothing was found, and nothing had to be computed."""
    x, nothing = np.linspace(-2, 2, 3), np.zeros((3, 3))
    plane = cf.plane.coordinate_plane(jnp.zeros(2), 0, 1)
    velocity = np.ones((2, 3, 3))
    return cf.plane.Survey(
        plane, (-2.0, 2.0), (-2.0, 2.0), x, x, velocity, nothing, None, (), (), (), (), None, None
    )


def portrait_of(*found: Any, ax: Any) -> None:
    trajectories = [each for each in found if isinstance(each, cf.Trajectory)]
    points = [each for each in found if not isinstance(each, cf.Trajectory)]
    cf.plot.survey(window(), ax=ax, trajectories=trajectories, fixed_points=points)


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("orbit", lambda result, ax: cf.plot.loss({"curl flow": result}, ax=ax)),
        ("orbit", portrait_of),
        ("fixed point", portrait_of),
        ("exponents", cf.plot.convergence),
        ("exponents", cf.plot.exponents),
        ("exponents", partial(cf.plot.finite_time_distribution, window=5.0)),
    ],
)
def test_it_draws_the_same(name: str, draw: Callable[..., Any], tmp_path: Path):
    saved = made(name)
    again = type(saved).from_xarray(by_netcdf(saved.to_xarray(), tmp_path))
    if isinstance(saved, cf.Trajectory):
        # No file keeps what gives a curve more points than were saved.
        saved = dataclasses.replace(saved, rerun=None)
    for ours, theirs in zip(drawn(draw, again), drawn(draw, saved), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ------------------------------------------------------------------------------------------------- the system


def test_a_trajectory_keeps_its_loss_and_takes_its_system_back():
    alone = cf.Trajectory.from_xarray(orbit().to_xarray())
    np.testing.assert_array_equal(alone.loss(), orbit().loss())
    with pytest.raises(
        ValueError, match=r"method `conserved`, but this trajectory has no system: .*from_xarray"
    ):
        alone.conserved_drift()
    whole = cf.Trajectory.from_xarray(orbit().to_xarray(), system=TOY, args=1.5)
    np.testing.assert_array_equal(whole.conserved_drift(), orbit().conserved_drift())
    assert (whole.system, whole.args) == (TOY, 1.5)


def test_a_leaf_called_loss_is_no_loss():
    alone = cf.Trajectory.from_xarray(by_hand({"loss": jnp.array(2.0)}).to_xarray())
    with pytest.raises(ValueError, match="method `loss`, but this trajectory has no system"):
        alone.loss()


def test_a_member_of_a_reopened_batch_has_its_own_loss():
    batch, again = made("batch"), cf.Trajectory.from_xarray(made("batch").to_xarray())
    for i in range(2):
        assert again.member(i) == batch.member(i)
        np.testing.assert_array_equal(again.member(i).loss(), batch.member(i).loss())


def test_a_spectrum_says_what_it_needs_its_system_for():
    alone = cf.LyapunovSpectrum.from_xarray(spectrum().to_xarray())
    assert (alone.kaplan_yorke, alone.entropy, alone.T) == (spectrum().kaplan_yorke, spectrum().entropy, 60.0)
    np.testing.assert_array_equal(alone.resolution, spectrum().resolution)
    with pytest.raises(ValueError, match="reopened without: from_xarray takes the system"):
        alone.zeros()
    with pytest.raises(ValueError, match="no file keeps the engine's record"):
        alone.extend(100.0)
    for system in (TOY, spectrum().tangent_system):
        again = cf.LyapunovSpectrum.from_xarray(spectrum().to_xarray(), system=system)
        assert again.zeros() == spectrum().zeros()


# ------------------------------------------------------------------------------------------------- refusals


def without(data: xr.Dataset, **changes: Any) -> xr.Dataset:
    """The dataset with another record."""
    record = json.loads(data.attrs[_saved.RECORD]) | changes
    return data.assign_attrs({_saved.RECORD: json.dumps(record)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: "orbit.nc", r"made of a Trajectory, but is str: open the file by xarray.load_dataset"),
        (lambda data: xr.Dataset({"a": 1.0}), "but has no attribute `curlflow`"),
        (lambda data: data.assign_attrs(curlflow="{]"), "but has no attribute `curlflow`"),
        (lambda data: made("fixed point").to_xarray(), "but was made of a FixedPoint"),
        (
            lambda data: without(data, format=2),
            "but has the format 2: open it with the version that wrote it",
        ),
        (lambda data: data.drop_vars("y"), "but the variable `y` is missing"),
        (lambda data: data.isel(time=slice(9)), r"`time` is float64 of shape \(9,\) and was .* \(41,\)"),
        (lambda data: data.astype("float32"), "is float32 of shape"),
    ],
)
def test_what_is_no_such_result_is_refused_in_a_sentence(change: Callable[..., Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        cf.Trajectory.from_xarray(change(orbit().to_xarray()))


def test_a_verdict_is_a_spectrum_too_but_not_the_other_way_round():
    data = made("verdict").to_xarray()
    assert cf.LyapunovSpectrum.from_xarray(data) == made("verdict").spectrum
    with pytest.raises(ValueError, match="made of a Verdict, but has no `indicator`"):
        cf.chaos.Verdict.from_xarray(made("exponents").to_xarray())


def test_a_class_that_is_not_there_is_named_and_none_is_imported_or_run():
    class Local(eqx.Module):
        w: Any

    with pytest.raises(ValueError, match=r"there is no .*Local of .*test_saved: import it first"):
        cf.Trajectory.from_xarray(by_hand(Local(START)).to_xarray())
    data = by_hand(weights()).to_xarray()
    for name in ("antigravity:Weights", "os:system", "curlflow:integrate", "pathlib:Path"):
        swapped = data.attrs[_saved.RECORD].replace("curlflow.models.curl:Weights", name)
        with pytest.raises(ValueError, match="import it first"):
            cf.Trajectory.from_xarray(data.assign_attrs({_saved.RECORD: swapped}))


def test_a_class_is_found_in_another_module_of_its_package():
    data = by_hand(weights()).to_xarray()
    moved = data.attrs[_saved.RECORD].replace("curlflow.models.curl:Weights", "curlflow.old.place:Weights")
    assert cf.Trajectory.from_xarray(data.assign_attrs({_saved.RECORD: moved})) == by_hand(weights())


@pytest.mark.parametrize(
    "stranger", [jax.random.key(0), jnp.ones(2, jnp.bfloat16), object()], ids=["key", "bfloat16", "object"]
)
def test_what_no_file_knows_is_left_out_and_said(stranger: Any, tmp_path: Path):
    data = by_netcdf(by_hand(START, folded={"more": stranger}).to_xarray(), tmp_path)
    with pytest.raises(ValueError, match="could not be stored: its numbers are in the variables"):
        cf.Trajectory.from_xarray(data)


def test_float32_is_refused():
    data = made("fixed point").to_xarray()
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="must compute in float64"):
            cf.FixedPoint.from_xarray(data)
    finally:
        jax.config.update("jax_enable_x64", True)
