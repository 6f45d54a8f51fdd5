import json
import shutil
from itertools import islice

import numpy as np
import pytest

from noiseladder.data.episode_folders import read_episodes
from noiseladder.data.episodes import Episode, Expected, checked
from noiseladder.data.lerobot import write_lerobot
from noiseladder.data.npz_episodes import write_npz_episode
from noiseladder.data.zarr_episodes import write_zarr


def episode(number, steps=6, size=(32, 48), cameras=("front", "side"), state=3, scale=1.0):
    """A film of a bright square that moves over a coloured ground: smooth, so that a codec can keep it."""
    random = np.random.default_rng(number)
    pictures = {}
    for place, camera in enumerate(cameras):
        frames = np.full((steps, *size, 3), (40 * place + 40, 90, 20 * (number % 6) + 30), dtype=np.uint8)
        for step in range(steps):
            frames[step, 8:24, 4 * step % 24 : 4 * step % 24 + 16] = (200, 190, 180)
        pictures[camera] = frames
    actions = scale * random.uniform(-1, 1, (steps, 4)).astype(np.float32)
    felt = random.standard_normal((steps, state)).astype(np.float32)
    return Episode(f"episode {number}", pictures, felt, actions, 10.0, {"seed": number})


def write_npz(folder, episodes):
    folder.mkdir(exist_ok=True)
    for number, one in enumerate(episodes):
        write_npz_episode(folder / f"episode_{number:05d}.npz", one)


def write_lerobot_or_skip(folder, episodes):
    pytest.importorskip("pyarrow")
    pytest.importorskip("av")
    write_lerobot(folder, episodes)


def write_zarr_or_skip(folder, episodes):
    pytest.importorskip("zarr")
    write_zarr(folder, episodes)


every_layout = pytest.mark.parametrize(
    ("write", "loss"),
    [(write_npz, 0), (write_zarr_or_skip, 0), (write_lerobot_or_skip, 4)],
    ids=["npz", "zarr", "lerobot"],
)


@every_layout
def test_what_is_written_comes_back(tmp_path, write, loss):
    originals = [episode(number, steps=5 + number) for number in range(3)]
    write(tmp_path / "set", originals)
    found = list(read_episodes(tmp_path / "set"))
    assert len(found) == 3
    for original, back in zip(originals, found):
        np.testing.assert_array_equal(back.actions, original.actions)
        np.testing.assert_array_equal(back.state, original.state)
        assert back.rate == 10
        assert set(back.pictures) == {"front", "side"}
        for camera, frames in original.pictures.items():
            assert back.pictures[camera].shape == frames.shape
            assert np.abs(back.pictures[camera].astype(int) - frames).mean() <= loss
    # Frame by frame: the square is where it was, so no picture belongs to another step.
    moved = [int(np.argmax(frame[16, :, 0] > 150)) for frame in found[2].pictures["front"]]
    assert moved == [4 * step % 24 for step in range(7)]


@every_layout
def test_episodes_without_pictures_or_without_state(tmp_path, write, loss):
    write(tmp_path / "blind", [episode(0, cameras=()), episode(1, cameras=())])
    assert [one.pictures for one in read_episodes(tmp_path / "blind")] == [{}, {}]
    write(tmp_path / "numb", [episode(0, state=0)])
    (back,) = read_episodes(tmp_path / "numb")
    assert back.state.shape == (6, 0)


