"""The paper's network for videos: a convolutional GRU whose candidate is a small U-Net over pixels, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noiseladder.diffusion.state import State

from .levels import LevelEmbedding
from .vectors import check_batch, check_counts, check_input, check_sizes

TOLD = 64  # size of the vector that says level and condition
GROUP = 4  # channels that a norm takes together, at least; within a frame, never over time


@dataclass(frozen=True)
class ConvolutionalState(State):
    """hidden: (B, channels, H, W). prepared: (B, width, H, W), the hidden part of the first layer, or None."""

    hidden: Tensor
    prepared: Tensor | None = None


class ConvolutionalNetwork(nn.Module):
    """f_t = UNet(x_t, z_{t-1}), z_t = GRU(z_{t-1}, f_t), output_t = head(z_t, f_t): images all the way.

    The recurrent network of Diffusion Forcing (Chen et al., 2024, appendix D) for videos. Every sampling step runs all
    of it, at the frame's own size: faithful, and dear. `SplitNetwork` on an autoencoder's vectors is what pays.

    shape: C, H, W of a frame; tokens are (B, T, C * H * W), C outermost. width: channels at full size, doubled at every
    halving. channels: of the state. halvings: levels of the U-Net below full size; H and W must be multiples of
    2^halvings. condition_size: C of conditions (B, T, C), 0 for none. parts: see LevelEmbedding. learned_start: whether
    the state before any token is learned or zero.
    """

    causal = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 32,
        channels: int = 16,
        halvings: int = 2,
        condition_size: int = 0,
        parts: tuple[int, ...] = (),
        learned_start: bool = True,
    ) -> None:
        super().__init__()
        colours, height, wide = shape
        check_sizes(colours * height * wide, width, condition_size)
        check_counts(1, channels=channels)
        check_counts(0, halvings=halvings)
        if min(shape) < 1 or height % 2**halvings or wide % 2**halvings:
            raise ValueError(
                f"frames of shape {shape} cannot be halved {halvings} times: expected a height and a width that are"
                f" multiples of {2**halvings}"
            )
        self.shape, self.token_size, self.condition_size = shape, colours * height * wide, condition_size
        self.reader = FrameReader(shape, width, condition_size, parts)
        self.from_hidden = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.unet = UNet(width, halvings)
        self.gates = nn.Conv2d(width + channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(width + channels, channels, 3, padding=1)
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.norm = _norm(width)
        self.write = nn.Conv2d(width, colours, 3, padding=1)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(cast(Tensor, self.write.bias))
        self.start = nn.Parameter(torch.zeros(channels, height, wide), requires_grad=learned_start)

    def initial_state(self, batch: int) -> ConvolutionalState:
        """The state of `batch` sequences before any token."""
        return ConvolutionalState(self.start.expand(batch, -1, -1, -1))

    def prepare(self, state: State) -> ConvolutionalState:
        """Do the state's part of the first layer, which all sampling steps of the next token share."""
        held = _as_convolutional(state)
        return held if held.prepared is not None else replace(held, prepared=self.from_hidden(held.hidden))

    def forward(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State
    ) -> tuple[Tensor, ConvolutionalState]:
        """tokens (B, T, D), levels (B, T) or (B, T, D), condition (B, T, C) -> output (B, T, D), state after T."""
        outputs, states = self._read(tokens, levels, condition, _as_convolutional(state))
        return outputs, states[-1]

    def query(
        self,
        tokens: Tensor,
        levels: Tensor,
        condition: Tensor | None,
        state: State,
        query_tokens: Tensor,
        query_levels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Read the main tokens and, from the state before each of them, a noisy version of it: two streams.

        Shapes as in `forward`; returns the outputs of both streams, (B, T, D) each.
        """
        self.reader.check(query_tokens, query_levels, condition)
        outputs, states = self._read(tokens, levels, condition, _as_convolutional(state))
        # The states before all tokens are known: all queries are one step each, done together.
        before = ConvolutionalState(torch.stack([one.hidden for one in states[:-1]], dim=1).flatten(0, 1))
        frames, told, skip = self.reader(query_tokens, query_levels, condition)
        told = told.expand(len(query_tokens), -1, -1)
        answer, _ = self._step(frames.flatten(0, 1), told.flatten(0, 1), before)
        return outputs, torch.addcmul(answer.flatten(1).view_as(query_tokens), skip, query_tokens)

    def _read(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: ConvolutionalState
    ) -> tuple[Tensor, list[ConvolutionalState]]:
        """Outputs (B, T, D), and the states before the first token and after each of them."""
        frames, told, skip = self.reader(tokens, levels, condition)
        check_batch(len(state.hidden), tokens)
        states, outputs = [state], []
        for frame, said in zip(frames.unbind(1), told.unbind(1)):
            output, state = self._step(frame, said, state)
            states.append(state)
            outputs.append(output.flatten(1))
        return torch.addcmul(torch.stack(outputs, dim=1), skip, tokens), states

    def _step(self, frame: Tensor, told: Tensor, state: ConvolutionalState) -> tuple[Tensor, ConvolutionalState]:
        """One frame's first features (B, width, H, W) and what is told of it -> output (B, C, H, W), new state."""
        hidden, prepared = state.hidden, self.prepare(state).prepared
        assert prepared is not None
        features = self.unet(frame + prepared, told)
        reset, update = self.gates(torch.cat([features, hidden], dim=1)).sigmoid().chunk(2, dim=1)
        candidate = self.candidate(torch.cat([features, reset * hidden], dim=1)).tanh()
        # Under autocast the products are rounded, the state is not.
        hidden = torch.lerp(candidate.to(hidden), hidden, update.to(hidden))
        output: Tensor = self.write(F.silu(self.norm(self.head(hidden) + features)))
        return output, ConvolutionalState(hidden)


class FrameReader(nn.Module):
    """Noisy frames as first features at full size, and what is told of them: level and condition as one vector.

    shape: C, H, W. width: of the features. condition_size: C of conditions. parts: see LevelEmbedding.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, condition_size: int, parts: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.token_size, self.condition_size = shape, shape[0] * shape[1] * shape[2], condition_size
        self.embed = LevelEmbedding(self.token_size, TOLD, parts)
        self.read = nn.Conv2d(shape[0], width, 3, padding=1)
        self.asked = nn.Linear(condition_size, TOLD, bias=False) if condition_size else None
        self.skip = nn.Linear(TOLD, shape[0])
        nn.init.zeros_(self.skip.weight)
        nn.init.zeros_(self.skip.bias)

    def forward(self, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """tokens (B, T, D), levels, condition (B, T, C) -> features (B, T, width, H, W), told (B, T, TOLD), skip.

        The skip is the share of the noisy frame that goes straight to the output; it depends on the level alone and
        broadcasts over (B, T, D).
        """
        self.check(tokens, levels, condition)
        level = self.embed(levels)
        colours, height, width = self.shape
        features = self.read(tokens.reshape(-1, colours, height, width)).unflatten(0, tokens.shape[:2])
        told = level if self.asked is None else level + self.asked(condition)
        return features, told.expand(len(tokens), -1, -1), self.skip(level).repeat_interleave(height * width, dim=-1)

    def check(self, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> None:
        """Raise ValueError unless the input fits this network."""
        check_input(tokens, levels, condition, self.token_size, self.condition_size, self.embed, self.read.weight.dtype)


class UNet(nn.Module):
    """Features (B, width, H, W) and what is told of them (B, TOLD) -> features of the same shape, from far and near."""

    def __init__(self, width: int, halvings: int) -> None:
        super().__init__()
        wide = [width * 2**halving for halving in range(halvings + 1)]
        self.down = cast(Sequence[Told], nn.ModuleList(Told(channels) for channels in wide))
        self.shrink = nn.ModuleList(nn.Conv2d(n, 2 * n, 3, stride=2, padding=1) for n in wide[:-1])
        self.grow = nn.ModuleList(nn.Conv2d(2 * n, n, 3, padding=1) for n in wide[:-1])
        self.up = cast(Sequence[Told], nn.ModuleList(Told(channels) for channels in wide[:-1]))

    def forward(self, features: Tensor, told: Tensor) -> Tensor:
        """Down, then up again; what was seen at a size is added on the way back."""
        kept = []
        for block, shrink in zip(self.down, self.shrink):
            features = block(features, told)
            kept.append(features)
            features = shrink(features)
        features = self.down[-1](features, told)
        for block, grow, before in zip(reversed(self.up), reversed(self.grow), reversed(kept)):
            features = block(before + grow(F.interpolate(features, scale_factor=2.0)), told)
        return features


class Told(nn.Module):
    """A residual block that is told the level and the condition: x + conv(silu(norm(conv(silu(norm(x)))) scaled))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = _norm(width), _norm(width)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.told = nn.Linear(TOLD, 2 * width)

    def forward(self, features: Tensor, told: Tensor) -> Tensor:
        """features (B, width, H, W), told (B, TOLD)."""
        scale, shift = self.told(told)[..., None, None].chunk(2, dim=1)
        inner = self.between(self.first(F.silu(self.before(features))))
        added: Tensor = self.second(F.silu(torch.addcmul(shift, inner, 1 + scale)))
        return features + added


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(groups for groups in range(1, max(1, width // GROUP) + 1) if width % groups == 0), width)


def _as_convolutional(state: State) -> ConvolutionalState:
    assert isinstance(state, ConvolutionalState)
    return state
