"""What is known survives its file to the bit; a damaged or foreign file gets one sentence."""

from pathlib import Path

import pytest
import torch
from walks import jumped, known

from noiseladder.planning.knowledge import FILE, Knowledge
from noiseladder.training.tensors_file import write_tensors


def same(first: Knowledge, second: Knowledge) -> bool:
    tensors = zip(
        (first.roads.centres, first.roads.roads, first.roads.ways),
        (second.roads.centres, second.roads.roads, second.roads.ways),
    )
    rest = (first.body, first.tokens, first.source, first.roads.size)
    return all(torch.equal(a, b) for a, b in tensors) and rest == (
        second.body, second.tokens, second.source, second.roads.size
    )  # fmt: skip


def test_it_is_read_back_to_the_bit(tmp_path: Path) -> None:
    known().save(tmp_path)
    assert same(Knowledge.load(tmp_path), known())


def test_stories_told_from_the_file_are_the_same(tmp_path: Path) -> None:
    known().save(tmp_path)
    knowledge = (known(), Knowledge.load(tmp_path))
    first, again = (each.stories.tell(4, 30, torch.Generator().manual_seed(0)) for each in knowledge)
    assert torch.equal(first.observations, again.observations)


def test_a_body_without_velocity_survives_too(tmp_path: Path) -> None:
    knowledge = Knowledge.learn(jumped(), 4, 1.0)
    knowledge.save(tmp_path)
    found = Knowledge.load(tmp_path)
    assert found.body == knowledge.body
    assert found.body.limit is None
    assert found.tokens.limit == 0


def test_a_damaged_file_gets_one_sentence(tmp_path: Path) -> None:
    known().save(tmp_path)
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="damaged"):
        Knowledge.load(tmp_path)
    path.write_bytes(whole[:-4] + bytes(255 - byte for byte in whole[-4:]))
    with pytest.raises(ValueError, match="damaged"):
        Knowledge.load(tmp_path)


def test_a_foreign_file_gets_one_sentence(tmp_path: Path) -> None:
    write_tensors(tmp_path / FILE, {"centres": torch.zeros(2)}, {"kind": "something else"})
    with pytest.raises(ValueError, match="'something else', expected 'planning knowledge 2'"):
        Knowledge.load(tmp_path)


def test_no_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=FILE):
        Knowledge.load(tmp_path)
