"""params.yaml checked as a whole: every key is known, every name exists, every value is of the right kind.

Nothing heavy is imported: a misspelt key is found in a second, before hours of work, not after them.
"""

import re
from collections.abc import Iterator
from pathlib import PurePath

from proseco import splits
from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.experiment import checks, schema_scales, schema_trainings, selection

# Sections that no function's signature describes: key -> type, written as in an annotation.
TOP = dict.fromkeys(("run", "loss", "methods", "ablations", "benchmarks", "selections", "scales"), "dict")
TOP |= {"scale": "str", "device": "str", "precision": "str", "seed": "int"}
METHOD = dict.fromkeys(("name", "title"), "str") | {"backbone": "str | None"}
METHOD_OPTIONS = {"detector": "str", "data": "str"}
ABLATION = {"title": "str", "of": "str", "set": "dict"}
BENCHMARK = dict.fromkeys(("name", "title", "root", "train", "rule"), "str")
BENCHMARK |= {"test": "str | None"}
#: Keys that some rules need, or that a data set may have.
BENCHMARK_OPTIONS = {"fraction": "float", "ids": "str", "drop_other_sizes": "bool", "scoring": "Literal['coco', 'voc']"}
#: Keys of rows and columns -> the section of each scale that says what the name stands for.
NAMED = {"backbone": "backbones", "root": "roots", "detector": "detectors", "data": "propose.unlabelled"}
PARTS = ("backbones", "roots", "detectors")


def check(params: dict) -> None:
    """Refuse parameters that any stage would refuse, and keys that none reads.

    :raises InputError: the value, the choices and the place, in one line.
    """
    checks.keys(params, TOP, "params.yaml")
    checks.numbers(params)
    checks.choice(params["scale"], params["scales"], "scale", "params.yaml: scale")
    checks.choice(params["device"], ("auto", "cpu", "cuda"), "device", "params.yaml: device")
    checks.choice(params["precision"], ("auto", "float32", "bfloat16"), "precision", "params.yaml: precision")
    schema_trainings.loss(params["loss"])
    for name, entry in checks.entries(params["methods"], "methods"):
        checks.keys(entry, METHOD, f"methods.{name}", optional=METHOD_OPTIONS)
        checks.choice(entry["name"], plugins.methods_over("detector"), "method over a detector", f"methods.{name}.name")
    for name, entry in checks.entries(params["benchmarks"], "benchmarks"):
        benchmark(entry, f"benchmarks.{name}")
    for name, entry in checks.entries(params["ablations"], "ablations"):
        checks.keys(entry, ABLATION, f"ablations.{name}")
        checks.choice(entry["of"], params["methods"], "method", f"ablations.{name}.of")
        schema_scales.overlay(entry["set"], f"ablations.{name}.set")
        if name in params["methods"]:
            raise InputError(f"ablations.{name} has the name of a method; rows of the tables need different ones")
    for name, section in checks.entries(params["scales"], "scales"):
        schema_scales.scale(params, section, f"scales.{name}")
    for name in params["scales"]:
        for ablation in params["ablations"]:
            schema_scales.ablation(params, name, ablation)
    known = {part: {key for section in params["scales"].values() for key in section[part]} for part in PARTS}
    known["propose.unlabelled"] = {key for s in params["scales"].values() for key in s["propose"]["unlabelled"]}
    for place, entry in _entries(params):
        for field, part in NAMED.items():
            value = entry.get(field)
            if value is None or (field == "root" and "/" in value):
                continue  # a detector from a file has no backbone of ours; a root with a slash is the folder itself
            kind = "data set" if field == "data" else field
            checks.choice(value, known[part], kind, f"{place}.{field}; scales.<scale>.{part} define them")
    selection.check(params)


def _entries(params: dict) -> Iterator[tuple[str, dict]]:
    """All that name something of a scale: (place, entry)."""
    yield from ((f"methods.{name}", entry) for name, entry in params["methods"].items())
    yield from ((f"benchmarks.{name}", entry) for name, entry in params["benchmarks"].items())
    for name, entry in params["ablations"].items():
        yield f"ablations.{name}.set", {key: entry["set"].get(key) for key in ("backbone", "data")}


def benchmark(entry: dict, place: str) -> None:
    """Refuse an entry of ``benchmarks`` that a stage would refuse, or with keys that none reads."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if isinstance(name, str):  # before its keys, which depend on it
        checks.choice(name, plugins.names("benchmarks"), "benchmark", f"{place}.name")
    known = name in plugins.names("benchmarks")
    own = plugins.types("benchmarks", name) if known else {}  # its plug-in's keywords
    wanted = {key: own[key] for key, needed in plugins.keywords("benchmarks", name).items() if needed} if known else {}
    checks.keys(entry, BENCHMARK | wanted, place, optional=BENCHMARK_OPTIONS | own)
    checks.choice(entry["rule"], splits.RULES, "rule", f"{place}.rule")
    needed = splits.RULES[entry["rule"]]
    if needed is not None and needed not in entry:
        raise InputError(f"{place} lacks {needed}, which rule {entry['rule']} needs (params.yaml)")
    for key in {"fraction", "ids"} & set(entry) - {needed}:
        raise InputError(f"{place}.{key} is of no use: rule {entry['rule']} does not read it (params.yaml)")
    if not 0 < entry.get("fraction", 1) <= 1:
        raise InputError(f"{place}.fraction is {entry['fraction']}; it must lie in (0, 1] (params.yaml)")
    for key in {"train", "test", "images"} & set(entry):
        path = PurePath(entry[key] or ".")
        if path.is_absolute() or ".." in path.parts:  # stage inventory would not see it change
            raise InputError(
                f"{place}.{key} is {entry[key]!r}; it must lie below the root, and begin there (params.yaml)"
            )
    if not re.fullmatch(r"[\w.{}-]+", entry.get("ids", "x")):
        raise InputError(f"{place}.ids is {entry['ids']!r}; it must be the name of a file in splits/own (params.yaml)")
