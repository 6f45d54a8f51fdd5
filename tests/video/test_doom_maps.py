"""Mazes: all of one piece, closed to the outside, the same from the same seed, and a WAD that says what it holds."""

import re
import struct

import numpy as np
import pytest

from noiseladder.video.doom_maps import CELL, MazeOptions, make_maze, map_name, text_map, wad


def reachable(maze: np.ndarray) -> np.ndarray:
    reached = np.zeros_like(maze)
    reached[1, 1] = True
    for _ in range(maze.size):
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= ~maze
        if (grown == reached).all():
            break
        reached = grown
    return reached


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rooms", [2, 5, 9])
def test_every_junction_can_be_reached_and_nobody_gets_out(rooms: int, seed: int) -> None:
    maze = make_maze(rooms, np.random.default_rng(seed))
    assert maze.shape == (2 * rooms + 1, 2 * rooms + 1)
    assert not maze[1::2, 1::2].any(), "junctions are open"
    assert (reachable(maze) == ~maze).all()
    assert maze[[0, -1]].all()
    assert maze[:, [0, -1]].all()


def test_there_are_loops_and_different_seeds_differ() -> None:
    mazes = [make_maze(6, np.random.default_rng(seed)) for seed in range(8)]
    openings = [int((~maze).sum()) for maze in mazes]
    assert max(openings) > 6 * 6 + 6 * 6 - 1, "a tree of 36 junctions has 35 openings"
    assert len({maze.tobytes() for maze in mazes}) == 8
    assert (make_maze(6, np.random.default_rng(3)) == mazes[3]).all()


def test_the_map_has_a_wall_wherever_open_meets_closed() -> None:
    options = MazeOptions(rooms=3)
    maze = make_maze(3, np.random.default_rng(0))
    text = text_map(maze, options, np.random.default_rng(1)).decode()
    walls = re.findall(r"linedef \{ v1 = (\d+); v2 = (\d+); sidefront = (\d+); blocking = true; \}", text)
    meetings = (maze[1:] != maze[:-1]).sum() + (maze[:, 1:] != maze[:, :-1]).sum()
    assert len(walls) == meetings
    corners = [tuple(map(float, xy)) for xy in re.findall(r"vertex \{ x = (\S+); y = (\S+); \}", text)]
    for one, other, _ in walls:
        (x1, y1), (x2, y2) = corners[int(one)], corners[int(other)]
        assert abs(x2 - x1) + abs(y2 - y1) == CELL
        # The open cell is on the right of the line, where the engine looks for its front.
        right = ((x1 + x2) / 2 + (y2 - y1) / 2, (y1 + y2) / 2 - (x2 - x1) / 2)
        left = ((x1 + x2) / 2 - (y2 - y1) / 2, (y1 + y2) / 2 + (x2 - x1) / 2)
        assert not maze[int(right[0] // CELL), int(right[1] // CELL)]
        assert maze[int(left[0] // CELL), int(left[1] // CELL)]
    assert text.count("type = 1;") == 1
    assert text.count("thing {") == 1 + options.decorations


def test_a_wad_lists_its_lumps() -> None:
    data = wad([b"one", b"the second"])
    kind, count, directory = struct.unpack("<4sii", data[:12])
    assert (kind, count) == (b"PWAD", 6)
    lumps = {}
    for number in range(count):
        start, size, name = struct.unpack("<ii8s", data[directory + 16 * number : directory + 16 * number + 16])
        lumps.setdefault(name.rstrip(b"\0"), []).append(data[start : start + size])
    assert lumps == {b"MAP01": [b""], b"MAP02": [b""], b"TEXTMAP": [b"one", b"the second"], b"ENDMAP": [b"", b""]}
    assert map_name(2) == "MAP02"


@pytest.mark.parametrize("mistake", [{"rooms": 1}, {"rooms": 31}, {"wall_textures": 0}, {"wall_textures": 99}])
def test_mistakes_are_said(mistake: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"is {next(iter(mistake.values()))}, expected"):
        MazeOptions(**mistake)
    with pytest.raises(ValueError, match="expected 1 to 99"):
        wad([])
