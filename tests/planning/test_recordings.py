from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from noiseladder.planning.recordings import Recording, read, read_hdf5, read_minari, read_npz


def parts(steps: int = 6) -> dict[str, Any]:
    numbers = np.random.default_rng(0)
    ends = np.zeros(steps, dtype=bool)
    ends[2] = True
    return {
        "observations": numbers.normal(size=(steps, 4)),
        "actions": numbers.normal(size=(steps, 2)),
        "rewards": numbers.normal(size=steps),
        "terminals": ends,
        "timeouts": np.zeros(steps, dtype=bool),
    }


def save_hdf5(path: Path, arrays: dict[str, Any]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def save_npz(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


both = pytest.mark.parametrize(("save", "suffix"), [(save_npz, "npz"), (save_hdf5, "hdf5")])


@both
def test_files_give_back_what_was_saved(tmp_path: Path, save: Callable[..., None], suffix: str) -> None:
    arrays = parts()
    save(tmp_path / f"own.{suffix}", arrays)
    recording = read(tmp_path / f"own.{suffix}")
    for name in ("observations", "actions", "rewards"):
        assert getattr(recording, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(recording, name), arrays[name].astype(np.float32))
    assert recording.ends.tolist() == [False, False, True, False, False, True]
    assert list(recording.trajectories()) == [slice(0, 3), slice(3, 6)]


@both
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"observations": None}, "no 'observations'.*only actions"),
        ({"actions": None}, "no 'actions'"),
        ({"terminals": None, "timeouts": None}, "where trajectories end"),
        ({"observations": np.zeros((6, 4, 2))}, r"observations have the shape \(6, 4, 2\)"),
        ({"actions": np.zeros((5, 2))}, "6 observations but 5 actions"),
        ({"actions": np.zeros(6)}, r"actions have the shape \(6,\): give \(steps, size\)"),
        ({"rewards": np.zeros((6, 1))}, "rewards have the shape"),
        ({"terminals": np.zeros(7)}, r"\(7,\) for 6 observations"),
        ({"actions": np.full((6, 2), np.nan)}, "actions hold NaN or infinity, first in row 0"),
        ({"observations": np.diag([1.0, 1, np.inf, 1, 1, 1])}, "observations hold NaN or infinity, first in row 2"),
        ({"actions": np.full((6, 2), "x", dtype="S1")}, "actions are of type"),
        ({name: array[:0] for name, array in parts().items()}, "0 steps"),
    ],
)
def test_a_bad_file_is_one_sentence(
    tmp_path: Path, save: Callable[..., None], suffix: str, change: dict[str, Any], why: str
) -> None:
    path = tmp_path / f"bad.{suffix}"
    save(path, {name: array for name, array in (parts() | change).items() if array is not None})
    with pytest.raises(ValueError, match=why) as error:
        read(path)
    assert path.name in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        read_npz(tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match=r"neither .npz nor .hdf5"):
        read(tmp_path / "own.csv")
    with pytest.raises(ValueError, match="is a folder, expected a file"):
        read_npz(tmp_path)
    for reader, name in ((read_npz, "broken.npz"), (read_hdf5, "broken.h5")):
        (tmp_path / name).write_bytes(b"not a file of arrays")
        with pytest.raises(ValueError, match="is no whole"):
            reader(tmp_path / name)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", **(parts() | {"observations": np.array([{}] * 6, dtype=object)}))
    with pytest.raises(ValueError, match=r"evil\.npz is no whole"):
        read(tmp_path / "evil.npz")


def test_d4rls_repeated_observation_is_left_out(tmp_path: Path) -> None:
    arrays = parts() | {"infos/goal": np.arange(12.0).reshape(6, 2)}
    arrays["observations"][3] = arrays["observations"][2]
    save_hdf5(tmp_path / "maze2d.hdf5", arrays)
    recording = read(tmp_path / "maze2d.hdf5")
    assert recording.goals is not None
    assert recording.goals[:, 0].tolist() == [0, 2, 4, 8, 10]
    assert recording.ends.tolist() == [False, False, True, False, True]
    # Who stands still within a trajectory stays.
    arrays = parts()
    arrays["observations"][1] = arrays["observations"][0]
    save_hdf5(tmp_path / "still.hdf5", arrays)
    assert len(read(tmp_path / "still.hdf5")) == 6


@pytest.mark.parametrize("nested", [False, True])
def test_minari_episodes(nested: bool) -> None:
    def episode(steps: int) -> SimpleNamespace:
        seen: Any = np.arange(4.0 * (steps + 1)).reshape(steps + 1, 4)
        if nested:
            seen = {"observation": seen, "desired_goal": seen[:, :2]}
        return SimpleNamespace(observations=seen, actions=np.zeros((steps, 2)), rewards=np.arange(steps))

    recording = read_minari(SimpleNamespace(iterate_episodes=lambda: iter([episode(3), episode(2)])))
    assert recording.observations[:, 0].tolist() == [0, 4, 8, 0, 4]
    assert recording.ends.tolist() == [False, False, True, False, True]
    assert (recording.goals is not None) == nested
    with pytest.raises(ValueError, match="no episodes"):
        read_minari(SimpleNamespace(iterate_episodes=lambda: iter([])))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_minari_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari, gymnasium = pytest.importorskip("minari"), pytest.importorskip("gymnasium")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    from minari.data_collector import EpisodeBuffer

    space = gymnasium.spaces.Box(-9, 9, (4,), dtype=np.float32)
    force = gymnasium.spaces.Box(-1, 1, (2,), dtype=np.float32)
    buffers = [
        EpisodeBuffer(
            id=number,
            observations=list(np.full((6, 4), number, dtype=np.float32)),
            actions=list(np.zeros((5, 2), dtype=np.float32)),
            rewards=[0.0] * 5,
            terminations=[False] * 5,
            truncations=[False] * 4 + [True],
        )
        for number in range(3)
    ]
    minari.create_dataset_from_buffers("own/maze-v0", buffers, observation_space=space, action_space=force)
    recording = read_minari("own/maze-v0")
    assert recording.observations[:, 0].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert recording.ends.sum() == 3
    with pytest.raises(ValueError, match="no Minari data set of this name"):
        read_minari("own/other-v0")


def test_the_hash_sees_everything() -> None:
    ends = np.array([False, True])
    base = Recording(np.zeros((2, 4)), np.zeros((2, 2)), ends)
    others = [
        Recording(np.ones((2, 4)), np.zeros((2, 2)), ends),
        Recording(np.zeros((2, 4)), np.zeros((2, 2)), np.array([True, True])),
        Recording(np.zeros((2, 4)), np.zeros((2, 2)), ends, rewards=np.zeros(2)),
        Recording(np.zeros((2, 2)), np.zeros((2, 4)), ends),
    ]
    assert len({recording.hash() for recording in (base, *others)}) == 5
    assert base.hash() == Recording(np.zeros((2, 4)), np.zeros((2, 2)), np.array([False, False])).hash()
