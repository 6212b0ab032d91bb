"""params.yaml checked as a whole: every key is known, every name exists, every value is of the right kind.

Nothing heavy is imported: a misspelt key is found in a second, before hours of work, not after them.
"""

import inspect
import math
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import PurePath

from proseco import checks, rows, selection, splits
from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.data import augment, demo, filters
from proseco.losses import _ranges
from proseco.training.schedules import DECAYS, OPTIMIZERS, Finetuning, Schedule, changed

# Sections that no function's signature describes: key -> type, written as in an annotation.
TOP = dict.fromkeys(("run", "loss", "methods", "ablations", "benchmarks", "selections", "scales"), "dict")
TOP |= {"scale": "str", "device": "str", "precision": "str", "seed": "int"}
METHOD = dict.fromkeys(("name", "title"), "str") | {"backbone": "str | None"}
METHOD_OPTIONS = {"detector": "str", "data": "str"}
ABLATION = {"title": "str", "of": "str", "set": "dict"}
BENCHMARK = dict.fromkeys(("name", "title", "root", "train", "rule"), "str")
BENCHMARK |= {"test": "str | None"}
#: Keys that some rules need, or that a data set may have.
BENCHMARK_OPTIONS = {"fraction": "float", "ids": "str", "drop_other_sizes": "bool"}
SCALE = ("roots", "propose", "split", "recall", "backbones", "detector", "detectors", "views", "pretrain", "ablations")
SCALE = dict.fromkeys((*SCALE, "finetune", "schedules"), "dict") | {"generate": "dict | None"}
PROPOSE = {"unlabelled": "dict", "samples_per_shard": "int", "min_side": "int", "max_skipped": "float"}
PROPOSE |= {"shard_bytes": "int | None", "filter": "dict", "proposals": "dict"}
UNLABELLED = {"root": "str", "subset": "str"}
BODY = {"block": "str", "layers": "list[int]", "stem": "int", "widths": "list[int]"}
BLOCKS = ("basic", "bottleneck")
VIEWS = dict.fromkeys(("weak", "strong", "predict"), "dict")
#: What of the scale's views a method may have of its own.
OWN_VIEWS = {key: "dict" for key in VIEWS if key != "predict"}
PREDICT = {"short_edge": "int", "long_edge": "int | None"}
PRETRAIN = {"schedule": "dict", "method": "dict"}
CHECKPOINT = {"checkpoint": "str"}
#: Keys of rows and columns -> the section of each scale that says what the name stands for.
NAMED = {"backbone": "backbones", "root": "roots", "detector": "detectors", "data": "propose.unlabelled"}
PARTS = ("backbones", "roots", "detectors")
FINETUNE = {"init_from": "str", "predict_batch": "int"}

#: Arguments of methods and losses that the program gives.
GIVEN = frozenset({"weak", "strong", "loss", "anchors", "micro_batch", "steps"})


def check(params: dict) -> None:
    """Refuse parameters that any stage would refuse, and keys that none reads.

    :raises InputError: the value, the choices and the place, in one line.
    """
    checks.keys(params, TOP, "params.yaml")
    checks.numbers(params)
    checks.choice(params["scale"], params["scales"], "scale", "params.yaml: scale")
    checks.choice(params["device"], ("auto", "cpu", "cuda"), "device", "params.yaml: device")
    checks.choice(params["precision"], ("auto", "float32", "bfloat16"), "precision", "params.yaml: precision")
    _loss(params["loss"])
    for name, entry in checks.entries(params["methods"], "methods"):
        checks.keys(entry, METHOD, f"methods.{name}", optional=METHOD_OPTIONS)
        checks.choice(entry["name"], plugins.methods_over("detector"), "method over a detector", f"methods.{name}.name")
    for name, entry in checks.entries(params["benchmarks"], "benchmarks"):
        benchmark(entry, f"benchmarks.{name}")
    for name, entry in checks.entries(params["ablations"], "ablations"):
        checks.keys(entry, ABLATION, f"ablations.{name}")
        checks.choice(entry["of"], params["methods"], "method", f"ablations.{name}.of")
        checks.keys(entry["set"], {}, f"ablations.{name}.set", optional=rows.OVERLAY)
        if name in params["methods"]:
            raise InputError(f"ablations.{name} has the name of a method; rows of the tables need different ones")
    for name, section in checks.entries(params["scales"], "scales"):
        _scale(params, section, f"scales.{name}")
    for name in params["scales"]:
        for ablation in params["ablations"]:
            _ablation(params, name, ablation)
    known = {part: {key for section in params["scales"].values() for key in section[part]} for part in PARTS}
    known["propose.unlabelled"] = {key for s in params["scales"].values() for key in s["propose"]["unlabelled"]}
    for place, entry in _entries(params):
        for field, part in NAMED.items():
            value = entry.get(field)
            if value is None or (field == "root" and "/" in value):
                continue  # a detector from a file has no backbone of ours; a root with a slash is the folder itself
            what = "data set" if field == "data" else field
            checks.choice(value, known[part], what, f"{place}.{field}; scales.<scale>.{part} define them")
    selection.check(params)


