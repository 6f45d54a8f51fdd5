"""What an eye reads off pictures can be drawn again, roughly, by a small network: so a dream can be watched.

It learns from the demonstrations' own frames and is no part of the policy: nothing is decided by what it draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from noiseladder.data.episodes import Episode
from noiseladder.training import seeded
from noiseladder.training.tensors_file import read_tensors, write_tensors
from noiseladder.training.weights import check_fits

from .policy_tokens import PolicyTokens, Trace

KIND = "drawing"
FILE = "drawing.safetensors"
BLUR = 0.02  # in usual deviations: what is drawn should not hang on the last digit of what was read


class Drawing(nn.Module):
    """All senses of a token (N, F), of unit size -> pictures of every camera (N, cameras, size, size, 3) in [0, 1].

    size: of a picture, a power of two from 8 on.
    """

    def __init__(self, senses: int, cameras: Sequence[str], size: int, width: int = 64) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"pictures of {size} pixels: expected a power of two from 8 on")
        self.senses, self.cameras, self.size, self.width = senses, tuple(cameras), size, width
        self.background = nn.Parameter(torch.zeros(3 * len(self.cameras), size, size))
        layers: list[nn.Module] = [
            nn.Linear(senses, 4 * width),
            nn.SiLU(),
            nn.Linear(4 * width, 16 * width),
            nn.SiLU(),
            nn.Unflatten(1, (width, 4, 4)),
        ]
        while size > 4:
            size, after = size // 2, max(16, width // 2)
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, after, 3, padding=1), nn.SiLU()]
            width = after
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3 * len(self.cameras), 3, padding=1))

    def forward(self, senses: Tensor) -> Tensor:
        """Senses (N, F) -> pictures (N, cameras, size, size, 3)."""
        drawn = self.background + self.layers(senses)
        pictures: Tensor = drawn.unflatten(1, (len(self.cameras), 3)).movedim(2, -1)
        return pictures

    def pictures(self, tokens: PolicyTokens, seen: Mapping[str, Tensor]) -> dict[str, NDArray[np.uint8]]:
        """Senses, name -> (N, size), in their own units -> camera -> (N, size, size, 3) uint8."""
        together = torch.cat([seen[name] for name in tokens.senses], dim=-1)
        inputs = (together - tokens.middle[: tokens.seen_size]) / tokens.scale[: tokens.seen_size]
        with torch.no_grad():
            drawn = torch.cat([self(piece) for piece in inputs.split(64)])
        frames = (255 * drawn).round().clamp(0, 255).to(torch.uint8).numpy()
        return {camera: frames[:, number] for number, camera in enumerate(self.cameras)}

    def save(self, folder: Path) -> None:
        """Write drawing.safetensors into a folder, atomically."""
        note = {"kind": KIND, "shape": [self.senses, list(self.cameras), self.size, self.width]}
        write_tensors(folder / FILE, self.state_dict(), note)

    @classmethod
    def load(cls, folder: Path) -> Drawing:
        """Read it back. Raises ValueError for a damaged or foreign file, OSError where there is none."""
        tensors, note = read_tensors(folder / FILE)
        if note.get("kind") != KIND:
            raise ValueError(f"{folder / FILE} holds {note.get('kind')!r}, expected {KIND!r}: train the policy again")
        drawing = cls(*note["shape"])
        check_fits(folder / FILE, tensors, drawing.state_dict())
        drawing.load_state_dict({name: value.float() for name, value in tensors.items()})
        return drawing.eval()


def can_draw(sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether pictures of these heights and widths can be drawn: all alike, square, a power of two from 8 on."""
    height, width = sizes[0]
    return len(set(sizes)) == 1 and height == width and height >= 8 and not height & (height - 1)


def learn_to_draw(
    drawing: Drawing,
    tokens: PolicyTokens,
    traces: Sequence[Trace],
    shown: Sequence[Episode],
    steps: int,
    generator: Generator,
    batch: int = 48,
) -> Iterator[float]:
    """Train it on frames of the demonstrations, a loss at each step; weights begin from `generator` too.

    What moves counts: the error of a pixel weighs as much as that pixel usually changes.
    """
    frames = torch.cat(
        [torch.from_numpy(np.stack([episode.pictures[name] for name in drawing.cameras], 1)) for episode in shown]
    )
    senses = torch.cat([torch.cat([trace.seen[name] for name in tokens.senses], dim=1) for trace in traces])
    senses = (senses - tokens.middle[: tokens.seen_size]) / tokens.scale[: tokens.seen_size]
    some = frames[:: max(1, len(frames) // 256)].float() / 255
    with seeded(int(torch.randint(2**31, (), generator=generator)), "drawing"):
        for layer in drawing.layers:
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.reset_parameters()
    with torch.no_grad():
        drawing.background.copy_(some.mean(0).movedim(-1, 1).flatten(0, 1))
    weight = some.std(0) + 0.02
    weight = weight / weight.mean()
    optimizer = torch.optim.AdamW(drawing.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        chosen = torch.randint(len(frames), (batch,), generator=generator)
        inputs = senses[chosen] + BLUR * torch.randn(batch, senses.shape[1], generator=generator)
        with torch.enable_grad():  # also where pictures are drawn, after a training
            loss = ((drawing(inputs) - frames[chosen].float() / 255).square() * weight).mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
        yield float(loss.detach())
