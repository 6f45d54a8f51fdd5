"""What a planner knows besides its network: roads and body, read off the recording, and the layout of its tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch

from noiseladder.training.tensors_file import read_tensors, write_tensors

from .body import Body
from .jumps import Jumps
from .plan_tokens import PlanTokens
from .recordings import Recording
from .roads import Roads, shortest
from .stories import Stories

KIND = "planning knowledge 2"
"""With the first, no road and the end of a road looked the same to the network."""
FILE = "knowledge.safetensors"


@dataclass(frozen=True)
class Knowledge:
    """roads, body, jumps: learned from one recording. tokens: how plans are written. source: which, in words."""

    roads: Roads
    body: Body
    tokens: PlanTokens
    source: str = ""
    jumps: Jumps = field(default_factory=lambda: Jumps.none(0))

    @classmethod
    def learn(
        cls, recording: Recording, steps: int, near: float, source: str = "", observation_first: bool = False
    ) -> Knowledge:
        """Learn all from a recording; `steps` world steps in a token, a goal is reached within `near`."""
        body = Body.learn(recording)
        roads = Roads.learn(recording, body.axes)
        low, high = roads.centres.min(0).values, roads.centres.max(0).values
        tokens = PlanTokens(
            steps=steps,
            axes=body.axes,
            speed=Stories(roads, body).top_speed,
            limit=body.limit or 0.0,
            middle=tuple(((low + high) / 2).tolist()),
            extent=(high - low).max().item() / 2,
            near=near,
            observation_first=observation_first,
        )
        return cls(roads, body, tokens, source, Jumps.learn(recording, roads))

    @property
    def stories(self) -> Stories:
        """What the body could have done."""
        return Stories(self.roads, self.body)

    def save(self, folder: Path) -> None:
        """Write knowledge.safetensors into a folder, atomically."""
        first, second = torch.isfinite(self.roads.roads).nonzero().T
        tensors = {
            "centres": self.roads.centres,
            "first": first.int(),
            "second": second.int(),
            "length": self.roads.roads[first, second],
            **{f"jumps/{name}": value for name, value in vars(self.jumps).items()},
        }
        note = {
            "kind": KIND,
            "size": self.roads.size,
            "body": asdict(self.body),
            "tokens": asdict(self.tokens),
            "source": self.source,
        }
        write_tensors(folder / FILE, tensors, note)

    @classmethod
    def load(cls, folder: Path) -> Knowledge:
        """Read it back. Raises ValueError for a damaged or foreign file, OSError where there is none."""
        tensors, note = read_tensors(folder / FILE)
        if note.get("kind") != KIND:
            raise ValueError(
                f"{folder / FILE} holds {note.get('kind')!r}, expected {KIND!r}: train the maze recipe again"
            )
        centres = tensors["centres"]
        roads = torch.full((len(centres), len(centres)), torch.inf)
        roads[tensors["first"].long(), tensors["second"].long()] = tensors["length"]
        tokens = {**note["tokens"], **{name: tuple(note["tokens"][name]) for name in ("middle", "reaches")}}
        return cls(
            Roads(centres, roads, shortest(roads), note["size"]),
            Body(**note["body"]),
            PlanTokens(**tokens),
            note["source"],
            Jumps(*(tensors[f"jumps/{part.name}"] for part in fields(Jumps))),
        )