def test_films_of_lerobot_need_not_be_in_the_order_of_the_episodes(tmp_path):
    """Episode 0 is filmed last and episode 3 first: the list of episodes says at which second each begins."""
    write_lerobot_or_skip(tmp_path / "set", [episode(number, steps=4) for number in range(4)])
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    path = tmp_path / "set" / "meta/episodes/chunk-000/file-000.parquet"
    rows = parquet.read_table(path).to_pylist()
    begins = [row["videos/observation.images.front/from_timestamp"] for row in rows]
    for row, begin in zip(rows, reversed(begins)):
        row["videos/observation.images.front/from_timestamp"] = begin
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    for number, back in enumerate(read_episodes(tmp_path / "set")):
        ground = {camera: int(frames[0, 0, 0, 2]) for camera, frames in back.pictures.items()}
        assert abs(ground["front"] - 20 * (3 - number) - 30) < 8
        assert abs(ground["side"] - 20 * number - 30) < 8
        moved = [int(np.argmax(frame[16, :, 0] > 150)) for frame in back.pictures["front"]]
        assert moved == [0, 4, 8, 12]


def test_the_info_and_the_statistics_of_lerobot(tmp_path):
    originals = [episode(number, steps=3 + number) for number in range(3)]
    write_lerobot_or_skip(tmp_path / "set", originals)
    info = json.loads((tmp_path / "set" / "meta" / "info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"], info["fps"]) == ("v3.0", 3, 12, 10)
    assert info["features"]["observation.images.side"]["shape"] == [32, 48, 3]
    statistics = json.loads((tmp_path / "set" / "meta" / "stats.json").read_text())
    together = np.concatenate([one.actions for one in originals]).astype(float)
    np.testing.assert_allclose(statistics["action"]["mean"], together.mean(0), atol=1e-6)
    np.testing.assert_allclose(statistics["action"]["std"], together.std(0), atol=1e-6)
    np.testing.assert_allclose(statistics["action"]["min"], together.min(0))
    import pyarrow.parquet as parquet

    about = parquet.read_table(tmp_path / "set" / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["dataset_from_index"] for row in about] == [0, 3, 7]
    assert [row["videos/observation.images.front/from_timestamp"] for row in about] == pytest.approx([0, 0.3, 0.7])


def test_tasks_of_lerobot_are_read_by_pandas_as_lerobot_does(tmp_path):
    pandas = pytest.importorskip("pandas")
    write_lerobot_or_skip(tmp_path / "set", [episode(0)])
    tasks = pandas.read_parquet(tmp_path / "set" / "meta" / "tasks.parquet")
    assert list(tasks.index) == ["swap the apple and the orange"]
    assert list(tasks["task_index"]) == [0]


# What is wrong is said in one sentence that names the episode


def refused(path, *said, expected=None):
    with pytest.raises(ValueError) as caught:
        list(read_episodes(path, expected))
    message = str(caught.value)
    for part in said:
        assert part in message
    assert "\n" not in message
    assert len(message) < 600


@every_layout
@pytest.mark.parametrize(
    ("odd", "expected", "said"),
    [
        ({"cameras": ("front",)}, Expected(cameras=("front", "side")), ["lacks camera side"]),
        ({}, Expected(cameras=("front", "wrist")), ["lacks camera wrist", "front, side"]),
        ({}, Expected(sizes={"front": (64, 64)}), ["32x48", "64x64"]),
        ({"scale": 2.0}, Expected(lowest=[-1] * 4, highest=[1] * 4), ["action", "expected at"]),
        ({}, Expected(lowest=[-1] * 3), ["action has 4 numbers, expected 3"]),
    ],
    ids=["missing", "never there", "size", "range", "width"],
)
def test_what_a_policy_needs_is_checked(tmp_path, write, loss, odd, expected, said):
    write(tmp_path / "set", [episode(1, steps=8, **odd)])
    refused(tmp_path / "set", "episode", *said, expected=expected)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"cameras": ("front",)}, ["00001.npz lacks camera side"]),
        ({"size": (32, 32)}, ["00001.npz", "32x32 pixels, expected 32x48"]),
        ({"state": 2}, ["00001.npz", "state has 2 numbers, expected 3"]),
    ],
)
def test_episodes_of_a_set_agree_with_the_first(tmp_path, odd, said):
    write_npz(tmp_path / "set", [episode(0), episode(1, **odd)])
    refused(tmp_path / "set", *said)


