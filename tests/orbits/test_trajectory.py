"""Trajectories: evaluation, loss, drift, members, and the way to xarray and to disk."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import curlflow as cf

NINE = np.linspace(0.0, 1.0, 9)
OUTCOME = cf.Outcome(cf.Ending.COMPLETED, 4.0, "Reached t = 4.")
STATS = {"solver": "Tsit5", "rtol": 1e-8, "atol": 1e-10, "steps": 12, "accepted": 11, "rejected": 1}

N, M, P, TIMES, MEMBERS = 4, 3, 2, 5, 3
FLOW = cf.CurlFlow(np.arange(6.0).reshape(P, M), [1, -1, 1], [1, 1, -1, -1], np.diag([1.0, 2.0, 0.5]))


def weights(*leading: int) -> cf.Weights:
    rng = np.random.default_rng(0)
    return cf.Weights(rng.normal(size=(*leading, N, M)), rng.normal(size=(*leading, P, N)))


def made(ys: Any, system: Any = FLOW, outcome: Any = OUTCOME, end: Any = None) -> cf.Trajectory:
    """A trajectory as `integrate` makes it, without integrating."""
    end = jax.tree.map(lambda leaf: leaf[-1], ys) if end is None else end
    return cf.Trajectory(np.linspace(0, 4, TIMES), ys, outcome, STATS, end, system)


def made_batch() -> cf.Trajectory:
    """Three members, of which the second blew up after the third time."""
    ys = jax.tree.map(lambda leaf: leaf.at[3:, 1].set(jnp.nan), weights(TIMES, MEMBERS))
    blown = cf.Outcome(cf.Ending.BLEW_UP, 2.5, "The largest entry of the state passed 1e+06 at t = 2.5.")
    end = jax.tree.map(lambda leaf: leaf[jnp.array([4, 2, 4]), jnp.arange(MEMBERS)], ys)
    return made(ys, outcome=(OUTCOME, blown, OUTCOME), end=end)


# ------------------------------------------------------------------------------------- loss and drift


def test_loss_is_the_systems_at_every_time_and_member():
    single, batch = made(weights(TIMES)), made_batch()
    assert single.loss().shape == (TIMES,)
    assert batch.loss().shape == (TIMES, MEMBERS)
    for t in range(TIMES):
        W = cf.Weights(single.ys.W1[t], single.ys.W2[t])
        assert float(single.loss()[t]) == pytest.approx(float(FLOW.loss(W)), rel=1e-14)
    W = cf.Weights(batch.ys.W1[4, 2], batch.ys.W2[4, 2])
    assert float(batch.loss()[4, 2]) == pytest.approx(float(FLOW.loss(W)), rel=1e-14)
    np.testing.assert_array_equal(np.isnan(batch.loss()), np.isnan(batch.ys.W1[:, :, 0, 0]))


def largest_change(values: list[Any]) -> list[float]:
    start = np.abs(values[0]).max()
    return [np.abs(value - values[0]).max() / start for value in values]


def test_drift_is_the_largest_change_relative_to_the_largest_quantity():
    single, batch = made(weights(TIMES)), made_batch()
    values = [FLOW.conserved(cf.Weights(single.ys.W1[t], single.ys.W2[t])) for t in range(TIMES)]
    np.testing.assert_allclose(single.conserved_drift(), largest_change(values), rtol=1e-13)
    values = [FLOW.conserved(cf.Weights(batch.ys.W1[t, 0], batch.ys.W2[t, 0])) for t in range(TIMES)]
    assert batch.conserved_drift().shape == (TIMES, MEMBERS)
    np.testing.assert_allclose(batch.conserved_drift()[:, 0], largest_change(values), rtol=1e-13)


def test_drift_of_a_single_quantity_and_of_one_that_is_zero():
    flow = cf.toy_flow(1.0, flip=None)  # conserves w1² − w2²
    trajectory = made(jnp.array([[2.0, 1.0], [2.0, 1.5], [1.0, 1.0], [2.0, 1.0], [0.0, 2.0]]), flow)
    np.testing.assert_allclose(trajectory.conserved_drift(), [0, 1.25 / 3, 1, 0, 7 / 3], rtol=1e-14)
    balanced = made(jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, 2.0], [2.0, 2.0], [2.0, 1.0]]), flow)
    np.testing.assert_array_equal(balanced.conserved_drift(), [0, 0, 3, 0, 3])


def test_a_users_system_has_loss_and_drift_only_if_it_says_what_they_are():
    trajectory = made(jnp.ones((TIMES, 2)), lambda t, y, args: -y)
    with pytest.raises(ValueError, match="`system` must have a method `loss`, but function has none"):
        trajectory.loss()
    with pytest.raises(ValueError, match="`system` must have a method `conserved`, but function has none"):
        trajectory.conserved_drift()


# ------------------------------------------------------------------------------------------ members


def test_a_member_is_a_trajectory_up_to_its_own_end():
    batch = made_batch()
    for i, kept in ((0, 5), (1, 3), (2, 5)):
        member = batch.member(i)
        assert not member.is_batch
        assert member.outcome == batch.outcome[i]
        np.testing.assert_array_equal(member.ts, batch.ts[:kept])
        np.testing.assert_array_equal(member.ys.W1, batch.ys.W1[:kept, i])
        np.testing.assert_array_equal(member.final_state.W2, batch.ys.W2[kept - 1, i])
        np.testing.assert_allclose(member.loss(), batch.loss()[:kept, i], rtol=1e-14)


def test_only_a_batch_has_members():
    with pytest.raises(ValueError, match="`member` must be asked of a batch, but"):
        made(weights(TIMES)).member(0)
    with pytest.raises(IndexError):
        made_batch().member(3)


# -------------------------------------------------------------------------------------- evaluation


@pytest.fixture(scope="module")
def dense() -> cf.Trajectory:
    return cf.integrate(cf.toy_flow(), jnp.array([0.3, 1.6]), 5.0, ts=5 * NINE, dense=True)


def test_a_dense_trajectory_is_a_function_of_time(dense: cf.Trajectory):
    assert dense(1.0).shape == (2,)
    assert dense([1.0, 2.0, 3.0]).shape == (3, 2)
    np.testing.assert_array_equal(dense(np.array([1.0, 2.0]))[1], dense(2))


@pytest.mark.parametrize("t", [-0.1, 5.1, [1.0, 6.0], [[1.0], [2.0]]])
def test_times_outside_the_run_are_refused(dense: cf.Trajectory, t: Any):
    with pytest.raises(ValueError, match="`t` must be a time or a list of times between 0 and 5, but is"):
        dense(t)


def test_a_time_must_be_finite_and_the_trajectory_dense(dense: cf.Trajectory):
    with pytest.raises(ValueError, match="`t` must be finite, but has nan"):
        dense(np.nan)
    with pytest.raises(ValueError, match=r"must be dense .* integrate with dense=True"):
        made(weights(TIMES))(1.0)


# ------------------------------------------------------------------------------------------ xarray


def test_a_trajectory_becomes_a_labelled_dataset():
    trajectory = made(weights(TIMES))
    dataset = trajectory.to_xarray()
    leaves = {"W1_axis0": N, "W1_axis1": M, "W2_axis0": P, "W2_axis1": N}
    assert dict(dataset[["W1", "W2"]].sizes) == {"time": TIMES, **leaves}
    np.testing.assert_array_equal(dataset.time, trajectory.ts)
    np.testing.assert_array_equal(dataset.W1, trajectory.ys.W1)
    np.testing.assert_allclose(dataset.loss, trajectory.loss())
    assert dataset.loss.dims == ("time",)
    ended = {"outcome": "completed: Reached t = 4.", "ending": "completed", "end_time": 4.0}
    assert {name: dataset.attrs[name] for name in dataset.attrs if name != "curlflow"} == STATS | ended


def test_a_batch_becomes_a_dataset_with_an_ending_for_every_member():
    batch = made_batch()
    dataset = batch.to_xarray()
    assert dataset.W1.dims == ("time", "member", "W1_axis0", "W1_axis1")
    assert dataset.loss.dims == ("time", "member")
    assert dataset.ending.values.tolist() == ["completed", "blew up", "completed"]
    assert dataset.end_time.values.tolist() == [4.0, 2.5, 4.0]
    assert dataset.message.values.tolist() == [outcome.message for outcome in batch.outcome]
    np.testing.assert_array_equal(dataset.W2, batch.ys.W2)


@pytest.mark.parametrize(
    ("ys", "names"),
    [
        (np.ones((TIMES, 2)), {"y"}),
        (np.ones(TIMES), {"y"}),
        ([np.ones((TIMES, 2)), np.ones(TIMES)], {"y_0", "y_1"}),
        ({"a": np.ones(TIMES), "two words": [np.ones(TIMES)]}, {"a", "y_two words_0"}),
    ],
    ids=["array", "scalar", "list", "dict"],
)
def test_every_leaf_of_a_users_state_is_a_variable(ys: Any, names: set[str]):
    dataset = made(jax.tree.map(jnp.asarray, ys), lambda t, y, args: y).to_xarray()
    assert {name for name, values in dataset.data_vars.items() if "time" in values.dims} == names


COLLIDING = {
    "a": {"b": np.full(TIMES, 1.0)},
    "a/b": np.full(TIMES, 2.0),
    "a_b": np.full(TIMES, 3.0),
    "ending": np.full(TIMES, 4.0),
    "loss": np.full(TIMES, 5.0),
    "time": np.full(TIMES, 6.0),
    "w": np.full((TIMES, 2), 7.0),
    "w_axis0": np.full((TIMES, 3), 8.0),
}


@pytest.mark.parametrize("has_loss", [False, True])
def test_no_name_stands_for_two_things(has_loss: bool, tmp_path: Path):
    class System(eqx.Module):
        def __call__(self, t: Any, y: Any, args: Any) -> Any:
            return y

        def loss(self, y: Any) -> Any:
            return 0.5 * y["time"]

    trajectory = made(jax.tree.map(jnp.asarray, COLLIDING), System() if has_loss else None)
    trajectory.to_xarray().to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as dataset:
        along = {name: values for name, values in dataset.data_vars.items() if "time" in values.dims}
        first = {name: float(values.to_numpy().flat[0]) for name, values in along.items()}
        leaves = {
            "a_b": 1,
            "y_a_b": 2,
            "y_y_a_b": 3,
            "ending": 4,
            "loss": 5,
            "y_time": 6,
            "w": 7,
            "y_w_axis0": 8,
        }
        if has_loss:
            leaves |= {"y_loss": leaves["loss"], "loss": 3}
        assert first == leaves
        np.testing.assert_array_equal(dataset["time"], trajectory.ts)


def test_no_name_stands_for_two_things_in_a_batch():
    leaves = {"ending": np.ones((TIMES, MEMBERS)), "member": np.full((TIMES, MEMBERS), 2.0)}
    dataset = made(leaves, None, outcome=(OUTCOME,) * MEMBERS).to_xarray()
    assert dataset["ending"].values.tolist() == ["completed"] * MEMBERS
    np.testing.assert_array_equal(dataset["y_ending"], leaves["ending"])
    np.testing.assert_array_equal(dataset["y_member"], leaves["member"])


@pytest.mark.parametrize("trajectory", [made(weights(TIMES)), made_batch()], ids=["single", "batch"])
def test_a_dataset_survives_the_disk(trajectory: cf.Trajectory, tmp_path: Path):
    dataset = trajectory.to_xarray()
    dataset.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as again:
        xr.testing.assert_identical(again.load(), dataset)


def test_a_run_survives_the_disk(dense: cf.Trajectory, tmp_path: Path):
    dense.to_xarray().to_netcdf(tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc") as again:
        np.testing.assert_array_equal(again.y, dense.ys)
        assert again.attrs["steps"] == dense.stats["steps"]
        assert again.attrs["ending"] == "completed"


# ---------------------------------------------------------------------------------------- in words


def test_a_trajectory_says_in_a_line_what_it_is():
    assert str(made(weights(TIMES))) == "Trajectory: t = 0 … 4, 5 times, 12 steps; completed: Reached t = 4."
    assert (
        str(made_batch()) == "Trajectory of 3 members: t = 0 … 4, 5 times, 12 steps; 2 completed, 1 blew up"
    )


def test_outcomes_are_ok_where_the_caller_got_what_was_asked_for():
    ok, not_ok = (
        ("COMPLETED", "STOPPED", "FIXED_POINT"),
        ("BLEW_UP", "STEP_LIMIT", "STEP_TOO_SMALL", "SOLVER_FAILED"),
    )
    for names, expected in ((ok, True), (not_ok, False)):
        assert [cf.Outcome(cf.Ending[name], None, "").ok for name in names] == [expected] * len(names)
    assert (
        str(cf.Outcome(cf.Ending.STOPPED, 1.0, "The stop condition held."))
        == "stopped: The stop condition held."
    )
