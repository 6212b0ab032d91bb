"""Checking sections of params.yaml: their keys, the types of their values, names among choices.

Signatures are the schema: a section that becomes the keyword arguments of a function or of a plug-in is held against
its annotations. A plug-in is not imported for that. All of these raise InputError with the value and the place.
"""

import ast
import inspect
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator

from proseco.base import plugins
from proseco.base.errors import InputError, one_of

#: What YAML gives for the names that annotations use; a type that is not here takes any value.
_TYPES = {"int": int, "float": int | float, "str": str, "bool": bool, "dict": dict, "list": list, "None": type(None)}


def fits(value, annotation: str) -> bool:
    """Whether a value is of the type that an annotation names: ``fits([1, 2], "list[int]")``."""
    options = _split(annotation, " | ")
    if len(options) > 1:
        return any(fits(value, option) for option in options)
    if annotation.startswith("Literal["):
        return value in ast.literal_eval(annotation.removeprefix("Literal"))
    if annotation.startswith(("list[", "tuple[")):
        outer, _, inner = annotation[:-1].partition("[")
        items = _split(inner, ", ")
        if items[-1] == "...":
            outer, items = "list", items[:-1]
        if not isinstance(value, list) or not value or (outer == "tuple" and len(value) != len(items)):
            return False
        return all(fits(item, items[min(i, len(items) - 1)]) for i, item in enumerate(value))
    if isinstance(value, bool) and annotation in ("int", "float"):
        return False
    return isinstance(value, _TYPES.get(annotation, object))


def _split(annotation: str, separator: str) -> list[str]:
    """The parts of an annotation, not those of what stands in brackets in it."""
    parts = [""]
    for piece in annotation.split(separator):
        within = parts[-1].count("[") > parts[-1].count("]")
        parts[-1:] = [f"{parts[-1]}{separator}{piece}"] if within else [parts[-1], piece]
    return parts[1:]


def keys(section: dict, wanted: dict[str, str], place: str, *, optional: dict[str, str] | None = None) -> None:
    """Refuse what is no mapping, keys that nothing reads, missing keys and values of another type.

    :param wanted: key -> annotation; ``optional`` likewise.
    """
    types = wanted | (optional or {})
    if not isinstance(section, dict):
        raise InputError(f"{place} is {section!r}; it must be a mapping with {', '.join(types)} (params.yaml)")
    for key in section:
        choice(key, types, f"key of {place}", "params.yaml")
    missing = [key for key in wanted if key not in section]
    if missing:
        raise InputError(f"{place} lacks {', '.join(missing)} (params.yaml)")
    _types(section, types, place)


def _types(section: dict, types: dict[str, str], place: str) -> None:
    for key, value in section.items():
        if not fits(value, types[key]):
            kind = types[key]
            if kind.startswith("Literal"):
                kind = f"one of {kind.removeprefix('Literal')}"
            raise InputError(f"{place}.{key} is {value!r}; it must be {kind} (params.yaml)")


def call(section: dict, function: Callable, place: str, *, given: Collection[str] = ()) -> None:
    """Check a section that becomes the keyword-only arguments of a function.

    :param given: arguments that do not come from the section.
    """
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    types = {p.name: inspect.formatannotation(p.annotation) for p in parameters if p.name not in given}
    wanted = {p.name: types[p.name] for p in parameters if p.name in types and p.default is p.empty}
    keys(section, wanted, place, optional=types)


def plugin(kind: str, spec: dict, place: str, *, given: Collection[str] = ()) -> None:
    """Check the entry of a plug-in, with the types of its values.

    :param given: keywords that the program passes beside those of the entry.
    """
    plugins.check(kind, spec, given=given, place=place)
    _types(spec, {"name": "str", **plugins.types(kind, spec["name"])}, place)


#: Names of parameters that are shares, 0..1; that must be above 0; and that are [least, most], wherever they stand.
SHARES = {"ema_rate", "dropout", "smoothing", "mask_ratio", "max_skipped", "max_iou", "score_threshold", "nms"}
SHARES |= {f"{change}_probability" for change in ("jitter", "grayscale", "blur", "solarise", "flip", "crop")} | {"area"}
ABOVE = {
    "queries",
    "width",
    "heads",
    "decoder_layers",
    "levels",
    "points",
    "ffn",
    "channels",
    "stem",
    "layers",
    "widths",
}
ABOVE |= {"side", "long_edge", "short_edge", "short_edges", "first_short_edges", "hidden", "prototypes", "projector"}
SPANS = {"area", "blur_sigma"}


def numbers(value, place: str = "", name: str = "") -> None:
    """No parameter of ours may be below 0, endless or not a number, nor outside of what its name allows; sections are
    searched through.

    :param name: of the parameter, whose number or list this is.
    """
    if name in SPANS and fits(value, "tuple[float, float]") and value[0] > value[1]:
        raise InputError(f"{place} is {value}; it must be [least, most] (params.yaml)")
    if isinstance(value, dict):
        for key, item in value.items():
            numbers(item, f"{place}.{key}" if place else str(key), str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            numbers(item, f"{place}.{number}", name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < math.inf:
            raise InputError(f"{place} is {value!r}; it must be a number from 0 (params.yaml)")
        if name in SHARES and value > 1:
            raise InputError(f"{place} is {value!r}; it is a share, 0..1 (params.yaml)")
        if name in ABOVE and value == 0:
            raise InputError(f"{place} is 0; it must be more (params.yaml)")


def positive(section: dict, names: Iterable[str], place: str) -> None:
    """Refuse a 0 where one was given; see :func:`numbers` for what is below."""
    for key in names:
        if section.get(key) == 0:
            raise InputError(f"{place}.{key} is 0; it must be more (params.yaml)")


def entries(section: dict, place: str) -> Iterator[tuple[str, object]]:
    """(name, entry) of a section whose keys are names, which become parts of paths and of names of DVC's stages."""
    for name, entry in section.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise InputError(f"{place} has the name {name!r}; it may hold letters, digits, _ and - (params.yaml)")
        yield name, entry


def choice(name, known: Collection[str], what: str, place: str) -> None:
    """Refuse a name that is not known."""
    if not isinstance(name, str) or name not in known:
        raise one_of(what, name, known, place)


def choices(names: list, known: Collection[str], what: str, place: str) -> None:
    """Refuse an empty list, unknown names and a name twice."""
    if not names:
        raise InputError(f"{place} is {names!r}; it must be a list of at least one {what} (params.yaml)")
    for name in names:
        choice(name, known, what, place)
        if names.count(name) > 1:
            raise InputError(f"{place} names {name!r} twice (params.yaml)")
