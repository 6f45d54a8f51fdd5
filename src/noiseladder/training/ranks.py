"""One process or many (torchrun): the same loop, in which each rank looks at its own part of the same batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

# What shards takes a second to import, so it is imported where something is sharded.


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is; (0, 1) is a program on its own."""

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes files and speaks."""
        return self.index == 0

    def parts(self, sequences: int, pieces: int) -> list[slice]:
        """This rank's `pieces` slices of a batch of `sequences`; all ranks' slices together are the batch."""
        total = self.count * pieces
        if sequences < total:
            raise ValueError(
                f"a batch of {sequences} sequences cannot be cut into {total} parts ({self.count} ranks x"
                f" accumulate {pieces}): use larger batches or fewer parts"
            )
        edges = [sequences * part // total for part in range(total + 1)]
        mine = range(self.index * pieces, (self.index + 1) * pieces)
        return [slice(edges[part], edges[part + 1]) for part in mine]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, on every rank."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any rank says so, on every rank."""
        return flag if self.count == 1 else bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """The ranks torchrun has started, joined for the length of the block; (0, 1) without torchrun."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


def spread_over_ranks(
    module: nn.Module, blocks: Sequence[nn.Module], ranks: Ranks, shard: bool, unused: bool
) -> nn.Module:
    """A module whose backward pass averages gradients over the ranks; the same module for one rank.

    shard: keep only a part of each weight on each rank, gathering `blocks` one at a time and the rest for the whole
    pass. unused: whether a pass leaves some weights without a gradient.
    """
    if ranks.count == 1:
        return module
    if not shard:
        return DistributedDataParallel(module, find_unused_parameters=unused)
    # Also the outermost gives its weights back after a forward pass: in validation no backward pass follows, and
    # whoever touches the weights next must find each rank's own part.
    from torch.distributed.fsdp import fully_shard

    for block in blocks:
        fully_shard(block, reshard_after_forward=True)
    fully_shard(module, reshard_after_forward=True)
    return module


def sync_gradients(module: nn.Module, now: bool) -> None:
    """Whether the next backward pass averages gradients over the ranks, or only adds to this rank's."""
    if isinstance(module, DistributedDataParallel):
        module.require_backward_grad_sync = now
        return
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None and isinstance(module, fsdp.FSDPModule):
        module.set_requires_gradient_sync(now)


def sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether each rank holds a part of a tensor; none can be while what shards was never imported."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def own(tensor: Tensor) -> Tensor:
    """The part of a tensor that this rank holds, sharing memory with it: all of it, unless sharded."""
    return tensor.to_local() if sharded(tensor) else tensor


def whole(part: Tensor, like: Tensor) -> Tensor:
    """All ranks' parts put together, where `part` is this rank's part of a tensor laid out as `like`."""
    if not sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    shape, stride = like.size(), like.stride()
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=shape, stride=stride
    ).full_tensor()


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor, laid out as `like`; the inverse of `whole`."""
    tensor = tensor.to(like.device)
    if not sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements).to_local()
