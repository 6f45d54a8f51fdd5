"""A file is either the old one or the new one, never a half: write beside it, flush to disk, rename."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PARTIAL = ".partial"


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Make `path` by calling `write` with a temporary name in the same folder; the old file stays until the end.

    Raises OSError with one sentence, for a full disk or a folder that cannot be written, and leaves nothing behind.
    """
    # The process id keeps two writers apart; after kill -9 the leftover is swept by `sweep`.
    # The suffix stays last, for writers that choose a format by it.
    partial = path.with_name(f".{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.chmod(0o666 & ~_umask())  # some writers keep their files to themselves
        _flush(partial)
        partial.replace(path)
        _flush_folder(path.parent)
    except BaseException as error:
        # Also on Ctrl-C: nothing half-written stays.
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise OSError(_sentence(path, error)) from error
        raise


def check_writable(path: Path) -> None:
    """Raise now what `replace_file` would raise after minutes of work: OSError, one sentence; leaves nothing."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        there = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(_sentence(path, error)) from error


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Make a folder of files by calling `write` with a temporary one beside it; the old one stays until the end.

    Raises OSError with one sentence, for a full disk or a place that cannot be written, and leaves nothing behind. A
    kill between the last two renames leaves the old folder beside it, under a name that ends in .old.
    """
    folder = folder.resolve()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}{PARTIAL}")
    old = partial.with_suffix(".old")
    try:
        partial.mkdir(parents=True)
        write(partial)
        for path in partial.iterdir():
            _flush(path)
        _flush_folder(partial)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        _flush_folder(folder.parent)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        # What has no number is a sentence already, of a file within.
        raise OSError(_sentence(folder, error)) if error.errno is not None else error from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_text(path: Path, text: str) -> None:
    """`replace_file` for text."""
    replace_file(path, lambda partial: _write(partial, text))


def sweep(folder: Path) -> None:
    """Remove what a killed writer left in `folder`."""
    for leftover in folder.glob(f".*{PARTIAL}*"):
        leftover.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    # The rename itself is on disk only when the folder is. Some systems cannot open folders; theirs do it alone.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sentence(path: Path, error: OSError) -> str:
    why = error.strerror or str(error)
    return f"could not write {path}: {why}; what was there before is untouched. Free space or choose another folder"
