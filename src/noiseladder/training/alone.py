"""A run folder belongs to one process at a time; however that process ends, the folder is free again."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, which need not exist, for the length of the block.

    Raises ValueError where another process of this machine holds it. On systems without file locks nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    # Not in the folder itself: nothing is written there before it is known that a run can be made.
    place = f"{os.getuid()} {folder.resolve()}"
    name = hashlib.blake2b(place.encode(), digest_size=8).hexdigest()
    with (Path(tempfile.gettempdir()) / f"noiseladder-{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process trains in {folder}: wait for it, stop it, or choose another --folder"
            ) from error
        yield
