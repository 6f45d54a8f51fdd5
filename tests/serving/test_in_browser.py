"""The page in a real browser, headless: keys and fingers move the picture, films arrive, lost worlds return."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra play")
pytest.importorskip("uvicorn", reason="needs the extra play")
pytest.importorskip("playwright", reason="needs playwright, of the extra dev")

from noiseladder.data.video_files import probe, read_frames
from noiseladder.serving.limits import Limits
from noiseladder.serving.playground import Playground
from noiseladder.video.true_bouncing import RATE, TrueBouncing
from serving.browser import DESK, FLAGS, PHONE, browser, chromium
from serving.served import CountingWorld, Served, counting, opening, served, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no chromium on the PATH: apt-get install chromium"),
]

PIXELS = """() => { const c = document.getElementById("dream");
return Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data); }"""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as running:
        yield running


@contextmanager
def opened(chrome: Any, page: Served, **options: Any) -> Iterator[Any]:
    """The page in a window of its own; what the browser complained about fails the test."""
    context = chrome.new_context(**{"viewport": DESK, **options})
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    complaints: list[str] = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    tab.goto(page.url)
    try:
        yield tab
    finally:
        context.close()
    # Lost connections are expected here, and it is the tests that read the picture back.
    expected = ("WebSocket connection", "willReadFrequently")
    assert not [text for text in complaints if not any(known in text for known in expected)], complaints


def bouncing() -> Playground:
    world = TrueBouncing()
    return Playground("Bouncing", "The true world.", world, [world.opening(seed) for seed in range(4)], RATE)


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    with served(counting(openings=[opening(), opening(later=12)])) as running:
        yield running


def connected(tab: Any) -> None:
    tab.wait_for_function("() => document.getElementById('link-text').textContent === 'connected'")
    tab.wait_for_function("() => document.getElementById('number').textContent !== '–'")


def seen(tab: Any) -> tuple[int, int]:
    """The numbers on the picture of a counting world: steps, sum of the actions."""
    high, low, total = tab.evaluate(PIXELS)[:3]
    return 256 * high + low, total


def wait(tab: Any, true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        tab.wait_for_timeout(25)
    raise AssertionError("it does not come")


def once(tab: Any, action: str) -> None:
    """One frame, by the keyboard; a key that is held may be two, where the machine is slow to let go."""
    tab.get_by_role("button", name=action).focus()
    tab.keyboard.press("Enter")


def test_it_loads_and_can_be_read_aloud(chrome: Any, page: Served) -> None:
    with opened(chrome, page) as tab:
        connected(tab)
        assert tab.title() == "Counting · noiseladder"
        names = tab.locator("button").evaluate_all(
            "all => all.map(b => b.getAttribute('aria-label') || b.textContent.trim() || b.querySelector('img')?.alt)"
        )
        assert all(names), names
        assert {"turn left", "turn right", "forward", "Real frame 1", "Real frame 2"} <= set(names)
        for control in tab.locator("input, select").all():
            assert tab.locator(f"label[for='{control.get_attribute('id')}']").count() == 1
        for canvas in tab.locator("canvas").all():
            assert canvas.get_attribute("aria-label")
        assert tab.locator("[aria-live]").count() == 1


def test_keys_move_the_picture_and_only_while_they_are_held(chrome: Any, page: Served) -> None:
    with opened(chrome, page) as tab:
        connected(tab)
        assert seen(tab) == (0, 0)
        tab.keyboard.down("ArrowUp")
        wait(tab, lambda: seen(tab)[0] >= 5)
        tab.keyboard.up("ArrowUp")
        tab.wait_for_timeout(200)
        steps, total = seen(tab)
        assert total == 2 * steps, "forward is action 2"
        tab.wait_for_timeout(300)
        assert seen(tab) == (steps, total), "nobody holds a key"
        tab.keyboard.press("d")
        wait(tab, lambda: seen(tab)[0] > steps)
        tab.wait_for_timeout(200)
        turned = seen(tab)[0] - steps
        assert seen(tab)[1] == total + turned, "right is action 1"
        tab.keyboard.press("1")
        wait(tab, lambda: seen(tab)[0] > steps + turned)
        assert seen(tab)[1] == total + turned, "left is action 0"


def test_a_slider_keeps_its_arrow_keys_and_changes_the_dream(chrome: Any, page: Served) -> None:
    with opened(chrome, page) as tab:
        connected(tab)
        tab.locator("#slider-steps").focus()
        for _ in range(3):
            tab.keyboard.press("ArrowRight")
        wait(tab, lambda: tab.locator("#slider-steps + output").text_content() == "5")
        assert seen(tab) == (0, 0)
        once(tab, "forward")
        wait(tab, lambda: seen(tab)[0] == 1)
        tab.wait_for_timeout(300)
        once(tab, "forward")
        wait(tab, lambda: tab.locator("#calls").text_content() == "5")
        assert "1, 0.8, 0.6" in tab.locator("#strip").get_attribute("aria-label")


def test_a_slider_moved_by_hand_gives_the_arrows_back(chrome: Any, page: Served) -> None:
    with opened(chrome, page) as tab:
        connected(tab)
        box = tab.locator("#slider-steps").bounding_box()
        assert box is not None
        tab.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
        wait(tab, lambda: int(tab.locator("#slider-steps + output").text_content()) > 10)
        tab.keyboard.press("ArrowUp")
        wait(tab, lambda: seen(tab)[0] >= 1)


def test_a_finger_moves_the_picture_and_the_page_fits_a_phone(chrome: Any, page: Served) -> None:
    with opened(chrome, page, viewport=PHONE, has_touch=True, is_mobile=True) as tab:
        connected(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        tab.get_by_role("button", name="forward").tap()
        wait(tab, lambda: seen(tab)[0] >= 1)
        steps, total = seen(tab)
        assert total == 2 * steps
        box = tab.get_by_role("button", name="turn left").bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["y"] + box["height"] <= PHONE["height"], "within reach without scrolling"


def test_a_button_pressed_from_the_keyboard_is_one_frame(chrome: Any, page: Served) -> None:
    with opened(chrome, page) as tab:
        connected(tab)
        once(tab, "turn right")
        wait(tab, lambda: seen(tab) == (1, 1))
        tab.wait_for_timeout(200)
        assert seen(tab) == (1, 1)


def test_it_dreams_by_itself_takes_back_and_begins_again(chrome: Any) -> None:
    playground = counting(openings=[opening(), opening(later=12)])
    assert isinstance(playground.world, CountingWorld)
    playground.world.actions = ("turn left", "turn right", "forward")  # none that breaks it
    with served(playground) as page, opened(chrome, page) as tab:
        connected(tab)
        tab.keyboard.press("p")
        wait(tab, lambda: seen(tab)[0] >= 45)
        tab.keyboard.press("p")
        tab.wait_for_timeout(300)
        steps, _ = seen(tab)
        tab.wait_for_timeout(200)
        assert seen(tab)[0] == steps, "it stands"
        tab.get_by_role("button", name=re.compile("Take back")).click()
        wait(tab, lambda: seen(tab)[0] < steps)
        tab.get_by_role("button", name="Real frame 2").click()
        wait(tab, lambda: seen(tab) == (0, 0))


def test_the_real_walk_is_shown_beside(chrome: Any, page: Served) -> None:
    with opened(chrome, page) as tab:
        connected(tab)
        tab.keyboard.press("c")
        tab.wait_for_function("() => !document.getElementById('real-figure').hidden")
        assert tab.locator("#real").is_visible()
        left, right = (tab.locator(which).bounding_box() for which in ("#real", "#dream"))
        assert left["x"] + left["width"] <= right["x"], "real on the left, dreamt on the right"
        wait(tab, lambda: "ends here" in tab.locator("#said").text_content())
        assert seen(tab)[0] == 12
        assert tab.locator("#psnr").text_content() not in ("", "–")
        tab.keyboard.press("w")
        tab.wait_for_function("() => document.getElementById('real-figure').hidden")


def test_two_quick_frames_are_both_counted(chrome: Any, page: Served) -> None:
    """Numbers are written four times a second, but the last one must not be forgotten."""
    with opened(chrome, page) as tab:
        connected(tab)
        once(tab, "forward")
        tab.wait_for_timeout(120)
        once(tab, "forward")
        wait(tab, lambda: seen(tab) == (2, 4))
        tab.wait_for_function("() => document.getElementById('number').textContent === '2'", timeout=3000)
        assert tab.locator("#dream").get_attribute("aria-label") == "The world at frame 2"


def test_frames_a_second_fall_to_none_when_nobody_steps(chrome: Any, page: Served) -> None:
    with opened(chrome, page) as tab:
        connected(tab)
        assert tab.locator("#fps").text_content() == "0", "a real frame is no step"
        tab.keyboard.down("ArrowUp")
        wait(tab, lambda: int(tab.locator("#fps").text_content()) >= 3)
        tab.keyboard.up("ArrowUp")
        wait(tab, lambda: tab.locator("#fps").text_content() == "0")
        wait(tab, lambda: tab.locator("#number").text_content() == str(seen(tab)[0]))
        assert tab.locator("#calls").text_content() == "2", "of the last step"


def test_a_page_that_is_loaded_again_says_where_the_walk_is(chrome: Any, page: Served) -> None:
    with opened(chrome, page) as tab:
        connected(tab)
        for number in range(1, 4):
            once(tab, "forward")
            wait(tab, lambda number=number: seen(tab)[0] == number)
        tab.reload()
        connected(tab)
        assert seen(tab) == (3, 6)
        assert tab.locator("#number").text_content() == "3"
        assert tab.locator("#players").text_content() == "1"
        assert tab.locator("#fps").text_content() == "0"
        assert tab.locator("#dream").get_attribute("aria-label") == "The world at frame 3"


def test_a_film_has_the_dream_on_the_right_from_its_first_frame(chrome: Any, page: Served, tmp_path: Path) -> None:
    """Recording first, the real walk later: what is dreamt does not change its side."""
    with opened(chrome, page) as tab:
        connected(tab)
        tab.keyboard.press("v")
        tab.wait_for_function("() => document.getElementById('record').getAttribute('aria-pressed') === 'true'")
        once(tab, "forward")
        wait(tab, lambda: seen(tab) == (1, 2))
        tab.keyboard.press("c")
        wait(tab, lambda: "ends here" in tab.locator("#said").text_content())
        with tab.expect_download() as arriving:
            tab.locator("#record").click()
        arriving.value.save_as(tmp_path / "walk.gif")
    frames = list(read_frames(tmp_path / "walk.gif"))
    assert len(frames) == 1 + 1 + 12
    side = 192 // 8  # of a pixel
    assert {frame.shape for frame in frames} == {(192, side * (8 + 4 + 8), 3)}
    for number, frame in enumerate(frames):
        left, right = frame[:, : 8 * side], frame[:, -8 * side :]
        assert right[side:].max() < 12, "dreamt frames are black below their numbers"
        if number < 2:
            assert np.abs(left.astype(int) - 24).max() < 12, "nothing real yet"
        else:
            assert left[side // 2, side // 2, 2] == pytest.approx(200, abs=12), "by which a real frame is known here"


@pytest.mark.parametrize("format", ["gif", "mp4"])
def test_a_recording_is_downloaded(chrome: Any, format: str, tmp_path: Path) -> None:
    if format == "mp4":
        pytest.importorskip("av")
    with served(bouncing()) as page, opened(chrome, page, reduced_motion="reduce") as tab:
        connected(tab)
        tab.locator("#format").select_option(format)
        tab.keyboard.press("v")
        tab.keyboard.press("p")
        tab.wait_for_timeout(700)
        with tab.expect_download() as arriving:
            tab.locator("#record").click()
        path = tmp_path / f"walk.{format}"
        arriving.value.save_as(path)
        assert arriving.value.suggested_filename.endswith(f".{format}")
    film = probe(path)
    assert (film.height, film.width) == (192, 192)
    frames = list(read_frames(path))
    assert len(frames) >= 5
    assert (frames[0] != frames[-1]).any()


def test_a_world_that_lives_runs_at_once_unless_motion_is_unwelcome(chrome: Any) -> None:
    with served(bouncing()) as page:
        with opened(chrome, page) as tab:
            connected(tab)
            wait(tab, lambda: int(tab.locator("#number").text_content()) > 10)
            first = tab.evaluate(PIXELS)
            wait(tab, lambda: tab.evaluate(PIXELS) != first)
            assert tab.locator("#levels").is_hidden(), "nothing is dreamt"
        with opened(chrome, page, reduced_motion="reduce") as tab:
            connected(tab)
            tab.wait_for_timeout(300)
            assert tab.locator("#number").text_content() == "0"


def test_a_broken_connection_comes_back_where_it_was(chrome: Any, page: Served) -> None:
    with opened(chrome, page) as tab:
        connected(tab)
        for number in range(1, 4):
            once(tab, "forward")
            wait(tab, lambda number=number: seen(tab) == (number, 2 * number))
        for connection in list(page.server.server_state.connections):
            connection.loop.call_soon_threadsafe(connection.transport.abort)
        wait(tab, lambda: tab.locator("#link-text").text_content() != "connected")
        connected(tab)
        once(tab, "forward")
        wait(tab, lambda: seen(tab) == (4, 8))


def test_a_server_that_was_started_again_is_found_again(chrome: Any) -> None:
    with served(counting()) as page, opened(chrome, page) as tab:
        connected(tab)
        once(tab, "forward")
        wait(tab, lambda: seen(tab) == (1, 2))
        page.stop()
        wait(tab, lambda: tab.locator("#link").get_attribute("data-state") == "lost")
        wait(tab, lambda: not page.server.servers[0].is_serving())
        tab.wait_for_timeout(500)
        with served(counting(), port=page.port):
            connected(tab)
            wait(tab, lambda: seen(tab) == (0, 0))
            once(tab, "forward")
            wait(tab, lambda: seen(tab) == (1, 2))


def test_a_sleeping_world_wakes_at_a_key(chrome: Any) -> None:
    with served(counting(), Limits(idle=0.5)) as page, opened(chrome, page) as tab:
        wait(tab, lambda: "fell asleep" in tab.locator("#said").text_content())
        tab.keyboard.press("w")
        connected(tab)
        wait(tab, lambda: seen(tab)[0] >= 1)


def test_a_full_house_says_so(chrome: Any) -> None:
    with served(counting(), Limits(players=1)) as page, page.player(), opened(chrome, page) as tab:
        wait(tab, lambda: "All 1 places are taken" in tab.locator("#said").text_content())


def test_a_public_page_is_opened_with_the_address_that_holds_the_token(chrome: Any) -> None:
    token = "sixteen-letters-and-more"
    with served(counting(), token=token) as page:
        with opened(chrome, page) as tab:
            wait(tab, lambda: "needs its token" in tab.locator("#said").text_content())
        with opened(chrome, Served(page.port, page.server)) as tab:
            tab.goto("about:blank")
            tab.goto(f"{page.url}#{token}")
            connected(tab)


def test_a_browser_that_is_killed_leaves_its_place(tmp_path: Path) -> None:
    with served(counting()) as page:
        command = [chromium() or "", *FLAGS, "--headless=new", f"--user-data-dir={tmp_path}", page.url]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            assert until(lambda: len(page.house.seats) == 1, 30)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert until(lambda: len(page.house.seats) == 0)
        with page.player() as player:
            assert player.ask("reset")["players"] == 1


def test_words_of_a_world_are_words(chrome: Any) -> None:
    """A run's name is somebody else's: it does not become a part of the page."""
    trap = '<img src=x onerror="document.title=1">'
    playground = replace(counting(), title=trap, note=trap)
    assert isinstance(playground.world, CountingWorld)
    playground.world.actions = (trap, "forward")
    with served(playground) as page, opened(chrome, page) as tab:
        connected(tab)
        assert tab.locator("#title").text_content() == trap
        assert tab.locator("img[src=x]").count() == 0
        assert trap in tab.title()


def test_other_pages_cannot_reach_the_world(chrome: Any, page: Served) -> None:
    """A stranger's page in the same browser: the socket is refused, the files are not shown to it."""
    with served(counting()) as stranger, opened(chrome, stranger) as tab:
        # A page without our policy, so that it is our server that refuses and not the browser.
        context = tab.context.browser.new_context(bypass_csp=True)
        evil = context.new_page()
        evil.goto(stranger.url)
        refused = evil.evaluate(
            """port => new Promise(done => { const s = new WebSocket(`ws://127.0.0.1:${port}/world`);
            s.onopen = () => done("open"); s.onclose = event => done(event.code); })""",
            page.port,
        )
        assert refused == 1006
        assert evil.evaluate("url => fetch(url).then(() => 'read', () => 'refused')", page.url) == "refused"
        context.close()


def test_what_is_drawn_is_what_was_sent(chrome: Any) -> None:
    world = TrueBouncing()
    first = world.opening(0).frames[-1]
    playground = replace(bouncing(), openings=[world.opening(0)])
    with served(playground) as page, opened(chrome, page, reduced_motion="reduce") as tab:
        connected(tab)
        drawn = np.array(tab.evaluate(PIXELS), np.uint8).reshape(64, 64, 4)
        np.testing.assert_array_equal(drawn[..., :3], first)
