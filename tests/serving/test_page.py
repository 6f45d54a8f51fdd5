"""The page and its websocket, without a browser: what is answered, what is refused, and that nobody harms another."""

import json
import select
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra play")
pytest.importorskip("uvicorn", reason="needs the extra play")
pytest.importorskip("websockets", reason="needs the extra play")

from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus

from noiseladder.serving.limits import Limits
from noiseladder.serving.page import (
    ASLEEP,
    FULL,
    OVER,
    REFUSED,
    TAKEN_OVER,
    TOO_MANY_MISTAKES,
)
from serving.served import SIZE, CountingWorld, Served, closing, counting, opening, picture, served, until

TOKEN = "sixteen-letters-and-more"


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    with served(counting(openings=[opening(), opening(later=5)])) as running:
        yield running


# The files


@pytest.mark.parametrize(
    ("path", "kind", "holds"),
    [
        ("", "text/html", "<canvas"),
        ("play.js", "text/javascript", "WebSocket"),
        ("play.css", "text/css", ":root"),
        ("icon.svg", "image/svg", "<svg"),
    ],
)
def test_four_files_and_their_headers(page: Served, path: str, kind: str, holds: str) -> None:
    with urllib.request.urlopen(page.url + path) as answer:
        assert answer.headers["Content-Type"].startswith(kind)
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert holds in answer.read().decode()


def test_the_page_asks_nobody_else_for_anything(page: Served) -> None:
    for path in ("", "play.js", "play.css"):
        with urllib.request.urlopen(page.url + path) as answer:
            assert "//" not in answer.read().decode().replace("// ", "").replace("}//${location.host}", "")