def test_nan_no_steps_and_rows_that_do_not_fit_are_refused():
    good = episode(7)
    bad = good.actions.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="episode 7: actions hold NaN or infinity at step 3"):
        Episode("episode 7", good.pictures, good.state, bad)
    with pytest.raises(ValueError, match="episode 7 has no steps"):
        Episode("episode 7", {}, good.state[:0], good.actions[:0])
    with pytest.raises(ValueError, match="episode 7: state have shape"):
        Episode("episode 7", good.pictures, good.state[:-1], good.actions)
    with pytest.raises(ValueError, match="episode 7: camera 'front' has 5 pictures for 6 actions"):
        Episode("episode 7", {"front": good.pictures["front"][:-1]}, good.state, good.actions)
    with pytest.raises(ValueError, match="episode 7: camera 'front' holds float64"):
        Episode("episode 7", {"front": good.pictures["front"] / 255}, good.state, good.actions)


def test_checking_is_lazy_and_keeps_what_is_good():
    given = [episode(0), episode(1), episode(2, size=(32, 32))]
    stream = checked(given)
    assert [next(stream).name, next(stream).name] == ["episode 0", "episode 1"]
    with pytest.raises(ValueError, match="episode 2"):
        next(stream)


def test_an_npz_file_that_is_cut_short(tmp_path):
    write_npz(tmp_path / "set", [episode(0), episode(1)])
    path = tmp_path / "set" / "episode_00001.npz"
    path.write_bytes(path.read_bytes()[:-200])
    refused(tmp_path / "set", "episode_00001.npz cannot be read as npz")


def test_an_npz_file_may_not_hide_objects(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    np.savez(folder / "a.npz", actions=np.array([{"run": "me"}], dtype=object))
    refused(folder, "a.npz cannot be read as npz", "'actions' holds Python objects, which could run anything")


def test_npz_without_actions(tmp_path):
    (tmp_path / "set").mkdir()
    np.savez(tmp_path / "set" / "a.npz", state=np.zeros((3, 2)))
    refused(tmp_path / "set", "a.npz holds state, expected actions")


def test_zarr_whose_episodes_end_beyond_the_data_or_nowhere(tmp_path):
    zarr = pytest.importorskip("zarr")
    write_zarr(tmp_path / "set", [episode(0), episode(1)])
    ends = zarr.open_group(str(tmp_path / "set"), mode="r+")["meta/episode_ends"]
    ends[:] = [6, 20]
    refused(tmp_path / "set", "episode 1 ends at row 20, but data/action has 12 rows")
    ends[:] = [6, 6]
    refused(tmp_path / "set", "episode 1 has no steps")


def test_zarr_with_pictures_as_floats_up_to_255_as_diffusion_policy_keeps_them(tmp_path):
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(tmp_path / "set"), mode="w", zarr_format=2)
    data = root.create_group("data")
    pictures = np.arange(4 * 8 * 8 * 3, dtype=np.float32).reshape(4, 8, 8, 3) % 256
    data.create_array("img", data=pictures)
    data.create_array("action", data=np.zeros((4, 2), np.float32))
    data.create_array("n_contacts", data=np.zeros((4, 1), np.float32))
    root.create_group("meta").create_array("episode_ends", data=np.array([1, 4]))
    first, second = read_episodes(tmp_path / "set")
    assert (len(first), len(second)) == (1, 3)
    np.testing.assert_array_equal(second.pictures["img"], pictures[1:].astype(np.uint8))
    data["img"][:] = pictures / 255
    refused(tmp_path / "set", "episode 0", "'img'", "expected 0 to 255")


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lerobot") / "set"
    write_lerobot_or_skip(folder, [episode(number, steps=8) for number in range(3)])
    return folder


@pytest.fixture
def copy(lerobot, tmp_path):
    return shutil.copytree(lerobot, tmp_path / "copy")


FILM = "videos/observation.images.side/chunk-000/file-000.mp4"


