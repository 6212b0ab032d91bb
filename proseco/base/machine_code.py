"""Functions compiled by numba, and the folders that keep their machine code from one process to the next.

numba's own cache watches only the source file that a function stands in. Constants and functions of other files are
compiled into its code, which then stays as it was when such a file changes. Moreover, numba's index names the new code
of a function before that code is written: a process that reads in between, or after a kill in between, takes the old
code for the new. So the code of a file lies in a folder named by a digest of the file and of all that it imports, and
nothing in such a folder is ever out of date.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numba
from numba import config, njit

from proseco.base import files, sources

#: Folders kept per source file, the last used ones: enough for a few branches, at some MB each.
_KEPT = 6


def compiler(file: str, **options) -> Callable:
    """A decorator for the functions of a source file: numba's ``njit`` with a cache, and without Python's lock.

    :param file: ``__file__`` of the module.
    :param options: further options of ``njit``.
    """
    folder = _folder(Path(file))

    def compiled(function: Callable) -> Callable:
        if folder is None:  # no folder can be written to: each process compiles for itself
            return njit(nogil=True, **options)(function)
        previous, config.CACHE_DIR = config.CACHE_DIR, str(folder)  # njit reads it once, here
        try:
            return njit(cache=True, nogil=True, **options)(function)
        finally:
            config.CACHE_DIR = previous

    return compiled


def _folder(file: Path) -> Path | None:
    """The folder for a source file as it is now, made if need be; None where none can be made."""
    state = files.digests(sources.closure([file]))[:16]
    name = f"{file.stem}-{state}-numba{numba.__version__}"
    for parent in _parents(file):
        folder = parent / name
        with suppress(OSError):
            new = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            os.utime(folder)
            if new:
                _forget(parent, file.stem)
            return folder
    return None


def _parents(file: Path) -> Iterator[Path]:
    """Where folders may lie, the best place first: numba's places, but in each a folder of our own."""
    if config.CACHE_DIR:  # the user's NUMBA_CACHE_DIR
        yield Path(config.CACHE_DIR, "proseco")
    yield file.parent / "__pycache__" / "numba"
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if home.is_absolute():  # not so where there is no home folder
        yield home / "proseco" / "numba"


def _forget(parent: Path, stem: str) -> None:
    """Remove all but the last used folders of a file."""
    ours = re.compile(rf"{re.escape(stem)}-[0-9a-f]{{16}}-numba[^/]*")
    last_used = {}
    for folder in parent.iterdir():
        with suppress(OSError):  # another process removes it
            if ours.fullmatch(folder.name):
                last_used[folder] = folder.stat().st_mtime
    for folder in sorted(last_used, key=last_used.get, reverse=True)[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
