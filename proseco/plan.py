"""The parameters checked as a whole, and resolved into what each pretraining depends on.

Nothing heavy is imported: a misspelt key is found in a second, before hours of work, not after them.
"""

import inspect
from dataclasses import fields

from proseco import splits
from proseco.base import plugins
from proseco.base.errors import InputError, one_of
from proseco.data import augment, demo
from proseco.losses import _ranges
from proseco.training.schedules import Schedule

TOP = ("scale", "device", "seed", "run", "loss", "methods", "benchmarks", "scales")
RUN = ("methods", "benchmarks", "seeds")
METHOD = ("name", "title", "backbone")
BENCHMARK = ("name", "title", "root", "train", "test", "rule", "fraction")
SCALE = (
    "generate",
    "roots",
    "propose",
    "split",
    "backbones",
    "detector",
    "views",
    "pretrain",
    "finetune",
    "schedules",
)
PROPOSE = ("root", "subset", "samples_per_shard", "min_side", "max_skipped", "proposals")
FINETUNE = ("init_from", "validations", "predict_batch")


def _exactly(section: dict, wanted, place: str, *, optional=()) -> None:
    """Refuse keys that nothing reads, and name those that are missing."""
    if not isinstance(section, dict):
        raise InputError(f"{place} is {section!r}; it must be a mapping with {', '.join(wanted)} (params.yaml)")
    for key in section:
        if key not in wanted and key not in optional:
            raise one_of(f"key of {place}", key, [*wanted, *optional], "params.yaml")
    missing = [key for key in wanted if key not in section]
    if missing:
        raise InputError(f"{place} lacks {', '.join(missing)} (params.yaml)")


def _keywords(function) -> tuple[set[str], set[str]]:
    """Names of the keyword-only arguments of a function: all, and those that must be given."""
    found = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {p.name for p in found}, {p.name for p in found if p.default is p.empty}


def _call(section: dict, function, place: str, *, given=()) -> None:
    known, needed = _keywords(function)
    _exactly(section, needed - set(given), place, optional=known - needed - set(given))


def _schedule(section: dict, place: str) -> None:
    names = {field.name for field in fields(Schedule)}
    _exactly(section, ("batch", "lr"), place, optional=names - {"batch", "lr"})
    if ("epochs" in section) == ("steps" in section):
        raise InputError(f"{place} needs either epochs or steps (params.yaml)")
    for key in ("batch", "epochs", "steps", "log_every"):
        if key in section and (not isinstance(section[key], int | float) or section[key] <= 0):
            raise InputError(f"{place}.{key} is {section[key]!r}; it must be a positive number (params.yaml)")


def _choices(names, known, what: str, place: str) -> None:
    if not isinstance(names, list) or not names:
        raise InputError(f"{place} is {names!r}; it must be a list of at least one {what} (params.yaml)")
    for name in names:
        if name not in known:
            raise one_of(what, name, known, place)
    if len(set(names)) < len(names):
        raise InputError(f"{place} names {next(n for n in names if names.count(n) > 1)!r} twice (params.yaml)")


def check(params: dict) -> None:
    """Refuse parameters that any stage would refuse, and keys that none reads.

    :raises InputError: the value, the choices and the place, in one line.
    """
    _exactly(params, TOP, "params.yaml")
    if params["scale"] not in params["scales"]:
        raise one_of("scale", params["scale"], params["scales"], "params.yaml: scale")
    if params["device"] not in ("auto", "cpu", "cuda"):
        raise one_of("device", params["device"], ("auto", "cpu", "cuda"), "params.yaml: device")
    _exactly(params["run"], RUN, "run")
    _choices(params["run"]["methods"], params["methods"], "method", "run.methods")
    _choices(params["run"]["benchmarks"], params["benchmarks"], "benchmark", "run.benchmarks")
    seeds = params["run"]["seeds"]
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int and s >= 0 for s in seeds):
        raise InputError(f"run.seeds is {seeds!r}; it must be a list of whole numbers from 0 (params.yaml)")
    for name, entry in params["methods"].items():
        _exactly(entry, METHOD, f"methods.{name}")
    for name, entry in params["benchmarks"].items():
        place = f"benchmarks.{name}"
        _exactly(entry, BENCHMARK, place)
        plugins.keywords("benchmarks", entry["name"])
        if entry["rule"] not in splits.RULES:
            raise one_of("rule", entry["rule"], splits.RULES, place)
    for name in params["scales"]:
        _check_scale(params, name)


