"""What a policy knows besides its network: how to look at pictures, and the layout of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseladder.data.episodes import Episode
from noiseladder.training.tensors_file import read_tensors, write_tensors

from .eye import Eye
from .fruit_swap import Observation
from .policy_tokens import STATE, PolicyTokens, Trace

KIND = "policy knowledge"
FILE = "policy.safetensors"


def astray(episode: Episode) -> tuple[int, ...]:
    """Steps of an episode, as its notes have them, that nobody should imitate: `jolts` and `slips`."""
    return tuple(sorted({*episode.notes.get("jolts", ()), *episode.notes.get("slips", ())}))


@dataclass(frozen=True)
class PolicyKnowledge:
    """tokens: how what is seen and done is written. eyes: camera -> what is read off its pictures."""

    tokens: PolicyTokens
    eyes: Mapping[str, Eye]

    def senses(self, observation: Observation) -> dict[str, Tensor | None]:
        """An observation as senses, sense -> (1, size); None for a camera whose picture is None.

        Raises ValueError for a picture that is not there at all or of another kind, and a state of another size.
        """
        seen: dict[str, Tensor | None] = {}
        pictures = cast(Mapping[str, NDArray[np.uint8] | None], observation.pictures)
        for camera, eye in self.eyes.items():
            if camera not in pictures:
                raise ValueError(
                    f"the observation lacks camera {camera}: expected pictures of {', '.join(self.eyes)}; give None"
                    " for one that is missing"
                )
            picture = pictures[camera]
            if picture is None:
                seen[camera] = None
                continue
            eye.check(picture[None], f"camera {camera}")
            seen[camera] = eye(torch.from_numpy(picture[None]))
        if STATE in self.tokens.senses:
            state = torch.as_tensor(observation.state, dtype=torch.float32)
            seen[STATE] = state[None]
        return seen

    @staticmethod
    def trace(episode: Episode, eyes: Mapping[str, Eye]) -> Trace:
        """An episode as these eyes see it."""
        seen = {}
        for camera, eye in eyes.items():
            eye.check(episode.pictures[camera], f"{episode.name}: camera {camera}")
            frames = torch.from_numpy(episode.pictures[camera])
            seen[camera] = torch.cat([eye(piece) for piece in frames.split(64)])
        if episode.state.shape[1]:
            seen[STATE] = torch.from_numpy(episode.state)
        return Trace(seen, torch.from_numpy(episode.actions), astray(episode))

    def save(self, folder: Path) -> None:
        """Write policy.safetensors into a folder, atomically."""
        tokens = self.tokens
        tensors = {"middle": tokens.middle, "scale": tokens.scale}
        tensors |= {f"palette/{camera}": eye.palette for camera, eye in self.eyes.items()}
        tensors |= {
            f"where/{camera}": eye.where.to(torch.uint8) for camera, eye in self.eyes.items() if eye.where is not None
        }
        note = {
            "kind": KIND,
            "senses": list(tokens.senses),
            "sizes": list(tokens.sizes),
            "chunk": tokens.chunk,
            "action_size": tokens.action_size,
            "moves": tokens.moves,
            "waypoint": tokens.waypoint,
            "eyes": {camera: [eye.colours, *eye.size] for camera, eye in self.eyes.items()},
        }
        write_tensors(folder / FILE, tensors, note)

    @classmethod
    def load(cls, folder: Path) -> PolicyKnowledge:
        """Read it back. Raises ValueError for a damaged or foreign file, OSError where there is none."""
        tensors, note = read_tensors(folder / FILE)
        if note.get("kind") != KIND:
            raise ValueError(f"{folder / FILE} holds {note.get('kind')!r}, expected {KIND!r}: train the policy again")
        tokens = PolicyTokens(
            tuple(note["senses"]),
            tuple(note["sizes"]),
            note["chunk"],
            note["action_size"],
            tensors["middle"],
            tensors["scale"],
            note["moves"],
            note.get("waypoint", False),
        )
        eyes = {
            camera: Eye(
                tensors[f"palette/{camera}"],
                colours,
                (height, width),
                tensors[f"where/{camera}"].bool() if f"where/{camera}" in tensors else None,
            )
            for camera, (colours, height, width) in note["eyes"].items()
        }
        return cls(tokens, eyes)