def _entries(params: dict) -> Iterator[tuple[str, dict]]:
    """All that name something of a scale: (place, entry)."""
    yield from ((f"methods.{name}", entry) for name, entry in params["methods"].items())
    yield from ((f"benchmarks.{name}", entry) for name, entry in params["benchmarks"].items())
    for name, entry in params["ablations"].items():
        yield f"ablations.{name}.set", {key: entry["set"].get(key) for key in ("backbone", "data")}


def _loss(section: dict) -> None:
    """``loss:`` has keys of every loss, so that ``-S loss.name=infonce`` needs no other change, and of methods."""
    checks.choice(section.get("name"), plugins.names("losses"), "loss", "params.yaml: loss.name")
    checks.keys(section, {}, "loss", optional=_loss_keys())
    _ranges.check(**section)
    spec = {key: value for key, value in section.items() if key in plugins.keywords("losses", section["name"])}
    plugins.check("losses", {"name": section["name"], **spec}, given=("anchors",), place="loss")


@cache
def _loss_keys() -> dict[str, str]:
    """Keys of every loss, and of methods that have one -> annotations."""
    methods = [name for name in plugins.names("methods") if "loss" in plugins.keywords("methods", name)]
    known = {"name": "str"}
    for kind, names in (("methods", methods), ("losses", plugins.names("losses"))):
        for name in names:
            known |= checks.annotations(kind, name)
    return {key: value for key, value in known.items() if key not in GIVEN}


