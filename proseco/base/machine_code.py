"""Functions compiled by numba, and the folders in which their machine code outlives a process.

numba's own cache knows the one source file that a function stands in. Constants and functions that it uses of another
file are built into its code, which thus stays as it was when that other file changes. Moreover numba's index names the
new code of a function before that is written: who reads in between, or after a kill in between, takes the former code
for the new one. So the code of a file lies in a folder named by a digest of the file and of all that it imports, and
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

#: Folders of a file's states that are kept, the last used first: those of a few branches. A state has some MB.
_KEPT = 6


def compiler(file: str, **options) -> Callable:
    """A decorator for the functions of a source file: numba's ``njit`` with a cache, and without Python's lock.

    :param file: ``__file__`` of the module; ``options`` further ones of ``njit``.
    """
    folder = _folder(Path(file))

    def compiled(function: Callable) -> Callable:
        if folder is None:  # nothing can be written anywhere: each process compiles for itself
            return njit(nogil=True, **options)(function)
        given, config.CACHE_DIR = config.CACHE_DIR, str(folder)  # read as the function is decorated, and not again
        try:
            return njit(cache=True, nogil=True, **options)(function)
        finally:
            config.CACHE_DIR = given

    return compiled


def _folder(file: Path) -> Path | None:
    """The folder of a source file as it is now, made if need be; None where none can be."""
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
    """Where folders may lie, the best place first; numba's, but that each is of ours alone."""
    if config.CACHE_DIR:  # the user's NUMBA_CACHE_DIR
        yield Path(config.CACHE_DIR, "proseco")
    yield file.parent / "__pycache__" / "numba"
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if home.is_absolute():  # not where nobody knows a home
        yield home / "proseco" / "numba"


def _forget(parent: Path, stem: str) -> None:
    """Remove all but the last used folders of a file."""
    ours = re.compile(rf"{re.escape(stem)}-[0-9a-f]{{16}}-numba[^/]*")
    used = {}
    for folder in parent.iterdir():
        with suppress(OSError):  # another process removes it
            if ours.fullmatch(folder.name):
                used[folder] = folder.stat().st_mtime
    for folder in sorted(used, key=used.get, reverse=True)[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