@pytest.mark.parametrize("path", ["docs", "openapi.json", "../pyproject.toml", "static/play.js", "%2e%2e/server.py"])
def test_there_is_nothing_else(page: Served, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(page.url + path)
    assert error.value.code == 404


def test_a_strangers_name_for_this_machine_is_refused(page: Served) -> None:
    """A page of evil.com whose name was made to point to 127.0.0.1 reads nothing."""
    request = urllib.request.Request(page.url, headers={"Host": f"evil.com:{page.port}"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert error.value.code == 421


# Who may come in


@pytest.mark.parametrize(
    "origin",
    ["http://evil.com", "null", "https://127.0.0.1", "http://127.0.0.1:1", "file://", "http://[", "http://localhost.evil.com"],
)  # fmt: skip
def test_pages_of_strangers_are_refused(page: Served, origin: str) -> None:
    with pytest.raises(InvalidStatus) as error, page.socket(origin=origin):
        pass
    assert error.value.response.status_code == 403


def test_a_strangers_name_is_refused_even_if_origin_and_host_agree(page: Served) -> None:
    name = f"evil.com:{page.port}"
    with pytest.raises(InvalidStatus), page.socket(origin=f"http://{name}", additional_headers={"Host": name}):
        pass


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_our_own_pages_come_in(page: Served, name: str) -> None:
    with page.player(origin=f"http://{name}:{page.port}") as player:
        assert player.entered["kind"] == "entered"


def test_a_public_page_needs_its_token() -> None:
    with served(counting(), token=TOKEN) as page:
        for wrong in ("", "x" * 24, TOKEN[:-1], "\ud800"):
            with page.socket() as bare:
                bare.send(json.dumps({"ask": "enter", "token": wrong}))
                assert closing(bare)[0] == REFUSED
        with page.player(token=TOKEN, origin=page.url.rstrip("/")) as player:
            assert player.ask("reset")["kind"] == "frame"
        with pytest.raises(InvalidStatus), page.socket(origin="http://evil.com"):
            pass


def test_nobody_plays_before_entering(page: Served) -> None:
    with page.socket() as bare:
        bare.send(json.dumps({"ask": "step", "action": 0}))
        assert closing(bare)[0] == REFUSED


# Playing


def test_what_is_told_at_the_door(page: Served) -> None:
    with page.player() as player:
        told = player.entered
        assert told["title"] == "Counting"
        assert told["actions"] == ["turn left", "turn right", "forward", "break"]
        assert told["idle"] is None
        assert [one["later"] for one in told["openings"]] == [0, 5]
        assert [(one["name"], one["value"]) for one in told["sliders"]] == [("steps", 2), ("stabilization", 0.05)]
        assert told["formats"] == (["gif", "mp4"] if find_spec("av") else ["gif"])


def test_a_walk_is_what_its_actions_make_it(page: Served) -> None:
    with page.player() as player:
        first = player.ask("reset", opening=0)
        assert (first["number"], first["width"], first["height"], first["levels"]) == (0, SIZE, SIZE, [])
        for number, action in enumerate([2, 2, 1], start=1):
            header = player.ask("step", action=action)
            assert header["number"] == number
        assert player.read == (3, 5)
        assert len(player.pixels) == SIZE * SIZE * 3
        assert (header["levels"], header["calls"], header["remembered"]) == ([1, 0.5, 0], 2, 0.05)


def test_players_do_not_walk_each_others_walks(page: Served) -> None:
    with page.player() as one, page.player() as two:
        for player in (one, two):
            player.ask("reset")
        for _ in range(5):
            one.ask("step", action=2)
            two.ask("step", action=1)
        two.ask("step", action=1)
        one.ask("look")
        two.ask("look")
        assert (one.read, two.read) == ((5, 10), (6, 6))
        one.ask("dream", values={"steps": 4})
        assert one.ask("step", action=0)["calls"] == 4
        assert two.ask("step", action=0)["calls"] == 2


def test_the_last_second_is_taken_back(page: Served) -> None:
    with page.player() as player:
        player.ask("reset")
        for _ in range(50):
            player.ask("step", action=1)
        # Marks are a quarter of a second apart: 20 frames back, or up to 4 more.
        assert player.ask("back")["number"] == 30
        assert player.read == (30, 30)
        player.ask("step", action=2)
        assert player.read == (31, 32)
        assert player.ask("back")["number"] == 10
        assert player.ask("back")["number"] == 10, "only two seconds are remembered"


def test_the_real_walk_beside_the_dream(page: Served) -> None:
    with page.player() as player:
        player.ask("reset", opening=1)
        for number in range(1, 6):
            header = player.ask("follow")
            assert (header["real"], header["left"]) == (True, 5 - number)
            both = np.frombuffer(player.pixels, np.uint8).reshape(2, SIZE, SIZE, 3)
            np.testing.assert_array_equal(both[1], picture(number, 200))
        assert player.read == (5, 0 + 1 + 2 + 0 + 1), "the actions of the real walk"
        assert "ends here" in player.ask("follow")["why"]
        player.ask("reset", opening=1)
        player.ask("step", action=0)
        assert "another way" in player.ask("follow")["why"]
        player.ask("reset", opening=0)
        assert "nobody recorded" in player.ask("follow")["why"]


@pytest.mark.parametrize(
    "format",
    ["gif", pytest.param("mp4", marks=pytest.mark.skipif(find_spec("av") is None, reason="needs the extra video"))],
)
def test_a_recording_is_a_film(page: Served, format: str, tmp_path) -> None:  # fmt: skip
    from noiseladder.data.video_files import probe, read_frames

    with page.player() as player:
        player.ask("reset", opening=1)
        assert player.ask("record")["kind"] == "recording"
        for _ in range(3):
            assert player.ask("follow")["recorded"] is not None
        player.ask("step", action=2)
        assert player.ask("film", format=format)["format"] == format
        path = tmp_path / f"walk.{format}"
        path.write_bytes(player.pixels)
        assert "nothing is being recorded" in player.ask("film", format=format)["why"]
    seen = probe(path)
    # The dream, a gap and the real walk, side by side, each pixel a square.
    assert (seen.height, seen.width) == (192, 24 * (2 * SIZE + 4))
    assert len(list(read_frames(path))) == 5
    assert seen.rate == pytest.approx(20)
    if format == "gif":
        assert Image.open(path).format == "GIF"


def test_a_lost_walk_is_found_again(page: Served) -> None:
    first = page.player()
    key = first.entered["walk"]
    first.ask("reset")
    first.ask("step", action=2)
    first.socket.socket.shutdown(socket.SHUT_RDWR)
    with page.player(walk=key) as second:
        assert second.entered["walk"] == key
        assert second.ask("look")["number"] == 1
        assert second.read == (1, 2)
    with page.player(walk="a key that was never given") as other:
        assert other.entered["walk"] != key
        assert other.ask("look")["number"] == 0


def test_a_walk_in_two_windows_belongs_to_the_newer(page: Served) -> None:
    with page.player() as old:
        old.ask("reset")
        with page.player(walk=old.entered["walk"]) as new:
            new.ask("step", action=1)
            old.socket.send(json.dumps({"ask": "step", "action": 1}))
            assert closing(old.socket)[0] == TAKEN_OVER
            assert new.ask("look")["number"] == 1


# Mistakes


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[" * 4000, "JSON"),
        ("1" * 4000, "object"),
        ('"step"', "object"),
        ("{}", "unknown question"),
        ('{"ask": ["step"]}', "unknown question"),
        ('{"ask": "fly"}', "unknown question"),
        ('{"ask": "step"}', "needs action"),
        ('{"ask": "step", "action": -1}', "whole number"),
        ('{"ask": "step", "action": true}', "whole number"),
        ('{"ask": "step", "action": 1.5}', "whole number"),
        ('{"ask": "step", "action": 1e999}', "whole number"),
        ('{"ask": "step", "action": 4}', "there is no action 4"),
        ('{"ask": "step", "action": 0, "__class__": 1}', "has no '__class__'"),
        ('{"ask": "reset", "opening": 2}', "no real frame 2"),
        ('{"ask": "dream", "values": {}}', "1 to 16"),
        ('{"ask": "dream", "values": {"steps": NaN}}', "a number"),
        ('{"ask": "dream", "values": {"steps": Infinity}}', "a number"),
        ('{"ask": "dream", "values": {"steps": 1e8}}', "expected 1 to 16"),
        ('{"ask": "dream", "values": {"steps": 1.5}}', "whole number"),
        ('{"ask": "dream", "values": {"secret": 1}}', "nothing called 'secret'"),
        ('{"ask": "dream", "values": {"steps": "2"}}', "a number"),
        ('{"ask": "film", "format": "exe"}', "one of gif, mp4"),
        ('{"ask": "film", "format": "gif"}', "nothing is being recorded"),
        ('{"ask": "enter"}', "in already"),
        (b"\x00\xff", "text, not bytes"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_the_walk_goes_on(page: Served, question: str | bytes, why: str) -> None:
    with page.player() as player:
        player.ask("reset")
        player.ask("step", action=1)
        player.socket.send(question)
        answer = player.hear()
        assert answer["kind"] == "refused", answer
        assert why in answer["why"], answer
        player.ask("step", action=1)
        assert player.read == (2, 2)


def test_questions_before_the_walk_has_begun(page: Served) -> None:
    with page.player() as player:
        assert "not begun" in player.ask("step", action=0)["why"]
        assert "nothing to take back" in player.ask("back")["why"]
        assert player.ask("look")["number"] == 0


def test_too_long_a_message_ends_the_connection(page: Served) -> None:
    with page.player() as player:
        player.socket.send("x" * 5000)
        assert closing(player.socket)[0] == 1009


def test_too_many_mistakes_in_a_row_close_the_door(page: Served) -> None:
    with page.player() as player:
        player.ask("reset")
        for _ in range(3):
            for _ in range(9):
                assert player.ask("nonsense")["kind"] == "refused"
            assert player.ask("step", action=0)["kind"] == "frame"
        for _ in range(11):
            player.socket.send("nonsense")
        assert closing(player.socket)[0] == TOO_MANY_MISTAKES


def test_a_world_that_breaks_harms_nobody_else(page: Served, caplog: pytest.LogCaptureFixture) -> None:
    with page.player() as unlucky, page.player() as other:
        for player in (unlucky, other):
            player.ask("reset")
            player.ask("step", action=2)
        answer = unlucky.ask("step", action=3)
        assert (answer["kind"], "ZeroDivisionError" in answer["why"]) == ("refused", True)
        assert "this world is broken" in caplog.text, "the server says what happened"
        other.ask("step", action=2)
        assert other.read == (2, 4)
        unlucky.ask("step", action=1)
        assert unlucky.read == (2, 3), "and the unlucky one stands where he stood"


# Limits


def test_there_are_so_many_places() -> None:
    with served(counting(), Limits(players=2)) as page:
        with page.player(), page.player() as two:
            with page.socket() as third:
                third.send(json.dumps({"ask": "enter"}))
                code, reason = closing(third)
                assert (code, "all 2 places" in reason) == (FULL, True)
            two.leave()
            assert until(lambda: len(page.house.seats) == 1)
            with page.player() as again:
                assert again.ask("look")["players"] == 2
        assert until(lambda: len(page.house.seats) == 0)


def test_who_asks_nothing_falls_asleep_and_who_says_nothing_is_shown_out() -> None:
    with served(counting(), Limits(idle=0.3, enter=1.0)) as page, page.player() as player, page.socket() as silent:
        assert closing(player.socket)[0] == ASLEEP
        assert closing(silent)[0] == ASLEEP
        assert until(lambda: len(page.house.seats) == 0 and page.house.waiting == 0)
        with page.player(walk=player.entered["walk"]) as again:
            assert again.entered["walk"] == player.entered["walk"]


def test_a_session_ends() -> None:
    with served(counting(), Limits(session=0.3)) as page, page.player() as player:
        with suppress(ConnectionClosed):
            for _ in range(1000):
                player.ask("look")
        assert closing(player.socket)[0] == OVER


def test_who_asks_too_fast_is_read_more_slowly() -> None:
    with served(counting(), Limits(questions=20)) as page, page.player() as player:
        player.ask("reset")
        began = time.monotonic()
        for _ in range(40):
            player.ask("step", action=0)
        # A second's worth is free, less what was asked before; the rest comes at 20 a second.
        assert time.monotonic() - began > 0.9


def test_only_so_many_may_stand_at_the_door() -> None:
    with served(counting(), Limits(waiting=2, enter=20)) as page, page.socket(), page.socket():
        assert until(lambda: page.house.waiting == 2)
        with pytest.raises(InvalidStatus), page.socket():
            pass


def test_a_crowd_of_open_connections_is_cut_off_and_the_page_lives() -> None:
    with served(counting(), Limits(connections=8)) as page:
        crowd = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(30)]
        try:
            # What can be read of a connection that was never spoken to is its end.
            assert until(lambda: len(select.select(crowd, [], [], 0)[0]) == 22)
        finally:
            for one in crowd:
                one.close()
        assert until(lambda: not page.server.server_state.connections)
        with page.player() as player:
            assert player.ask("reset")["kind"] == "frame"


@pytest.mark.slow
def test_frames_go_round() -> None:
    """Five players who ask at once: each gets a fifth of the world."""
    with served(counting(seconds=0.004)) as page:
        stop, counts = threading.Event(), [0] * 5

        def play(number: int) -> None:
            with page.player() as player:
                player.ask("reset")
                while not stop.is_set():
                    player.ask("step", action=0)
                    counts[number] += 1

        threads = [threading.Thread(target=play, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        assert until(lambda: min(counts) >= 20, 20)
        before = list(counts)
        until(lambda: sum(counts) - sum(before) >= 250, 20)
        after = list(counts)
        stop.set()
        for thread in threads:
            thread.join(20)
        shares = [late - early for early, late in zip(before, after)]
        assert min(shares) > 0.7 * max(shares), shares


def test_questions_sent_together_have_one_place_in_the_line() -> None:
    playground = counting()
    world = playground.world
    assert isinstance(world, CountingWorld)
    with served(playground) as page, page.player() as greedy, page.player() as patient:
        greedy.ask("reset")
        patient.ask("reset")
        world.gate.clear()
        for _ in range(10):
            greedy.socket.send(json.dumps({"ask": "step", "action": 1}))
        assert until(lambda: world.blocked)
        patient.socket.send(json.dumps({"ask": "step", "action": 2}))
        assert until(lambda: page.house.turns.waiting == 1)
        time.sleep(0.1)
        assert page.house.turns.waiting == 1, "the patient one, and none of the nine others"
        world.gate.set()
        assert [greedy.hear()["number"] for _ in range(10)] == list(range(1, 11))
        patient.hear()
        assert (greedy.read, patient.read) == ((10, 10), (1, 2))
        assert world.actions_taken[:2] == [1, 2], "whose turn it was came next"


def test_who_takes_no_answers_is_cut_off_and_costs_little() -> None:
    """Frames of 768 kB: the system's own buffers hold a few, ours one."""
    playground = counting()
    large = np.zeros((512, 512, 3), np.uint8)
    playground.world.step = lambda action: large  # type: ignore[method-assign]
    with served(playground, Limits(answer=0.5)) as page, page.player() as other, raw_websocket(page) as deaf:
        other.ask("reset")
        deaf.sendall(raw_text('{"ask": "enter"}') + raw_text('{"ask": "reset"}'))
        assert until(lambda: len(page.house.seats) == 2)
        held = 0
        for _ in range(300):
            with suppress(OSError):
                deaf.sendall(raw_text('{"ask": "step", "action": 0}'))
            sizes = [one.transport.get_write_buffer_size() for one in list(page.server.server_state.connections)]
            held = max(held, *sizes)
            if len(page.house.seats) == 1:
                break
            time.sleep(0.02)
        assert until(lambda: len(page.house.seats) == 1 and len(page.server.server_state.connections) == 1)
        assert 0 < held < 2 * large.nbytes
        assert other.ask("step", action=0)["kind"] == "frame"


@contextmanager
def raw_websocket(page: Served) -> Iterator[socket.socket]:
    """A websocket without a library that reads for us."""
    with socket.create_connection(("127.0.0.1", page.port)) as wire:
        wire.sendall(
            f"GET /world HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b"101" in wire.recv(4096)
        yield wire


def raw_text(text: str) -> bytes:
    """A text message as it goes over the wire: short, masked with zeros."""
    assert len(text) < 126
    return b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text.encode()


def test_pings_without_end_are_not_answered_without_end() -> None:
    """Pongs that nobody takes are no reason to keep them."""
    with served(counting(), Limits(answer=0.5)) as page, raw_websocket(page) as deaf:
        deaf.sendall(raw_text('{"ask": "enter"}'))
        assert until(lambda: len(page.house.seats) == 1)
        ping = b"\x89" + bytes([0x80 | 125]) + bytes(4) + bytes(125)
        deaf.settimeout(5)
        held = 0
        with suppress(OSError):
            for _ in range(3000):
                deaf.sendall(100 * ping)
                sizes = [one.transport.get_write_buffer_size() for one in list(page.server.server_state.connections)]
                held = max([held, *sizes])
        assert until(lambda: len(page.house.seats) == 0)
        assert held < 2**20, "of 39 megabytes that were sent"


def test_who_sends_without_end_is_cut_off() -> None:
    with served(counting(seconds=0.05)) as page, page.player() as player:
        player.ask("reset")
        with suppress(ConnectionClosed):
            for _ in range(5000):
                player.socket.send('{"ask": "step", "action": 0}')
        assert closing(player.socket) == (0, "cut off")
        with page.player() as other:
            assert other.ask("reset")["kind"] == "frame"
