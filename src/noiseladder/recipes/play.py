"""`noiseladder play [RUN]`: walk in a world, dreamt or true, on a page that is served from this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter

from noiseladder.serving.door import Door
from noiseladder.serving.limits import Limits
from noiseladder.serving.page import need_serving
from noiseladder.serving.playground import Playground
from noiseladder.serving.server import PORT, Address, bind, serve
from noiseladder.video.beginnings import numbers_of
from noiseladder.video.doom import RATE as DOOM_RATE, DoomOptions, Map
from noiseladder.video.exported_world import is_exported
from noiseladder.video.playable import Opening
from noiseladder.video.true_bouncing import RATE, TrueBouncing
from noiseladder.video.true_doom import TrueDoom

from .real_walks import have_real_walks, real_walks
from .trained_world import TrainedWorld, load, shipped

TRUE_BOUNCING, TRUE_DOOM, FIRST = "true-bouncing", "true-doom", "doom"
OPENINGS = 12
WALKS, CONTEXT, LATER = 4, 16, 300


@dataclass(frozen=True)
class Play:
    """What is played, and for whom."""

    run: str | None = None
    """The folder of a `train video` or an `export`, the name of a world that ships, or true-bouncing, true-doom."""
    _: KW_ONLY
    port: int = PORT
    """Where the page is; 0 takes a free port."""
    public: bool = False
    """Let other machines in, on every address of this one; they need the token that is printed."""
    token: str | None = None
    """The token of a public page, at least 16 characters; a new one is made without it."""
    players: int = 8
    """How many may play at a time; they share the processor, a frame each in turn."""
    browser: bool = True
    """Open the page in a browser, where there is a screen."""


def play(options: Annotated[Play, Parameter(name="*")] = Play()) -> None:
    """Walk in a world on a web page: keys, touch, real against dream, films."""
    if options.token is not None and not options.public:
        raise ValueError("--token is for a public page: give --public too, or leave it out")
    if not 1 <= options.players <= 64:
        raise ValueError(f"--players is {options.players}, expected 1 to 64")
    # Before a model is read: what can be refused at once.
    need_serving()
    if options.token is not None:
        Door(None, options.token)
    bind(options.port, options.public).close()
    players = options.players
    if options.run == TRUE_DOOM and players > 1:
        players = 1
        print("one player at a time: the engine of Doom cannot be in two places")
    playground = playground_of(options.run)
    torch.set_num_threads(1)  # frames are small, and the server needs a core too

    def ready(address: Address) -> None:
        print(f"{playground.title}: {playground.note}")
        print(f"{address.url}  (Ctrl-C ends it)", flush=True)
        if options.browser and has_screen():
            webbrowser.open(address.url)

    token = (options.token or "") if options.public else None
    try:
        with suppress(KeyboardInterrupt):  # uvicorn ends at Ctrl-C by itself, and may or may not raise it again
            serve(playground, options.port, token, Limits(players=players), ready)
        print("ended")
    finally:
        if isinstance(playground.world, TrueDoom):
            playground.world.close()


def has_screen() -> bool:
    """Whether a browser would open a window; without a screen one might open in the terminal, over our own words."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def playground_of(run: str | None) -> Playground:
    """What is played: a run, a world that ships, by its name, or the true bouncing world.

    Raises ValueError, one sentence, for a run that is not there.
    """
    ships = shipped()
    if run is None:
        run = next((name for name in (FIRST, *ships) if name in ships), TRUE_BOUNCING)
    if run == TRUE_BOUNCING:
        return true_bouncing("nothing that was learned is run here")
    if run == TRUE_DOOM:
        return true_doom()
    trained = load(run)
    walks = openings_beside_real_walks(trained)
    kept = [
        Opening(frames, np.asarray(led))
        for frames, led in (trained.beginnings[number] for number in range(len(trained.beginnings)))
    ]
    where = " that ONNX Runtime runs" if is_exported(Path(run)) else ""
    return Playground(
        Path(run).resolve().name,
        f"A dream: every frame falls out of noise, in a network of {trained.weights / 1e6:.1f} million weights{where}.",
        trained.model(),
        [*walks, *kept],
        trained.beginnings.rate or RATE,
    )


def true_bouncing(why: str) -> Playground:
    """The world that nobody dreams."""
    world = TrueBouncing()
    return Playground(
        "Bouncing world",
        f"The true world, not a dream: {why}. Push the red disc; what is behind the bar is still there.",
        world,
        [world.opening(seed) for seed in range(OPENINGS)],
        RATE,
    )


def true_doom() -> Playground:
    """The engine itself, in the nine rooms of my-way-home."""
    world = TrueDoom(DoomOptions(map=Map.MY_WAY_HOME))
    return Playground(
        "Doom",
        "The true world, not a dream: VizDoom's my-way-home. Taking back walks there again.",
        world,
        [world.opening(seed) for seed in range(OPENINGS)],
        DOOM_RATE,
    )


def openings_beside_real_walks(trained: TrainedWorld) -> list[Opening]:
    """Walks that are recorded now, to be dreamt along and shown beside the dream; none where the world is not here."""
    if not have_real_walks(trained.recipe):
        return []
    print(f"recording {WALKS} real walks to dream beside", flush=True)
    try:
        walks = real_walks(trained.recipe, CONTEXT + LATER, WALKS, 0)
    except (ValueError, OSError, ImportError) as error:
        print(f"without real walks: {error}", file=sys.stderr)
        return []
    found = []
    for walk in walks:
        if len(walk) > CONTEXT and walk.actions is not None:
            led = numbers_of(torch.from_numpy(np.asarray(walk.actions, np.float32)), trained.beginnings.rows).numpy()
            found.append(Opening(walk.frames[:CONTEXT], led[:CONTEXT], walk.frames[CONTEXT:], led[CONTEXT:]))
    return found
