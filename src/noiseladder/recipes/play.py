"""`noiseladder play [RUN]`: walk in a world, dreamt or true, on a page that is served from this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import KW_ONLY, dataclass
from typing import Annotated

import torch
from cyclopts import Parameter

from noiseladder.serving.limits import Limits
from noiseladder.serving.page import need_serving
from noiseladder.serving.playground import Playground
from noiseladder.serving.server import PORT, Address, serve
from noiseladder.video.true_bouncing import RATE, TrueBouncing

OPENINGS = 12


@dataclass(frozen=True)
class Play:
    """What is played, and for whom."""

    run: str | None = None
    """The folder of a run of `train video`, or a model that ships; the true bouncing world without it."""
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
    need_serving()  # before a model is read
    playground = playground_of(options.run)
    torch.set_num_threads(1)  # frames are small, and the server needs a core too

    def ready(address: Address) -> None:
        print(f"{playground.title}: {playground.note}")
        print(f"{address.url}  (Ctrl-C ends it)", flush=True)
        if options.browser and has_screen():
            webbrowser.open(address.url)

    token = (options.token or "") if options.public else None
    try:
        serve(playground, options.port, token, Limits(players=options.players), ready)
    except KeyboardInterrupt:
        print("ended")


def has_screen() -> bool:
    """Whether a browser would open a window; without a screen one might open in the terminal, over our own words."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def playground_of(run: str | None) -> Playground:
    """What is played. Raises ValueError, one sentence, for a run that is not there."""
    if run is None:
        world = TrueBouncing()
        return Playground(
            "Bouncing world",
            "The true world, not a dream: no run was given. Push the red disc; what is behind the bar is still there.",
            world,
            [world.opening(seed) for seed in range(OPENINGS)],
            RATE,
        )
    raise ValueError(f"there is no run {run!r}: give the folder of a run, or nothing for the true bouncing world")