def test_a_film_that_is_not_one_names_the_episode_and_the_camera(copy):
    (copy / FILM).write_bytes(b"this is not a film")
    refused(copy, "episode 0: camera side", "file-000.mp4 cannot be read")


def test_a_film_that_is_missing(copy):
    (copy / FILM).unlink()
    refused(copy, "episode 0: camera side", "file-000.mp4", "no such file")


def test_a_film_that_ends_too_early_names_the_first_episode_that_lacks_pictures(copy):
    short = copy.parent / "short"
    write_lerobot_or_skip(short, [episode(number, steps=8) for number in range(2)])
    shutil.copy(short / FILM, copy / FILM)
    refused(copy, "episode 2: camera side", "ends after 16 pictures, expected 24")
    assert len(list(islice(read_episodes(copy), 2))) == 2


def test_a_film_with_a_damaged_middle_is_refused_or_complete(copy):
    """Some damage a decoder hides; then all pictures are there. It may not be a traceback or fewer pictures."""
    content = bytearray((copy / FILM).read_bytes())
    content[600:900] = bytes(300)
    (copy / FILM).write_bytes(content)
    found, said = [], ""
    try:
        found += read_episodes(copy)
    except ValueError as error:
        said = str(error)
    assert "camera side" in said or [len(one.pictures["side"]) for one in found] == [8, 8, 8]


def test_rows_that_are_missing_name_the_episode(copy):
    import pyarrow.parquet as parquet

    path = copy / "data/chunk-000/file-000.parquet"
    parquet.write_table(parquet.read_table(path).slice(0, 20), path)
    refused(copy, "episode 2", "has 4 rows of it, expected 8")


def test_nan_in_a_lerobot_file_names_the_episode(copy):
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    path = copy / "data/chunk-000/file-000.parquet"
    table = parquet.read_table(path)
    actions = np.array(table["action"].to_pylist(), dtype=np.float32)
    actions[10, 0] = np.nan
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(actions.ravel()), 4)
    parquet.write_table(table.set_column(table.column_names.index("action"), "action", column), path)
    refused(copy, "episode 1: actions hold NaN or infinity at step 2")


def changed_info(folder, **changes):
    path = folder / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_another_version_of_lerobot_is_named(copy):
    changed_info(copy, codebase_version="v2.1")
    refused(copy, "v2.1, expected v3")


def test_a_strangers_info_cannot_point_outside_of_its_folder(copy):
    changed_info(copy, data_path="../../secret.parquet")
    refused(copy, "outside of its folder")


@pytest.mark.parametrize("text", ["{", "[]", '{"codebase_version": "v3.0"}'])
def test_an_info_that_says_nothing(copy, text):
    (copy / "meta" / "info.json").write_text(text)
    refused(copy, "info.json does not describe a LeRobot folder")


def test_a_path_without_episodes(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a LeRobot v3 folder"):
        read_episodes(tmp_path / "nothing")
    refused(tmp_path, "holds no episodes that can be read")


def test_pictures_with_odd_sides_cannot_be_mp4(tmp_path):
    with pytest.raises(ValueError, match="33x48 pixels cannot be mp4"):
        write_lerobot_or_skip(tmp_path / "set", [episode(0, size=(33, 48))])


@pytest.mark.parametrize("module", ["zarr", "lerobot"])
def test_a_package_that_is_not_there_is_named(monkeypatch, module):
    import noiseladder.data.lerobot as lerobot_layout
    import noiseladder.data.zarr_episodes as zarr_layout

    def absent(name):
        raise ImportError(name)

    for layout in (lerobot_layout, zarr_layout):
        monkeypatch.setattr(layout, "import_module", absent)
    with pytest.raises(ImportError, match=r"pip install 'noiseladder\[imitation\]'"):
        zarr_layout.need_zarr() if module == "zarr" else lerobot_layout.need("pyarrow.parquet")