def benchmark(entry: dict, place: str) -> None:
    """Refuse an entry of ``benchmarks`` that a stage would refuse, or with keys that none reads."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if isinstance(name, str):  # before its keys, which depend on it
        checks.choice(name, plugins.names("benchmarks"), "benchmark", f"{place}.name")
    known = name in plugins.names("benchmarks")
    own = checks.annotations("benchmarks", name) if known else {}  # its plug-in's keywords
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


def _scale(params: dict, section: dict, place: str) -> None:
    checks.keys(section, SCALE, place)
    if section["generate"] is not None:
        checks.call(section["generate"], demo.write, f"{place}.generate", given=("workers",))
    checks.keys(section["propose"], PROPOSE, f"{place}.propose")
    checks.positive(section["propose"], ("samples_per_shard", "shard_bytes"), f"{place}.propose")
    if rows.MAIN not in section["propose"]["unlabelled"]:
        raise InputError(f"{place}.propose.unlabelled lacks {rows.MAIN} (params.yaml)")
    for name, entry in checks.entries(section["propose"]["unlabelled"], f"{place}.propose.unlabelled"):
        checks.keys(entry, UNLABELLED, f"{place}.propose.unlabelled.{name}")
    _filter(section["propose"]["filter"], f"{place}.propose.filter")
    checks.plugin("proposals", section["propose"]["proposals"], f"{place}.propose.proposals", given=("seed",))
    checks.keys(section["split"], {"validation": "int | str", "seeds": "list[int]"}, f"{place}.split")
    count = section["split"]["validation"]
    if count != "test" and (count == 0 or not checks.fits(count, "int")):
        raise InputError(f"{place}.split.validation is {count!r}; it must be a count of images, or test (params.yaml)")
    checks.keys(section["recall"], {"images": "int"}, f"{place}.recall")
    checks.positive(section["recall"], ("images",), f"{place}.recall")
    checks.plugin("detectors", section["detector"], f"{place}.detector", given=("num_classes",))
    for name, entry in checks.entries(section["detectors"], f"{place}.detectors"):
        _detector(entry, f"{place}.detectors.{name}")
    checks.keys(section["detector"]["backbone"], BODY, f"{place}.detector.backbone")
    checks.choice(section["detector"]["backbone"]["block"], BLOCKS, "ResNet block", f"{place}.detector.backbone.block")
    _views(section["views"], f"{place}.views")
    checks.keys(section["finetune"], FINETUNE, f"{place}.finetune")
    checks.positive(section["finetune"], ("predict_batch",), f"{place}.finetune")
    networks = ("student", "teacher")
    checks.choice(section["finetune"]["init_from"], networks, "network", f"{place}.finetune.init_from")
    for name, schedule in section["schedules"].items():
        if name != "default":
            checks.choice(name, params["benchmarks"], "benchmark", f"{place}.schedules")
        _finetuning(schedule, f"{place}.schedules.{name}")
        for detector, entry in section["detectors"].items():
            merged = changed(schedule, entry.get("schedule", {}))
            _finetuning(merged, f"{place}.schedules.{name} with detectors.{detector}.schedule")
    trained = plugins.methods_over("detector")
    for name, entry in section["pretrain"].items():
        checks.choice(name, {*trained, *params["methods"]}, "method or plug-in", f"{place}.pretrain")
        where = f"{place}.pretrain.{name}"
        if isinstance(entry, dict) and "checkpoint" in entry:
            checks.keys(entry, CHECKPOINT, where, optional={"network": "str"})
            continue
        plugin = name if name in trained else params["methods"][name]["name"]
        if plugin != name:  # of a row, to lay over its plug-in's
            if plugin not in section["pretrain"]:
                why = f"{plugin} has no entry there to lay it over; a detector that comes from a file needs checkpoint"
                raise InputError(f"{where}: {why} (params.yaml)")
            checks.keys(entry, {}, where, optional=PRETRAIN | {"pictures": "int", "loss": "dict", "views": "dict"})
            of_plugin = section["pretrain"][plugin]
            if not isinstance(of_plugin, dict) or "checkpoint" in of_plugin:
                continue  # the one is refused in its turn; over a file nothing can be laid, see proseco.selection
            entry = rows.merged(of_plugin, entry)
        _pretraining(params["loss"], plugin, entry, where)
        if "views" in entry:
            checks.keys(entry["views"], {}, f"{where}.views", optional=OWN_VIEWS)
            _views(rows.merged(section["views"], entry["views"]), f"{where}.views")
    for name, entry in section["ablations"].items():
        checks.choice(name, {"every", *params["ablations"]}, "ablation", f"{place}.ablations")
        title = {} if name == "every" else {"title": "str"}
        checks.keys(entry, {}, f"{place}.ablations.{name}", optional=rows.OVERLAY | title)
    for name, entry in checks.entries(section["backbones"], f"{place}.backbones"):
        _backbone(section["backbones"], entry, f"{place}.backbones.{name}")
    unlabelled = {entry["root"] for entry in section["propose"]["unlabelled"].values()}
    used = {entry["root"] for entry in params["benchmarks"].values()} | unlabelled
    used |= {entry["root"] for entry in section["backbones"].values() if "root" in entry}
    for name, folder in checks.entries(section["roots"], f"{place}.roots"):
        if not any("/" in root for root in unlabelled):  # else the root that such a folder stands in for may stay
            checks.choice(name, used, "data set", f"{place}.roots; propose, backbones and benchmarks name them")
        if not checks.fits(folder, "str | None"):
            raise InputError(f"{place}.roots.{name} is {folder!r}; it must be a folder or null (params.yaml)")


def _views(section: dict, place: str) -> None:
    checks.keys(section, VIEWS, place)
    weak = section["weak"]
    checks.call(weak, augment.weak, f"{place}.weak")
    if not 0 < weak["crop_min"] <= weak["crop_max"]:
        raise InputError(
            f"{place}.weak.crop_min is {weak['crop_min']}; it must be a number of pixels from 1 to crop_max, "
            f"{weak['crop_max']} (params.yaml)"
        )
    checks.call(section["strong"], augment.strong, f"{place}.strong")
    checks.keys(section["predict"], PREDICT, f"{place}.predict")


def _detector(entry: dict, place: str) -> None:
    """Of another detector than the scale's, whose backbone it shares."""
    spec = {key: value for key, value in entry.items() if key != "schedule"} if isinstance(entry, dict) else entry
    checks.plugin("detectors", spec, place, given=("num_classes", "backbone"))
    types = {field.name: inspect.formatannotation(field.type) for field in fields(Finetuning)}
    checks.keys(entry.get("schedule", {}), {}, f"{place}.schedule", optional=types)