def _check_scale(params: dict, scale: str) -> None:
    place = f"scales.{scale}"
    section = params["scales"][scale]
    _exactly(section, SCALE, place)
    if section["generate"] is not None:
        _call(section["generate"], demo.write, f"{place}.generate", given=("workers",))
    _exactly(section["propose"], PROPOSE, f"{place}.propose")
    plugins.check("proposals", section["propose"]["proposals"], given=("seed",), place=f"{place}.propose.proposals")
    _exactly(section["split"], ("validation",), f"{place}.split")
    validation = section["split"]["validation"]
    if validation != "test" and (type(validation) is not int or validation < 1):
        raise InputError(f"{place}.split.validation is {validation!r}; it must be a count of images, or test")
    plugins.check("detectors", section["detector"], given=("num_classes",), place=f"{place}.detector")
    _exactly(section["detector"]["backbone"], ("block", "layers", "stem", "widths"), f"{place}.detector.backbone")
    _exactly(section["views"], ("weak", "strong", "predict"), f"{place}.views")
    _call(section["views"]["weak"], augment.weak, f"{place}.views.weak")
    _call(section["views"]["strong"], augment.strong, f"{place}.views.strong")
    _exactly(section["views"]["predict"], ("short_edge", "long_edge"), f"{place}.views.predict")
    _exactly(section["finetune"], FINETUNE, f"{place}.finetune")
    if section["finetune"]["init_from"] not in ("student", "teacher"):
        raise one_of("network", section["finetune"]["init_from"], ("student", "teacher"), f"{place}.finetune.init_from")
    for name, schedule in section["schedules"].items():
        if name not in params["benchmarks"]:
            raise one_of("benchmark", name, params["benchmarks"], f"{place}.schedules")
        _schedule(schedule, f"{place}.schedules.{name}")
    for name, entry in section["pretrain"].items():
        if name not in plugins.names("methods"):
            raise one_of("method plug-in", name, plugins.names("methods"), f"{place}.pretrain")
        _exactly(entry, ("schedule", "method", "pictures"), f"{place}.pretrain.{name}")
        _schedule(entry["schedule"], f"{place}.pretrain.{name}.schedule")
    for name in section["backbones"]:
        _check_backbone(section["backbones"], name, f"{place}.backbones")
    if scale == params["scale"]:
        _check_run(params, section, place)
    for name in params["methods"]:
        pretraining(params, scale, name)


def _check_backbone(entries: dict, name: str, place: str) -> None:
    entry, place = entries[name], f"{place}.{name}"
    if "same_as" in entry:
        _exactly(entry, ("same_as",), place)
        if entry["same_as"] not in entries or "same_as" in entries[entry["same_as"]]:
            others = [n for n, e in entries.items() if "same_as" not in e]
            raise one_of("backbone", entry["same_as"], others, f"{place}.same_as")
    elif "checkpoint" in entry:
        _exactly(entry, ("checkpoint",), place, optional=("prefix",))
    else:
        spec = {key: value for key, value in entry.items() if key not in ("root", "schedule")}
        plugins.check("methods", spec, place=place)
        if "root" not in entry or "schedule" not in entry:
            raise InputError(f"{place} needs root and schedule, or checkpoint, or same_as (params.yaml)")
        _schedule(entry["schedule"], f"{place}.schedule")


