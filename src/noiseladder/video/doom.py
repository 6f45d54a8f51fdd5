"""First-person walks recorded from VizDoom: three actions, small square frames, and the pose of every frame.

One process records one shard, because the engine sometimes dies and must not take anybody with it; so this module is
also a program (`python -m noiseladder.video.doom JOB.json`) and imports nothing that is slow to import.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clip import Clip, one_hot, write_arrays
from .doom_explorer import ACTIONS, FORWARD, TURN_LEFT, TURN_RIGHT, Explorer, FloorPlan, floor_plan
from .doom_maps import CELL, MazeOptions, make_maze, map_name, text_map, wad
from .resize import shrink

TURN = 5  # degrees a tic
TICS = 3  # of 35 a second, so that a second has 11.7 frames
RATE = 35 / TICS
WHOLE = "whole"  # what a recorder says when its shard is on disk


class Map(Enum):
    """Where to walk."""

    MAZES = "mazes"
    """A new random maze in every episode."""
    MY_WAY_HOME = "my-way-home"
    """VizDoom's own map of nine rooms: always the same one, small enough to be learnt whole."""


@dataclass(frozen=True)
class DoomOptions:
    """What is recorded; the same options give the same frames.

    frames: of one episode, at least 2. size: of a frame's side in pixels, 16 to 240. seed: of everything random.
    """

    map: Map = Map.MAZES
    size: int = 64
    frames: int = 500
    seed: int = 0
    maze: MazeOptions = field(default_factory=MazeOptions)

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 240:
            raise ValueError(f"size is {self.size}, expected 16 to 240: pixels along the side of a frame")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected 0 to {2**32 - 1}")
        if self.frames < 2:
            raise ValueError(f"frames is {self.frames}, expected at least 2: an episode is a walk")

    def describe(self) -> dict[str, Any]:
        """The options as plain values, for JSON."""
        return {**asdict(self), "map": self.map.value}

    @staticmethod
    def from_description(values: dict[str, Any]) -> DoomOptions:
        """The options that `describe` described."""
        return DoomOptions(**{**values, "map": Map(values["map"]), "maze": MazeOptions(**values["maze"])})


def check_installed() -> None:
    """Raise ImportError with what to do when VizDoom is not there."""
    if find_spec("vizdoom") is None:
        raise ImportError("Doom worlds need VizDoom: pip install 'noiseladder[video]'")


class Engine:
    """A running Doom with these maps; a context manager, because the engine is a process of its own.

    It writes its settings into the working folder, so start it in a temporary one.
    """

    def __init__(self, options: DoomOptions, maps: list[bytes]) -> None:
        check_installed()
        import vizdoom

        self.options = options
        self.game = game = vizdoom.DoomGame()
        if options.map is Map.MAZES:
            path = Path("mazes.wad").absolute()
            path.write_bytes(wad(maps))
        else:
            path = Path(vizdoom.scenarios_path) / "my_way_home.wad"
        game.set_doom_scenario_path(str(path))
        game.set_doom_map(map_name(1))
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_console_enabled(False)
        resolution = vizdoom.ScreenResolution
        # Twice as many pixels as are kept, more or less: fewer flicker, more cost time.
        game.set_screen_resolution(resolution.RES_160X120 if options.size <= 64 else resolution.RES_320X240)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        for layer in ("hud", "crosshair", "weapon", "messages", "corpses", "effects_sprites", "particles", "decals"):
            getattr(game, f"set_render_{layer}")(False)
        game.set_available_buttons([vizdoom.Button.TURN_LEFT_RIGHT_DELTA, vizdoom.Button.MOVE_FORWARD])
        variable = vizdoom.GameVariable
        game.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y, variable.ANGLE])
        game.set_sectors_info_enabled(True)
        game.set_objects_info_enabled(True)
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_episode_timeout(0)  # never
        game.set_episode_start_time(10)  # the first tics show the player falling into place
        game.set_seed(0)
        game.init()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.game.close()

    def start(self, number: int, seed: int) -> FloorPlan:
        """Begin an episode on map `number`, and say where one can walk there."""
        if self.options.map is Map.MAZES:
            self.game.set_doom_map(map_name(number))
        self.game.set_seed(seed)
        self.game.set_sectors_info_enabled(True)
        self.game.set_objects_info_enabled(True)
        self.game.new_episode()
        state = self.game.get_state()
        walls = {
            (line.x1, line.y1, line.x2, line.y2)
            for sector in state.sectors
            for line in sector.lines
            if line.is_blocking
        }
        # Touching the armour would end the episode.
        prizes = [(thing.position_x, thing.position_y, 64.0) for thing in state.objects if thing.name == "GreenArmor"]
        x, y, _ = self.pose()
        own = self.options.map is Map.MAZES
        # They cost time and are not needed again.
        self.game.set_sectors_info_enabled(False)
        self.game.set_objects_info_enabled(False)
        return floor_plan(
            np.array(sorted(walls)),
            (float(x), float(y)),
            cell=CELL / 4 if own else 16,
            clearance=40 if own else 24,
            avoid=np.array(prizes).reshape(-1, 3),
        )

    def act(self, action: int) -> bool:
        """Do one thing for one frame; False when the episode has ended."""
        turn = {TURN_LEFT: -TURN, TURN_RIGHT: TURN}.get(action, 0)
        self.game.make_action([turn, action == FORWARD], TICS)
        return not self.game.is_episode_finished()

    def pose(self) -> NDArray[np.float32]:
        """x, y and heading."""
        return np.array(self.game.get_state().game_variables, dtype=np.float32)

    def frame(self) -> NDArray[np.uint8]:
        """What is seen, (size, size, 3)."""
        return shrink(self.game.get_state().screen_buffer, self.options.size)


def make_maps(options: DoomOptions, episodes: list[int]) -> list[bytes]:
    """The maze of each episode; it depends on the seed and on the number of the episode alone."""
    texts = []
    for episode in episodes:
        generator = np.random.default_rng([options.seed, episode, 0])
        texts.append(text_map(make_maze(options.maze.rooms, generator), options.maze, generator))
    return texts


def record(options: DoomOptions, episodes: list[int]) -> Iterator[tuple[int, Clip]]:
    """Walk the episodes of these numbers, one clip each; yields (frames recorded by now, clip)."""
    recorded = 0
    with Engine(options, make_maps(options, episodes)) as engine:
        for number, episode in enumerate(episodes, start=1):
            generator = np.random.default_rng([options.seed, episode, 1])
            explorer = Explorer(engine.start(number, int(generator.integers(2**31))), TURN * TICS, generator)
            frames, poses, actions = [engine.frame()], [engine.pose()], [-1]
            while len(frames) < options.frames:
                action = explorer.act(*map(float, poses[-1]))
                if not engine.act(action):
                    break
                frames.append(engine.frame())
                poses.append(engine.pose())
                actions.append(action)
            recorded += len(frames)
            yield recorded, Clip(np.stack(frames), one_hot(np.array(actions), len(ACTIONS)), np.stack(poses))


def main(job: Path) -> None:
    """Record the shard that a job file asks for, into the folder it names; after each clip, say how many frames."""
    wanted = json.loads(job.read_text())
    options, target = DoomOptions.from_description(wanted["options"]), Path(wanted["target"])
    clips = []
    for recorded, clip in record(options, wanted["episodes"]):
        clips.append(clip)
        if len(clips) == len(wanted["episodes"]):
            # Before the engine is closed: that is when it dies, if it does.
            write_arrays(target, clips)
            print(WHOLE, flush=True)
        print(recorded, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
