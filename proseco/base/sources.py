"""Which of our source files a program is made of, read from its imports without running it."""

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from proseco.base import files

_PACKAGE = Path(__file__).resolve().parent.parent


def closure(starts: Iterable[str | Path]) -> list[Path]:
    """These files and all of ``proseco`` that they import, directly or not, sorted.

    A plug-in that is loaded by name is not seen: pass its file as well.

    :param starts: absolute, or relative to the repository.
    """
    left, seen = [_PACKAGE.parent / path for path in starts], set()
    while left:
        path = left.pop()
        if path not in seen:
            seen.add(path)
            left += _imports(path)
    return sorted(seen)


def digests(starts: Iterable[str | Path]) -> dict[str, str]:
    """POSIX path relative to the repository -> digest, for each file of :func:`closure`."""
    return {path.relative_to(_PACKAGE.parent).as_posix(): files.digest(path) for path in closure(starts)}


def _imports(path: Path) -> Iterator[Path]:
    """Modules of this package that a file imports."""
    root = _PACKAGE.parent
    package = ".".join(path.parent.relative_to(root).parts) if path.is_relative_to(root) else ""
    for name in _names(path.read_text(encoding="utf-8"), package):
        module = _PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")
        if module.is_relative_to(_PACKAGE) and module.is_file():
            yield module


@lru_cache  # several closures hold the same files
def _names(source: str, package: str) -> list[str]:
    """Dotted names of this package that a source imports; of ``from a import b`` both ``a`` and ``a.b``.

    :param package: that the source is of; relative imports count from it.
    """
    names, parts = [], package.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name for name in names if name.startswith(f"{_PACKAGE.name}.")]
