"""`noiseladder play`: one sentence for what cannot be played, and a page that ends when it is told to."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from noiseladder import cli
from noiseladder.recipes.play import WALKS, playground_of
from noiseladder.serving.walk import Walk
from recipes.test_video import train_video

pytest.importorskip("fastapi", reason="needs the extra play")
pytest.importorskip("uvicorn", reason="needs the extra play")

needs_vizdoom = pytest.mark.skipif(find_spec("vizdoom") is None, reason="needs the extra video")
COMMAND = str(Path(sys.executable).with_name("noiseladder"))


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["play", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


@pytest.mark.parametrize(
    ("arguments", "given", "why"),
    [
        (["no-such-run"], "no-such-run", "there is no run"),
        (["true-bouncing", "--port", "70000"], "70000", "expected 0 to 65535"),
        (["--players", "0"], "0", "expected 1 to 64"),
        (["no-such-run", "--port", "70000"], "70000", "expected 0 to 65535"),  # before a model is looked for
        (["--token", "secret"], "--token", "public"),
        (["true-bouncing", "--public", "--token", "short", "--port", "0"], "token", "at least 16"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    arguments: list[str], given: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(capsys, *arguments)
    assert given in said
    assert why in said


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is in use" in complaint(capsys, "true-bouncing", "--port", str(port))


def test_without_the_extra_it_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "noiseladder[play]" in complaint(capsys)


@pytest.mark.slow
def test_a_run_is_played_beside_the_real_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world of next to nothing, trained for two steps: what matters is that all the pieces fit."""
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path / "cache"))
    assert cli.main(train_video(tmp_path / "run")) == 0
    playground = playground_of(str(tmp_path / "run"))
    assert playground.title == "run"
    assert playground.world.actions[playground.idle or 0] == "wait"
    recorded = [opening for opening in playground.openings if opening.later is not None]
    assert len(recorded) == WALKS
    assert len(playground.openings) > WALKS
    walk = Walk(playground)
    first = walk.reset(0)
    np.testing.assert_array_equal(first.frame, recorded[0].frames[-1])
    followed = walk.follow()
    assert recorded[0].later is not None
    np.testing.assert_array_equal(followed.real, recorded[0].later[0])
    assert followed.frame.shape == followed.real.shape
    walk.slide({"steps": 3, "history": 1.5})
    assert (walk.step(0).calls, len(walk.step(0).levels)) == (6, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "public"),
    [("true-bouncing", False), ("true-bouncing", True), pytest.param("true-doom", False, marks=needs_vizdoom)],
)
def test_it_says_where_it_is_and_ends_with_ctrl_c(world: str, public: bool) -> None:
    arguments = ["play", world, "--players", "1", "--port", "0", *(["--public"] if public else [])]
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    with subprocess.Popen(
        [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert "true world" in process.stdout.readline()
            line = process.stdout.readline()
            found = re.match(r"http://([\d.]+):(\d+)/(#\S*)?", line)
            assert found, line
            assert bool(found[3]) == public
            assert public or found[1] == "127.0.0.1"
            with urllib.request.urlopen(f"http://127.0.0.1:{found[2]}/") as page:
                assert b"<canvas" in page.read()
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=20)
            assert (process.returncode, out, errors) == (0, "ended\n", "")
        finally:
            process.kill()
