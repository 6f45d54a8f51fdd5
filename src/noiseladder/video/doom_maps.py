"""Mazes of our own as Doom maps: a random labyrinth, written as a UDMF text map inside a WAD file.

UDMF (the Universal Doom Map Format, namespace "zdoom") is text and needs no node builder: the engine makes the nodes.
Texture and thing names are those of Freedoom, which comes with VizDoom.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Maze = NDArray[np.bool_]
Point = tuple[int, int]

WALLS = (
    "BRICK1", "BRICK6", "BROWN1", "GRAY1", "STONE2", "STARTAN2", "TEKGREN2", "METAL1", "WOOD1", "MARBLE1", "ROCK1",
    "BIGBRIK1", "SP_HOT1", "CEMENT1", "COMPBLUE", "PANEL1", "ICKWALL1", "BROWNGRN", "TANROCK2", "ZIMMER1",
)  # fmt: skip
FLATS = (
    "FLOOR0_1", "FLOOR4_8", "FLOOR5_1", "FLAT1", "FLAT5_4", "RROCK01", "GRASS1", "CEIL1_1", "FLOOR7_1", "MFLR8_1",
    "FLAT14", "FLAT10",
)  # fmt: skip
# Things that do not stand in the way and are not picked up: pools, dead bodies and remains.
DECORATIONS = (10, 12, 15, 18, 19, 20, 21, 22, 24, 79, 80, 81)
PLAYER_START = 1

CELL = 128  # map units; one walks about 20 of them a frame
HEIGHT = 128
REGION = 4  # cells along the side of a region with one wall texture
ACCENT = 0.12  # share of walls that have a texture of their own


@dataclass(frozen=True)
class MazeOptions:
    """rooms: junctions along each side of the labyrinth, at least 2. wall_textures: how many a maze has."""

    rooms: int = 5
    wall_textures: int = 5
    decorations: int = 10

    def __post_init__(self) -> None:
        if not 2 <= self.rooms <= 30:
            raise ValueError(f"rooms is {self.rooms}, expected 2 to 30: junctions along each side of a maze")
        if not 1 <= self.wall_textures <= len(WALLS):
            raise ValueError(f"wall_textures is {self.wall_textures}, expected 1 to {len(WALLS)}")


def make_maze(rooms: int, generator: Generator) -> Maze:
    """A labyrinth of `rooms` x `rooms` junctions on a grid of 2 rooms + 1 cells a side; True is wall.

    A depth-first spanning tree joins all junctions; then up to `rooms` more walls open, so that there are loops.
    """
    walls = np.ones((2 * rooms + 1, 2 * rooms + 1), dtype=bool)
    walls[1, 1] = False
    stack: list[Point] = [(0, 0)]
    while stack:
        row, column = stack[-1]
        closed = [
            (row + down, column + right)
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0))
            if 0 <= row + down < rooms
            and 0 <= column + right < rooms
            and walls[2 * (row + down) + 1, 2 * (column + right) + 1]
        ]
        if not closed:
            stack.pop()
            continue
        onward = closed[generator.integers(len(closed))]
        walls[2 * onward[0] + 1, 2 * onward[1] + 1] = False
        walls[row + onward[0] + 1, column + onward[1] + 1] = False
        stack.append(onward)
    for _ in range(rooms):
        row, column = generator.integers(1, 2 * rooms, 2)
        if (row + column) % 2:  # between two junctions
            walls[row, column] = False
    return walls


def text_map(maze: Maze, options: MazeOptions, generator: Generator) -> bytes:
    """The map as UDMF text: corridors of `CELL` units, textures by region, a player's start, a few decorations.

    Floor, ceiling and light change from region to region; the border between two regions can be walked through.
    """
    textures = [str(name) for name in generator.choice(WALLS, options.wall_textures, replace=False)]
    regions = -(-len(maze) // REGION)
    texture_of = generator.integers(0, len(textures), (regions, regions))
    lines = ['namespace = "zdoom";']
    vertices: dict[Point, int] = {}
    sides: list[str] = []
    for x, y in np.argwhere(~maze).tolist():
        here = _region((x, y), regions)
        for (across_x, across_y), start, end in _edges(x, y):
            one, other = (vertices.setdefault(corner, len(vertices)) for corner in (start, end))
            if maze[across_x, across_y]:
                texture = textures[texture_of[across_x // REGION, across_y // REGION]]
                if generator.random() < ACCENT:
                    texture = str(generator.choice(WALLS))
                lines.append(f"linedef {{ v1 = {one}; v2 = {other}; sidefront = {len(sides)}; blocking = true; }}")
                sides.append(f'sector = {here}; texturemiddle = "{texture}";')
            elif (there := _region((across_x, across_y), regions)) > here:
                lines.append(
                    f"linedef {{ v1 = {one}; v2 = {other}; sidefront = {len(sides)}; sideback = {len(sides) + 1};"
                    " twosided = true; }"
                )
                sides += [f"sector = {here};", f"sector = {there};"]
    lines += [f"vertex {{ x = {x * CELL}.0; y = {y * CELL}.0; }}" for x, y in vertices]
    lines += [f"sidedef {{ {side} }}" for side in sides]
    ceiling = generator.choice(FLATS)
    for _ in range(regions * regions):
        lines.append(
            f"sector {{ heightfloor = 0; heightceiling = {HEIGHT}; lightlevel = {generator.integers(150, 236)};"
            f' texturefloor = "{generator.choice(FLATS)}"; textureceiling = "{ceiling}"; }}'
        )
    free = np.argwhere(~maze)
    where = (free[generator.integers(len(free))] + 0.5) * CELL
    lines.append(_thing(PLAYER_START, where, int(generator.integers(8)) * 45))
    for kind in generator.choice(DECORATIONS, options.decorations):
        where = (free[generator.integers(len(free))] + 0.5) * CELL + generator.integers(-40, 41, 2)
        lines.append(_thing(int(kind), where, 0))
    return "\n".join(lines).encode()


def wad(maps: Sequence[bytes]) -> bytes:
    """A WAD file with these text maps, named MAP01, MAP02, and so on: at most 99."""
    if not 1 <= len(maps) <= 99:
        raise ValueError(f"{len(maps)} maps were given, expected 1 to 99 in one file")
    lumps = []
    for number, text in enumerate(maps, start=1):
        lumps += [(map_name(number), b""), ("TEXTMAP", text), ("ENDMAP", b"")]
    header, contents, directory = 12, b"", b""
    for name, content in lumps:
        directory += struct.pack("<ii8s", header + len(contents), len(content), name.encode())
        contents += content
    return struct.pack("<4sii", b"PWAD", len(lumps), header + len(contents)) + contents + directory


def map_name(number: int) -> str:
    """The name of a map inside its WAD; the first is number 1."""
    return f"MAP{number:02d}"


def _region(cell: Point, regions: int) -> int:
    return cell[0] // REGION * regions + cell[1] // REGION


def _edges(x: int, y: int) -> Iterator[tuple[Point, Point, Point]]:
    """The four sides of a cell: the cell across, and two corners in the order that has this cell on the right."""
    yield (x, y - 1), (x + 1, y), (x, y)
    yield (x + 1, y), (x + 1, y + 1), (x + 1, y)
    yield (x, y + 1), (x, y + 1), (x + 1, y + 1)
    yield (x - 1, y), (x, y), (x, y + 1)


def _thing(kind: int, where: NDArray[np.floating], angle: int) -> str:
    flags = " ".join(
        f"{name} = true;" for name in ("skill1", "skill2", "skill3", "skill4", "skill5", "single", "class1")
    )
    return f"thing {{ x = {where[0]:.1f}; y = {where[1]:.1f}; angle = {angle}; type = {kind}; {flags} }}"
