"""Id files, which publish the images of a split: a line ``# name=value ...``, then one id per line.

Any language reads them in three lines::

    with open(path) as file:
        ids = [line.strip() for line in file if not line.startswith("#")]
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from proseco.base.errors import InputError
from proseco.base.files import text_digest, write_text


def sorted_keys(keys: Iterable[str]) -> list[str]:
    """Keys sorted as numbers if all are whole numbers (COCO's are), else as text. Draws depend on this order."""
    keys = list(keys)
    if all(key.isascii() and key.isdecimal() for key in keys):
        return sorted(keys, key=lambda key: (int(key), key))
    return sorted(keys)


def check_key(key: str, source: str | Path) -> None:
    """:raises InputError: no id file can hold the key; it begins with ``source``."""
    utf8 = not any("\ud800" <= letter <= "\udfff" for letter in key)  # what Python reads other bytes of a name as
    if key.startswith("#") or key.split() != [key] or not utf8:
        raise InputError(
            f"{source}: no id file can hold the image key {key!r}; expected UTF-8 without blanks that does not begin "
            "with '#'"
        )


def write(path: str | Path, keys: Sequence[str], **facts) -> None:
    """Write an id file: a line with the facts, the count and a digest, then the keys, sorted.

    :param facts: printed values without blanks.
    :raises InputError: a key comes twice or does not fit the format.
    """
    keys = sorted_keys(keys)
    if (twice := next((key for key, next_key in pairwise(keys) if key == next_key), None)) is not None:
        raise InputError(f"{path}: the id {twice!r} comes twice; expected different ones")
    for key in keys:
        check_key(key, path)
    header = [f"{name}={value}" for name, value in {**facts, "count": len(keys), "digest": _digest(keys)}.items()]
    if any(fact.split() != [fact] for fact in header):
        raise ValueError(f"facts must be single words, not {header}")
    write_text(path, "".join(f"{line}\n" for line in ["# " + " ".join(header), *keys]))


def read_facts(path: str | Path) -> dict[str, str]:
    """The first line of an id file: ``{"benchmark": ..., "seed": ..., "count": ..., "digest": ...}``, all strings.

    :raises InputError: no such file, or no such line.
    """
    return _parse(path)[0]


def read(path: str | Path, *, header: bool = True) -> list[str]:
    """The keys of an id file, checked against its count and digest.

    :param header: whether a first line with both is required; if not, a plain list of ids will do.
    :raises InputError: a key twice, a blank line, keys that are not those written; the message has the file and line.
    """
    facts, lines = _parse(path, header=header)
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if key.startswith("#"):
            continue
        if not key or key in first:
            problem = f"id {key!r} again, first in line {first[key]}" if key else "a blank line"
            raise InputError(f"{str(path)!r}, line {number}: {problem}; expected one id a line, each once")
        first[key] = number
    if facts.get("count", str(len(first))) != str(len(first)):
        raise InputError(f"{str(path)!r}, line 1: says count={facts['count']}, but {len(first)} ids follow")
    if "digest" in facts and _digest(list(first)) != facts["digest"]:
        raise InputError(f"{str(path)!r}, line 1: the ids are not those that digest={facts['digest']} was made of")
    return list(first)


def _parse(path: str | Path, *, header: bool = True) -> tuple[dict[str, str], list[str]]:
    """The facts of a file, and all of its lines."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError:
        raise InputError(f"no id file {str(path)!r}; expected one id a line") from None
    words = lines[0].split() if lines and lines[0].startswith("#") else []
    facts = dict(word.partition("=")[::2] for word in words[1:])
    if header and (words[:1] != ["#"] or not {"count", "digest"} <= set(facts)):
        raise InputError(f"{str(path)!r}, line 1: expected '# benchmark=... count=... digest=...'")
    return facts, lines


def _digest(keys: list[str]) -> str:
    return text_digest("\n".join(keys))