def _ablation(params: dict, scale: str, name: str) -> None:
    """What an ablation comes to at a scale that has all its method needs."""
    place = f"ablations.{name} at scale {scale}"
    section, of = params["scales"][scale], params["methods"][params["ablations"][name]["of"]]
    if of.get("detector") not in (None, *section["detectors"]):
        return  # refused if the run selects it
    row = rows.row(params, scale, name)
    if row.from_file:
        return  # refused if the run selects it
    over = rows.overlay(params, scale, name)  # what it leaves alone was checked where it stands
    if row.plugin == selection.NOT_PRETRAINED:
        own = {*params["ablations"][name]["set"], *section["ablations"].get(name, {})}
        for key in sorted(own & {"pretrain", "views", "data"}):
            raise InputError(
                f"{place} changes {key}, which only a pretraining reads; {row.plugin} is none (params.yaml)"
            )
    if "detector" in over:
        checks.plugin("detectors", row.detector, f"{place}: detector", given=("num_classes",))
    if "views" in over:
        _views(row.views, f"{place}: views")
    if "loss" in over:
        if "loss" not in plugins.keywords("methods", row.plugin):
            raise InputError(f"{place} changes loss, which {row.plugin} does not have (params.yaml)")
        _loss(row.loss)
    if "pretrain" in over and row.pretrain is not None:
        of_loss = {"loss": {key: value for key, value in row.loss.items() if key not in params["loss"]}}
        loss = {key: value for key, value in row.loss.items() if key in params["loss"]}
        _pretraining(loss, row.plugin, row.pretrain | (of_loss if of_loss["loss"] else {}), f"{place}: pretrain")


def _filter(section: dict, place: str) -> None:
    checks.call(section, filters.keep, place)
    checks.positive(section, ("limit",), place)
    for key in ("aspect", "size"):
        if section[key] is not None and section[key][0] > section[key][1]:
            raise InputError(f"{place}.{key} is {section[key]}; it must be [least, most] (params.yaml)")


def _finetuning(section: dict, place: str) -> None:
    _schedule(section, place, Finetuning)
    if (section.get("validate_every") is None) == (section.get("validations") is None):
        raise InputError(f"{place} needs either validations or validate_every (params.yaml)")
    checks.positive(section, ("validations", "validate_every", "patience"), place)
    if section.get("patience") is not None and section.get("decay") == "cosine":
        raise InputError(f"{place}.patience would leave out the end of decay cosine; it needs decay step (params.yaml)")


