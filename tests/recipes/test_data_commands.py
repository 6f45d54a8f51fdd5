"""`noiseladder data`: what it prints, and the one sentence for a mistake."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from noiseladder import cli
from noiseladder.data.video_files import write_video
from noiseladder.video.store import ClipStore

needs_vizdoom = pytest.mark.skipif(find_spec("vizdoom") is None, reason="needs the extra video")


def film(frames: int, size: int = 72) -> list[np.ndarray]:
    return list(np.random.default_rng(frames).integers(0, 256, (frames, size, size, 3), dtype=np.uint8))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("noiseladder: ")
    assert output.err.count("\n") == 1
    return output.err


def test_inspect_says_what_is_there_what_fits_and_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.gif", film(12), 10)
    write_video(tmp_path / "b.gif", film(9, 80), 10)
    write_video(tmp_path / "c.gif", film(3), 10)
    (tmp_path / "d.gif").write_bytes(b"GIF89a broken")
    text = run(capsys, "data", "inspect", str(tmp_path), "--window", "8")
    for line in (
        f"{tmp_path}: videos, 4 clips",
        "frames    24 that can be read",
        "size      72x72 (2), 80x80 (1)",
        "rate      10 a second",
        "2 clips with 7 segments of 8 frames, 64x64 pixels",
        "not c.gif: 3 frames, a segment has 8",
        "actions: a model can be watched but not steered",
        "d.gif is",
    ):
        assert line in text, text
    (tmp_path / "actions.csv").write_text("clip,action\n" + "a.gif,go\n" * 12 + "b.gif,go\n" * 4 + "c.gif,stop\n" * 3)
    text = run(capsys, "data", "inspect", str(tmp_path), "--window", "8")
    assert "actions   go (11), stop (2)" in text, "the last line of a clip leads to no frame"
    assert "b.gif has 9 frames and 4 lines of actions" in text
    assert "not steered" not in text
    assert "nothing: no clip has the 99 frames" in run(capsys, "data", "inspect", str(tmp_path), "--window", "99")


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is empty" in complaint(capsys, "data", "inspect", str(tmp_path))
    assert "there is no" in complaint(capsys, "data", "inspect", str(tmp_path / "absent"))
    assert "--window is 0" in complaint(capsys, "data", "inspect", str(tmp_path), "--window", "0")
    assert "size is 3" in complaint(capsys, "data", "inspect", str(tmp_path), "--size", "3")
    assert "did you mean inspect?" in complaint(capsys, "data", "insepct", str(tmp_path))
    assert "the commands are doom, video" in complaint(capsys, "data", "collect", "quake")
    folder = ("--folder", str(tmp_path / "walks"))
    assert "size is 1000" in complaint(capsys, "data", "collect", "doom", "--size", "1000", *folder)
    assert "episodes is 0" in complaint(capsys, "data", "collect", "doom", "--episodes", "0", *folder)
    assert "--processes is 0" in complaint(capsys, "data", "collect", "doom", "--processes", "0", *folder)
    assert not (tmp_path / "walks").exists()


@pytest.mark.parametrize("words", [(), ("collect",)])
def test_groups_of_commands_explain_themselves(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "data", *words, "--help")
    assert ("doom" if words else "inspect") in text


def test_own_videos_are_collected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "a.gif", film(5), 10)
    text = run(capsys, "data", "collect", "video", str(tmp_path / "films"), str(tmp_path / "clips"), "--size", "32")
    assert "1 clip, 5 frames of 32x32" in text
    assert ClipStore.open(tmp_path / "clips")[0].frames.shape == (5, 32, 32, 3)


def test_a_typo_among_actions_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "a.gif", film(6), 10)
    (tmp_path / "actions.csv").write_text("action\nleft\nlfet\nleft\nright\nleft\n")
    assert "actions   left (3), lfet (1), right (1)\n" in run(capsys, "data", "inspect", str(tmp_path))
    (tmp_path / "actions.csv").write_text("steer,gas\n" + "0.5,1\n" * 5)
    assert "actions   steer, gas\n" in run(capsys, "data", "inspect", str(tmp_path))


def test_a_refused_collection_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    films, clips = tmp_path / "films", tmp_path / "clips"
    films.mkdir()
    write_video(films / "a.gif", film(12), 10)
    (films / "b.gif").write_bytes((films / "a.gif").read_bytes()[:30_000])
    assert "b.gif is broken" in complaint(capsys, "data", "collect", "video", str(films), str(clips))
    assert not clips.exists()
    write_video(films / "b.gif", film(5), 10)
    assert "2 clips, 17 frames" in run(capsys, "data", "collect", "video", str(films), str(clips))


@needs_vizdoom
def test_doom_is_collected_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path))
    command = ("data", "collect", "doom", "--episodes", "3", "--frames", "20", "--rooms", "2", "--map", "my-way-home")
    assert cli.main(command) == 0
    first = capsys.readouterr()
    assert "shard 1/1" in first.err
    assert "4 clips, 80 frames of 64x64" in first.out
    (folder,) = (tmp_path / "video").iterdir()
    assert json.loads((folder / "store.json").read_text())["action_names"] == [
        "turn left", "turn right", "forward"
    ]  # fmt: skip
    assert cli.main(command) == 0
    assert capsys.readouterr().out == first.out
    text = run(capsys, "data", "inspect", str(folder), "--window", "10")
    assert "a store of clips, 4 clips" in text
    assert "poses     yes" in text
    assert "missing" not in text
