"""A trained policy of the fruit swap is a folder: of a run of `train swap`, or the one that ships with the package."""

from __future__ import annotations

from pathlib import Path

import noiseladder.imitation
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.imitation.drawing import FILE as DRAWING, Drawing
from noiseladder.imitation.policy import Policy
from noiseladder.imitation.policy_knowledge import FILE as KNOWLEDGE, PolicyKnowledge
from noiseladder.training.options import from_json
from noiseladder.training.weights import load_weights

from .run_folders import RECIPE, WEIGHTS, open_run, shipped_in
from .shipping import write_shipped
from .swap import Swap, network

SHIPPED = Path(noiseladder.imitation.__file__).parent / "weights"
STEPS = 1  # of denoising, for a chunk of actions: what is done on average; with memory there is one thing to do


def shipped() -> dict[str, Path]:
    """Name -> folder of the policies that ship with the package."""
    return shipped_in(SHIPPED)


def load_policy(run: str | Path, steps: int = STEPS, seed: int = 0) -> Policy:
    """The policy in a run folder of `noiseladder train swap`, or the shipped one of that name.

    Raises ValueError for a run of another recipe, damaged files, or where there is none.
    """
    folder, options = open_run(run, shipped(), "swap", (WEIGHTS, KNOWLEDGE))
    knowledge = PolicyKnowledge.load(folder)
    recipe = from_json(Swap, options, folder / RECIPE)
    denoiser = Denoiser(network(recipe, knowledge.tokens), Cosine()).eval()
    load_weights(folder / WEIGHTS, denoiser)
    return Policy(denoiser, knowledge, steps, seed=seed)


def load_drawing(run: str | Path) -> Drawing | None:
    """What draws the policy's dreams, or None where the run has none."""
    folder, _ = open_run(run, shipped(), "swap", ())
    return Drawing.load(folder) if (folder / DRAWING).is_file() else None


def ship(run: Path, folder: Path) -> None:
    """Write what acting, and drawing where the run can, needs of a run into another folder."""
    load_policy(run)  # nothing half-trained or foreign is shipped
    drawing = (DRAWING,) if (run / DRAWING).is_file() else ()
    write_shipped(run, folder, (WEIGHTS, *drawing), (KNOWLEDGE,))