def _schedule(section: dict, place: str, kind: type[Schedule] = Schedule) -> None:
    types = {field.name: inspect.formatannotation(field.type) for field in fields(kind)}
    checks.keys(section, {key: types[key] for key in ("batch", "lr")}, place, optional=types)
    if (section.get("epochs") is None) == (section.get("steps") is None):
        raise InputError(f"{place} needs either epochs or steps (params.yaml)")
    checks.positive(section, ("batch", "epochs", "steps", "log_every", "clip", "micro_batch", "trust"), place)
    for key, what in (("drop_at", "the training"), ("final", "the learning rate"), ("momentum", "the last update")):
        if section.get(key, 0) > 1:
            raise InputError(f"{place}.{key} is {section[key]}; it is a share of {what}, 0..1 (params.yaml)")
    for key, known in (("optimizer", OPTIMIZERS), ("decay", DECAYS)):
        chosen = section.get(key, getattr(Schedule, key))
        checks.choice(chosen, known, key, f"{place}.{key}")
        for other in sorted((set().union(*known.values()) - set(known[chosen])) & set(section)):
            raise InputError(f"{place}.{other} is of no use: {key} {chosen} does not read it (params.yaml)")


def _pretraining(loss: dict, name: str, entry: dict, place: str) -> None:
    known = set(plugins.keywords("methods", name))
    pictures = {"pictures": "int"} if "weak" in known else {}  # of predictions on the weak view
    checks.keys(entry, PRETRAIN | pictures, place, optional={"loss": "dict", "views": "dict"})
    _schedule(entry["schedule"], f"{place}.schedule")
    checks.positive(entry, ("pictures",), place)
    if "micro_batch" in entry["schedule"] and "micro_batch" not in known:
        raise InputError(f"{place}.schedule.micro_batch is of no use: {name} does not read it (params.yaml)")
    own = entry.get("loss", {})
    for key in own:
        if "loss" not in known or key in loss:
            why = "stands under loss too; keep one of them" if key in loss else f"is of no use: {name} has no loss"
            raise InputError(f"{place}.loss.{key} {why} (params.yaml)")
    loss = loss | own
    if own:
        _loss(loss)
    of_loss = known & set(loss) if "loss" in known else set()
    twice = sorted(of_loss & set(entry["method"]))
    if twice:
        raise InputError(f"{place}.method.{twice[0]} stands under loss too; keep one of them (params.yaml)")
    checks.plugin("methods", {"name": name, **entry["method"]}, f"{place}.method", given=of_loss | (GIVEN & known))
    _own_views(entry["method"], f"{place}.method")


def _own_views(method: dict, place: str) -> None:
    """Arguments of methods that are keywords of other functions in turn."""
    for key in {"first", "second", "photometric"} & set(method):
        checks.call(method[key], augment.strong, f"{place}.{key}")
    if "filter" in method:
        _filter(method["filter"], f"{place}.filter")
    checks.positive(method, ("side", "boxes", "min_size", "canonical_size"), place)
    if method.get("min_size", 0) > method.get("side", math.inf):
        raise InputError(f"{place}.min_size is {method['min_size']}; the views' side is {method['side']} (params.yaml)")


def _backbone(entries: dict, entry: dict, place: str) -> None:
    if not isinstance(entry, dict) or not {"same_as", "checkpoint", "name"} & set(entry):
        raise InputError(f"{place} is {entry!r}; it needs same_as, or checkpoint, or a method's name (params.yaml)")
    if "same_as" in entry:
        checks.keys(entry, {"same_as": "str"}, place)
        others = [name for name, other in entries.items() if isinstance(other, dict) and "same_as" not in other]
        checks.choice(entry["same_as"], others, "backbone", f"{place}.same_as")
    elif "checkpoint" in entry:
        checks.keys(entry, {"checkpoint": "str"}, place, optional={"prefix": "str | None"})
    else:
        ours = {"root": "str", "schedule": "dict"}
        checks.choice(entry["name"], plugins.methods_over("network"), "method over a network", f"{place}.name")
        given = GIVEN & set(plugins.keywords("methods", entry["name"]))
        checks.plugin("methods", {key: value for key, value in entry.items() if key not in ours}, place, given=given)
        _own_views(entry, place)
        checks.keys({key: value for key, value in entry.items() if key in ours}, ours, place)
        _schedule(entry["schedule"], f"{place}.schedule")
        if "micro_batch" in entry["schedule"]:
            raise InputError(f"{place}.schedule.micro_batch: batch norm sees the whole batch; remove it (params.yaml)")
