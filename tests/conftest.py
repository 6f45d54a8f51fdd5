"""What holds for every test: no display, one thread, quick tests first."""

import os

# Before anything imports torch or matplotlib. Small tensors are faster on one thread, and the same test then
# adds its numbers in the same order on every machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick tests first: a broken formula should be heard of before a model is trained."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
