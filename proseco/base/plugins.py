"""The folder is the registry, the signature is the schema.

``{name: locsce, tau: 0.1}`` means: call the one public function of ``proseco/losses/locsce.py`` with ``tau=0.1``.
A file whose name begins with ``_`` is shared code, not a plug-in. Signatures are read from the source, so that a
misspelt key is found before anything heavy is imported.
"""

import ast
import importlib
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

from proseco.base.errors import InputError, one_of

#: Each folder of plug-ins, and the function that every file in it defines.
KINDS = {
    "benchmarks": "load",
    "detectors": "build",
    "losses": "loss",
    "methods": "build",
    "proposals": "propose",
}

_PACKAGE = Path(__file__).resolve().parent.parent


def _singular(kind: str) -> str:
    return "loss" if kind == "losses" else kind.removesuffix("s")


def names(kind: str) -> list[str]:
    """Names of the plug-ins of a kind, sorted."""
    files = (_PACKAGE / kind).glob("*.py")
    return sorted(f.stem for f in files if not f.stem.startswith("_"))


def path(kind: str, name: str) -> Path:
    """The file of a plug-in."""
    return _PACKAGE / kind / f"{name}.py"


@cache
def _arguments(kind: str, name: str) -> ast.arguments:
    """The signature of a plug-in's function, from its source."""
    if name not in names(kind):
        raise one_of(_singular(kind), name, names(kind), f"one file each in proseco/{kind}/")
    tree = ast.parse(path(kind, name).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == KINDS[kind]:
            return node.args
    raise TypeError(f"proseco/{kind}/{name}.py defines no function {KINDS[kind]}()")


@cache
def types(kind: str, name: str) -> dict[str, str]:
    """Keyword-only arguments of a plug-in's function -> their annotations as they are written.

    :raises InputError: no such plug-in.
    """
    arguments = _arguments(kind, name).kwonlyargs
    return {argument.arg: ast.unparse(argument.annotation) if argument.annotation else "" for argument in arguments}


@cache
def keywords(kind: str, name: str) -> dict[str, bool]:
    """Keyword-only arguments of a plug-in's function -> whether each must be given.

    :raises InputError: no such plug-in.
    """
    arguments = _arguments(kind, name)
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return {argument.arg: default is None for argument, default in pairs}


def methods_over(argument: str) -> list[str]:
    """The methods whose first argument has this name.

    Methods over a ``network`` train a backbone; methods over a ``detector`` are rows of the tables.
    """
    return [name for name in names("methods") if _arguments("methods", name).args[0].arg == argument]


def check(kind: str, spec: dict, *, given: Iterable[str] = (), place: str) -> None:
    """Refuse an entry that its plug-in would refuse.

    :param spec: ``{"name": file, **keywords}`` as it stands in the parameters.
    :param given: keywords that the program passes besides those of the entry.
    :param place: where the entry stands, for the message.
    """
    if not isinstance(spec, dict) or "name" not in spec:
        raise InputError(f"{place} needs a key 'name', one of {', '.join(names(kind))}; it is {spec!r}")
    known = keywords(kind, str(spec["name"]))
    given = set(given)
    for key in spec:
        if key != "name" and (key not in known or key in given):
            raise one_of(f"key of {_singular(kind)} {spec['name']}", key, set(known) - given, place)
    missing = sorted(key for key, needed in known.items() if needed and key not in spec and key not in given)
    if missing:
        raise InputError(f"{place} lacks {', '.join(missing)}, needed by proseco/{kind}/{spec['name']}.py")


def options(kind: str, entry: dict) -> dict:
    """The part of an entry that its plug-in takes, where the entry holds other keys too."""
    return {key: entry[key] for key in keywords(kind, entry["name"]) if key in entry}


def load(kind: str, name: str) -> Callable:
    """The function of a plug-in, imported."""
    keywords(kind, name)  # the error for an unknown name
    return getattr(importlib.import_module(f"proseco.{kind}.{name}"), KINDS[kind])


def bind(kind: str, entry: dict) -> Callable:
    """The function of a plug-in with the keywords of its entry, which may hold keys of others too."""
    return partial(load(kind, entry["name"]), **options(kind, entry))


def call(kind: str, spec: dict, *args, place: str = "", **given) -> Any:
    """Call a plug-in with the keywords of its entry and those that the program passes.

    :raises InputError: as :func:`check`.
    """
    check(kind, spec, given=given, place=place or kind)
    options = {key: value for key, value in spec.items() if key != "name"}
    return load(kind, spec["name"])(*args, **options, **given)
