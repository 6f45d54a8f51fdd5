"""What takes a while to make and is the same for everybody here is kept in one folder of the user."""

import os
from pathlib import Path


def cache_folder(folder: Path | None = None) -> Path:
    """`folder`, or else NOISELADDER_CACHE, or else ~/.cache/noiseladder."""
    return folder or Path(os.environ.get("NOISELADDER_CACHE") or Path.home() / ".cache" / "noiseladder")
