"""The Python in docs/extending.md runs as it stands."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_examples_of_extending_run_one_after_the_other() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 5
    namespace: dict[str, object] = {"__name__": "extending"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/extending.md, block {number}", "exec"), namespace)
    assert tuple(namespace["tokens"].shape) == (8, 4, 2)  # type: ignore[attr-defined]
