"""Files of weights: they come back to the bit, damage is noticed, nothing runs, a full disk does no harm."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from noiseladder.diffusion.denoiser import Denoiser, Prediction
from noiseladder.diffusion.noise import Cosine, Flow
from noiseladder.networks import RecurrentNetwork
from noiseladder.training import load_weights, read_recipe, save_weights
from noiseladder.training.durable import check_writable, replace_file, replace_folder, replace_text, sweep
from noiseladder.training.tensors_file import read_tensors, write_tensors

RECIPE = {"width": 8, "name": "tiny", "levels": [0.1, 1.0], "patience": None}


def tiny(width: int = 8, prediction: Prediction = Prediction.VELOCITY) -> Denoiser:
    return Denoiser(RecurrentNetwork(1, width), Cosine(), prediction)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    torch.manual_seed(1)
    save_weights(path, tiny(), RECIPE)
    return path


def test_weights_and_recipe_come_back_to_the_bit(saved: Path) -> None:
    torch.manual_seed(1)
    written, denoiser = tiny(), tiny()
    assert read_recipe(saved) == RECIPE
    assert load_weights(saved, denoiser) == RECIPE
    for name, value in written.state_dict().items():
        assert torch.equal(denoiser.state_dict()[name], value)


def test_equal_weights_are_equal_files(saved: Path, tmp_path: Path) -> None:
    for copy in range(5):
        torch.manual_seed(1)
        other = tmp_path / f"copy-{copy}.safetensors"
        save_weights(other, tiny(), RECIPE)
        assert other.read_bytes() == saved.read_bytes()


def test_every_kind_of_tensor_comes_back(tmp_path: Path) -> None:
    shared = torch.randn(4, 6)
    tensors = {
        "number": torch.tensor(3),
        "nothing": torch.zeros(0, 2),
        "half": torch.randn(3).bfloat16(),
        "turned": shared.T,
        "same memory": shared,
        "double": torch.randn(2, dtype=torch.float64),
    }
    write_tensors(tmp_path / "t.safetensors", tensors, {})
    found, _ = read_tensors(tmp_path / "t.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def refused(path: Path, message: str) -> None:
    denoiser = tiny()
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_weights(path, denoiser)
    assert all(torch.equal(value, before[name]) for name, value in denoiser.state_dict().items())


def test_one_changed_byte_anywhere_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    for position in (0, 9, *range(10, len(whole), len(whole) // 50), len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        saved.write_bytes(damaged)
        refused(saved, "is damaged|not one of ours|was trained with|another network")
    saved.write_bytes(whole)
    load_weights(saved, tiny())


@pytest.mark.parametrize("kept", [0, 1, 8, 100, -1])
def test_a_file_cut_short_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    refused(saved, "is damaged, cut short or not a safetensors file")


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_is_refused_and_never_opened(tmp_path: Path, archive: bool) -> None:
    mark, path = tmp_path / "ran", tmp_path / "weights.safetensors"
    torch.save({"weights": Trap(mark)}, path, _use_new_zipfile_serialization=archive)
    refused(path, "is a pickle, and reading one may run anything")
    with pytest.raises(ValueError, match="is a pickle"):
        read_recipe(path)
    assert not mark.exists()


def test_a_header_that_starts_like_a_pickle_is_none(tmp_path: Path) -> None:
    """The length of a safetensors header may be the bytes 80 04: it must not be taken for a pickle."""
    path = tmp_path / "t.safetensors"
    starts = set()
    for length in range(400, 1100, 4):
        write_tensors(path, {"a": torch.zeros(1)}, {"filler": "x" * length})
        starts.add(path.read_bytes()[:2])
        read_tensors(path)
    assert b"\x80\x04" in starts


def test_files_that_are_not_there_or_not_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_weights(tmp_path / "none.safetensors", tiny())
    with pytest.raises(OSError, match="is a folder: give the file of weights, in safetensors format"):
        load_weights(tmp_path, tiny())
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(OSError, match="is a folder: give the file of weights in it, in safetensors format"):
        load_weights(tmp_path, tiny())
    refused(tmp_path / "other.safetensors", "not one of ours")
    write_tensors(tmp_path / "checkpoint.safetensors", {}, {"kind": "checkpoint"})
    refused(tmp_path / "checkpoint.safetensors", "holds a checkpoint, expected the weights")


def test_weights_of_another_model_are_refused_with_what_differs(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"another network: .*network.start is \(1, 8\), expected \(1, 16\)"):
        load_weights(saved, tiny(16))
    with pytest.raises(ValueError, match=r"network\.layers\.1\.\S+ is missing"):
        load_weights(saved, Denoiser(RecurrentNetwork(1, 8, layers=2), Cosine()))
    with pytest.raises(ValueError, match="trained with prediction VELOCITY, this denoiser has CLEAN"):
        load_weights(saved, tiny(prediction=Prediction.CLEAN))
    with pytest.raises(ValueError, match=r"trained with schedule Cosine\(\), this denoiser has Flow\(\)"):
        load_weights(saved, Denoiser(RecurrentNetwork(1, 8), Flow()))


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*arguments: object) -> None:
        # What safetensors does on a full disk: part of the file is there already.
        path = next(a for a in arguments if isinstance(a, Path))
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("noiseladder.training.tensors_file.save_file", full)
    with pytest.raises(OSError, match=r"could not write .*weights\.safetensors: No space left on device; what was"):
        save_weights(saved, tiny(16), RECIPE)
    assert saved.read_bytes() == before
    assert files_in(saved.parent) == ["weights.safetensors"]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """/dev/full takes no byte: the real error of a real write, through safetensors."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    target = tmp_path / "weights.txt"
    target.write_text("old")

    def write(partial: Path) -> None:
        partial.symlink_to("/dev/full")
        with partial.open("wb", buffering=0) as file:
            file.write(b"new")

    with pytest.raises(OSError, match="No space left on device"):
        replace_file(target, write)
    assert target.read_text() == "old"
    assert files_in(tmp_path) == ["weights.txt"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"could not write .*metrics\.csv: (File exists|Not a directory)"):
        replace_text(tmp_path / "file" / "metrics.csv", "text")


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    for path, why in (
        (tmp_path / "file" / "film.gif", "Not a directory"),
        (tmp_path / "file" / "deep" / "film.gif", "Not a directory"),
        (tmp_path / "folder", "Is a directory"),
        (Path("/proc/film.gif"), r".*"),
    ):
        with pytest.raises(OSError, match=rf"could not write {path}: {why}.*choose another folder"):
            check_writable(path)
    for path in (tmp_path / "film.gif", tmp_path / "new" / "folder" / "film.gif", tmp_path / "file", Path("film.gif")):
        check_writable(path)
    assert files_in(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "world.v1"

    def write(partial: Path, text: str, fail: BaseException | None = None) -> None:
        (partial / text).write_text(text)
        if fail is not None:
            raise fail

    replace_folder(folder, lambda partial: write(partial, "one"))
    replace_folder(folder, lambda partial: write(partial, "two"))
    assert files_in(folder) == ["two"]
    for error in (ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")):
        with pytest.raises(type(error)):
            replace_folder(folder, lambda partial, error=error: write(partial, "three", error))
        assert files_in(folder) == ["two"]
        assert [path.name for path in tmp_path.iterdir()] == ["world.v1"]
    with pytest.raises(OSError, match=r"could not write .*world\.v1: No space left on device; what was there"):
        replace_folder(folder, lambda partial: write(partial, "three", OSError(28, "No space left on device")))


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def write(partial: Path) -> None:
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "file", write)
    assert files_in(tmp_path) == []


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    seen = []
    replace_file(tmp_path / "file.png", lambda partial: (seen.append(partial), partial.write_text("new"))[0])
    assert seen[0].suffix == ".png"
    seen[0].write_text("half")  # as kill -9 would leave it
    sweep(tmp_path)
    assert files_in(tmp_path) == ["file.png"]


def test_recipes_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_weights(tmp_path / "w.safetensors", tiny(), {"denoiser": tiny()})
    assert files_in(tmp_path) == []
    assert replace(Cosine()) == Cosine()
