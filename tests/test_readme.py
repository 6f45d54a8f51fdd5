"""What the README promises: its Python runs as printed, its links and pictures exist, its tree is the tree."""

import re
from itertools import takewhile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_of_the_readme_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    # As printed, but for the number of training steps: what is tested here is that every call fits.
    shortened = program.replace("range(200)", "range(2)")
    assert shortened != program
    names: dict[str, object] = {}
    exec(compile(shortened, "README.md", "exec"), names)
    future = names["future"]
    assert isinstance(future, torch.Tensor)
    assert future.shape == (8, 16, 1)
    assert bool(future.isfinite().all())


def test_links_and_pictures_exist() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} points to {target}"


def test_the_tree_of_the_readme_exists() -> None:
    """Every file that the tree names is there, so the map cannot outlive the house."""
    (tree,) = re.findall(r"## The tree\n\n```\n(.*?)```", README, flags=re.DOTALL)
    package = ROOT / "src" / "noiseladder"
    room = package
    checked = 0
    for line in tree.splitlines():
        depth = len(line) - len(line.lstrip())
        for name in takewhile(re.compile(r"[\w/]+(/|\.py)").fullmatch, line.split()):
            path = {0: ROOT, 2: package, 4: room}[depth] / name
            assert path.exists(), path
            if depth == 2 and path.is_dir():
                room = path
            checked += 1
    assert checked > 15


@pytest.mark.parametrize("target", ["setup", "demo", "test", "check", "bench"])
def test_the_makefile_has_what_is_promised(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