def _check_run(params: dict, section: dict, place: str) -> None:
    """What the selected scale must have for the selected cells."""
    for name in params["run"]["methods"]:
        backbone = params["methods"][name]["backbone"]
        if backbone not in section["backbones"]:
            raise one_of("backbone", backbone, section["backbones"], f"methods.{name}; {place}.backbones")
    for name in params["run"]["benchmarks"]:
        entry = params["benchmarks"][name]
        if section["roots"].get(entry["root"]) is None:
            raise InputError(f"benchmarks.{name} needs {place}.roots.{entry['root']}, which is not set (params.yaml)")
        if name not in section["schedules"]:
            raise InputError(f"{place}.schedules has no entry for benchmark {name!r} (params.yaml)")
    if section["roots"].get(section["propose"]["root"]) is None:
        raise InputError(
            f"{place}.propose.root is {section['propose']['root']!r}, and {place}.roots has no such folder"
        )


def pretraining(params: dict, scale: str, name: str) -> dict:
    """All that the pretraining of a method depends on, and nothing else.

    :returns: ``detector``, ``seed``, and for a method that is pretrained ``method`` (its entry for the plug-in),
        ``loss``, ``views``, ``schedule``, ``pictures``; else these are None.
    """
    section, entry = params["scales"][scale], params["methods"][name]
    plugin = entry["name"]
    settings = {"detector": section["detector"], "seed": params["seed"]}
    settings |= dict.fromkeys(("method", "loss", "views", "schedule", "pictures"))
    if plugin not in section["pretrain"]:
        plugins.keywords("methods", plugin)  # the error for an unknown one
        return settings
    chosen = section["pretrain"][plugin]
    known = plugins.keywords("methods", plugin)
    spec, given = {"name": plugin, **chosen["method"]}, {"weak", "strong"} & set(known)
    if "loss" in known:
        given.add("loss")
        settings["loss"], own = _loss(params["loss"], known)
        spec |= own
    plugins.check("methods", spec, given=given, place=f"scales.{scale}.pretrain.{plugin}.method")
    views = {key: section["views"][key] for key in ("weak", "strong")}
    return settings | {"method": spec, "views": views, "schedule": chosen["schedule"], "pictures": chosen["pictures"]}


def _loss(section: dict, method_keys) -> tuple[dict, dict]:
    """Split ``loss:`` into the loss's own entry and the keys that are the method's (its lambdas).

    A key that only another loss knows is passed over, so that ``-S loss.name=infonce`` needs no other change.
    """
    if "name" not in section:
        raise InputError(f"loss needs a key 'name', one of {', '.join(plugins.names('losses'))} (params.yaml)")
    mine = plugins.keywords("losses", section["name"])
    every = {key for other in plugins.names("losses") for key in plugins.keywords("losses", other)} - {"anchors"}
    spec, own = {"name": section["name"]}, {}
    for key, value in section.items():
        if key in method_keys and key != "loss":
            own[key] = value
        elif key in mine and key != "anchors":
            spec[key] = value
        elif key != "name" and key not in every:
            raise one_of("key of loss", key, every | {k for k in method_keys if k.startswith(("lambda_", "contrast_"))},
                         "params.yaml")  # fmt: skip
    _ranges.check(**spec)
    return spec, own


def backbones(params: dict, scale: str) -> dict:
    """What the backbone stage depends on: ``files`` (method -> backbone entry), ``backbones``, ``body``, ``seed``."""
    section = params["scales"][scale]
    files = {}
    for name in params["run"]["methods"]:
        backbone = params["methods"][name]["backbone"]
        files[name] = section["backbones"][backbone].get("same_as", backbone)
    used = {name: section["backbones"][name] for name in sorted(set(files.values()))}
    return {"files": files, "backbones": used, "body": section["detector"]["backbone"], "seed": params["seed"]}


def resolve(params: dict) -> dict[str, dict]:
    """File name -> content of everything that stage ``plan`` writes for the selected scale."""
    check(params)
    scale = params["scale"]
    settings = {f"pretrain/{name}.json": pretraining(params, scale, name) for name in params["run"]["methods"]}
    return settings | {"backbone.json": backbones(params, scale)}
