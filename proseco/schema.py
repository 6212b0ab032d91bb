"""params.yaml checked as a whole: every key is known, every name exists, every value is of the right kind.

Nothing heavy is imported: a misspelt key is found in a second, before hours of work, not after them.
"""

import inspect
import re
from dataclasses import fields

from proseco import checks, splits
from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.data import augment, demo, filters
from proseco.losses import _ranges
from proseco.training.schedules import Schedule

# Sections that no function's signature describes: key -> type, written as in an annotation.
TOP = dict.fromkeys(("run", "loss", "methods", "benchmarks", "scales"), "dict")
TOP |= {"scale": "str", "device": "str", "precision": "str", "seed": "int"}
RUN = dict.fromkeys(("methods", "benchmarks", "seeds"), "list")
METHOD = dict.fromkeys(("name", "title"), "str") | {"backbone": "str | None"}
BENCHMARK = dict.fromkeys(("name", "title", "root", "train", "rule"), "str")
BENCHMARK |= {"test": "str | None"}
#: Keys that some rules need, or that a data set may have.
BENCHMARK_OPTIONS = {"fraction": "float", "ids": "str", "drop_other_sizes": "bool"}
SCALE = ("roots", "propose", "split", "recall", "backbones", "detector", "views", "pretrain", "finetune", "schedules")
SCALE = dict.fromkeys(SCALE, "dict") | {"generate": "dict | None"}
PROPOSE = {"root": "str", "subset": "str", "samples_per_shard": "int", "min_side": "int", "max_skipped": "float"}
PROPOSE |= {"shard_bytes": "int | None", "filter": "dict", "proposals": "dict"}
BODY = {"block": "str", "layers": "list[int]", "stem": "int", "widths": "list[int]"}
BLOCKS = ("basic", "bottleneck")
VIEWS = dict.fromkeys(("weak", "strong", "predict"), "dict")
PREDICT = {"short_edge": "int", "long_edge": "int | None"}
PRETRAIN = {"schedule": "dict", "method": "dict", "pictures": "int"}
CHECKPOINT = {"checkpoint": "str"}
FINETUNE = {"init_from": "str", "validations": "int", "predict_batch": "int"}

#: The one method that a row may have without a pretraining; any other would silently be finetuned as if it were this.
NOT_PRETRAINED = "supervised"
#: Arguments of methods and losses that the program gives.
GIVEN = frozenset({"weak", "strong", "loss", "anchors", "micro_batch"})


def check(params: dict) -> None:
    """Refuse parameters that any stage would refuse, and keys that none reads.

    :raises InputError: the value, the choices and the place, in one line.
    """
    checks.keys(params, TOP, "params.yaml")
    checks.numbers(params)
    checks.choice(params["scale"], params["scales"], "scale", "params.yaml: scale")
    checks.choice(params["device"], ("auto", "cpu", "cuda"), "device", "params.yaml: device")
    checks.choice(params["precision"], ("auto", "float32", "bfloat16"), "precision", "params.yaml: precision")
    checks.keys(params["run"], RUN, "run")
    checks.choices(params["run"]["methods"], params["methods"], "method", "run.methods")
    checks.choices(params["run"]["benchmarks"], params["benchmarks"], "benchmark", "run.benchmarks")
    seeds = params["run"]["seeds"]
    if not checks.fits(seeds, "list[int]") or len(set(seeds)) < len(seeds):
        raise InputError(f"run.seeds is {seeds!r}; it must be a list of different whole numbers from 0 (params.yaml)")
    _loss(params["loss"])
    for name, entry in checks.entries(params["methods"], "methods"):
        checks.keys(entry, METHOD, f"methods.{name}")
        checks.choice(entry["name"], plugins.methods_over("detector"), "method over a detector", f"methods.{name}.name")
    for name, entry in checks.entries(params["benchmarks"], "benchmarks"):
        _benchmark(entry, f"benchmarks.{name}")
    for name, section in checks.entries(params["scales"], "scales"):
        _scale(params, section, f"scales.{name}")
    for kind, field, part in (("methods", "backbone", "backbones"), ("benchmarks", "root", "roots")):
        known = {key for section in params["scales"].values() for key in section[part]}
        for name, entry in params[kind].items():
            if entry[field] is None or (field == "root" and "/" in entry[field]):
                continue  # a detector from a file has no backbone of ours; a root with a slash is the folder itself
            checks.choice(entry[field], known, field, f"{kind}.{name}.{field}; scales.<scale>.{part} define them")
    _run(params, params["scales"][params["scale"]], f"scales.{params['scale']}")


def _loss(section: dict) -> None:
    """``loss:`` has keys of every loss, so that ``-S loss.name=infonce`` needs no other change, and of methods."""
    checks.choice(section.get("name"), plugins.names("losses"), "loss", "params.yaml: loss.name")
    methods = [name for name in plugins.names("methods") if "loss" in plugins.keywords("methods", name)]
    known = {"name": "str"}
    for kind, names in (("methods", methods), ("losses", plugins.names("losses"))):
        for name in names:
            known |= checks.annotations(kind, name)
    checks.keys(section, {}, "loss", optional={key: value for key, value in known.items() if key not in GIVEN})
    _ranges.check(**section)
    spec = {key: value for key, value in section.items() if key in plugins.keywords("losses", section["name"])}
    plugins.check("losses", {"name": section["name"], **spec}, given=("anchors",), place="loss")


def _benchmark(entry: dict, place: str) -> None:
    name = entry.get("name") if isinstance(entry, dict) else None
    known = name in plugins.names("benchmarks")
    own = checks.annotations("benchmarks", name) if known else {}  # its plug-in's keywords
    wanted = {key: own[key] for key, needed in plugins.keywords("benchmarks", name).items() if needed} if known else {}
    checks.keys(entry, BENCHMARK | wanted, place, optional=BENCHMARK_OPTIONS | own)
    checks.choice(name, plugins.names("benchmarks"), "benchmark", f"{place}.name")
    checks.choice(entry["rule"], splits.RULES, "rule", f"{place}.rule")
    needed = splits.RULES[entry["rule"]]
    if needed is not None and needed not in entry:
        raise InputError(f"{place} lacks {needed}, which rule {entry['rule']} needs (params.yaml)")
    for key in {"fraction", "ids"} & set(entry) - {needed}:
        raise InputError(f"{place}.{key} is of no use: rule {entry['rule']} does not read it (params.yaml)")
    if not 0 < entry.get("fraction", 1) <= 1:
        raise InputError(f"{place}.fraction is {entry['fraction']}; it must lie in (0, 1] (params.yaml)")
    if not re.fullmatch(r"[\w.{}-]+", entry.get("ids", "x")):
        raise InputError(f"{place}.ids is {entry['ids']!r}; it must be the name of a file in splits/own (params.yaml)")


def _scale(params: dict, section: dict, place: str) -> None:
    checks.keys(section, SCALE, place)
    if section["generate"] is not None:
        checks.call(section["generate"], demo.write, f"{place}.generate", given=("workers",))
    checks.keys(section["propose"], PROPOSE, f"{place}.propose")
    checks.positive(section["propose"], ("samples_per_shard", "shard_bytes"), f"{place}.propose")
    _filter(section["propose"]["filter"], f"{place}.propose.filter")
    checks.plugin("proposals", section["propose"]["proposals"], f"{place}.propose.proposals", given=("seed",))
    checks.keys(section["split"], {"validation": "int | str", "seeds": "list[int]"}, f"{place}.split")
    count = section["split"]["validation"]
    if count != "test" and (count == 0 or not checks.fits(count, "int")):
        raise InputError(f"{place}.split.validation is {count!r}; it must be a count of images, or test (params.yaml)")
    checks.keys(section["recall"], {"images": "int"}, f"{place}.recall")
    checks.positive(section["recall"], ("images",), f"{place}.recall")
    checks.plugin("detectors", section["detector"], f"{place}.detector", given=("num_classes",))
    checks.keys(section["detector"]["backbone"], BODY, f"{place}.detector.backbone")
    checks.choice(section["detector"]["backbone"]["block"], BLOCKS, "ResNet block", f"{place}.detector.backbone.block")
    checks.keys(section["views"], VIEWS, f"{place}.views")
    weak = section["views"]["weak"]
    checks.call(weak, augment.weak, f"{place}.views.weak")
    if not 0 < weak["crop_min"] <= weak["crop_max"]:
        raise InputError(
            f"{place}.views.weak.crop_min is {weak['crop_min']}; it must be a number of pixels from 1 to crop_max, "
            f"{weak['crop_max']} (params.yaml)"
        )
    checks.call(section["views"]["strong"], augment.strong, f"{place}.views.strong")
    checks.keys(section["views"]["predict"], PREDICT, f"{place}.views.predict")
    checks.keys(section["finetune"], FINETUNE, f"{place}.finetune")
    checks.positive(section["finetune"], ("validations", "predict_batch"), f"{place}.finetune")
    networks = ("student", "teacher")
    checks.choice(section["finetune"]["init_from"], networks, "network", f"{place}.finetune.init_from")
    for name, schedule in section["schedules"].items():
        if name != "default":
            checks.choice(name, params["benchmarks"], "benchmark", f"{place}.schedules")
        _schedule(schedule, f"{place}.schedules.{name}")
    trained = plugins.methods_over("detector")
    for name, entry in section["pretrain"].items():
        checks.choice(name, {*trained, *params["methods"]}, "method or plug-in", f"{place}.pretrain")
        if from_file(section, name) or name not in trained:
            checks.keys(entry, CHECKPOINT, f"{place}.pretrain.{name}", optional={"network": "str"})
        else:
            _pretraining(params["loss"], name, entry, f"{place}.pretrain.{name}")
    for name, entry in checks.entries(section["backbones"], f"{place}.backbones"):
        _backbone(section["backbones"], entry, f"{place}.backbones.{name}")
    used = {entry["root"] for entry in params["benchmarks"].values()} | {section["propose"]["root"]}
    used |= {entry["root"] for entry in section["backbones"].values() if "root" in entry}
    for name, folder in checks.entries(section["roots"], f"{place}.roots"):
        if "/" not in section["propose"]["root"]:  # else the root that this folder stands in for may stay
            checks.choice(name, used, "data set", f"{place}.roots; propose, backbones and benchmarks name them")
        if not checks.fits(folder, "str | None"):
            raise InputError(f"{place}.roots.{name} is {folder!r}; it must be a folder or null (params.yaml)")


def _filter(section: dict, place: str) -> None:
    checks.call(section, filters.keep, place)
    checks.positive(section, ("limit",), place)
    for key in ("aspect", "size"):
        if section[key] is not None and section[key][0] > section[key][1]:
            raise InputError(f"{place}.{key} is {section[key]}; it must be [least, most] (params.yaml)")


def _schedule(section: dict, place: str) -> None:
    types = {field.name: inspect.formatannotation(field.type) for field in fields(Schedule)}
    checks.keys(section, {key: types[key] for key in ("batch", "lr")}, place, optional=types)
    if (section.get("epochs") is None) == (section.get("steps") is None):
        raise InputError(f"{place} needs either epochs or steps (params.yaml)")
    checks.positive(section, ("batch", "epochs", "steps", "log_every", "clip", "micro_batch"), place)
    if section.get("drop_at", 0) > 1:
        raise InputError(f"{place}.drop_at is {section['drop_at']}; it is a share of the training, 0..1 (params.yaml)")


def _pretraining(loss: dict, name: str, entry: dict, place: str) -> None:
    checks.keys(entry, PRETRAIN, place, optional={"loss": "dict"})
    _schedule(entry["schedule"], f"{place}.schedule")
    checks.positive(entry, ("pictures",), place)
    known = set(plugins.keywords("methods", name))
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


def from_file(section: dict, row: str) -> bool:
    """Whether a scale takes the pretrained detector of a row from a file, backbone included, instead of training it."""
    entry = section["pretrain"].get(row)
    return isinstance(entry, dict) and "checkpoint" in entry


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
        checks.plugin("methods", {key: value for key, value in entry.items() if key not in ours}, place)
        checks.keys({key: value for key, value in entry.items() if key in ours}, ours, place)
        _schedule(entry["schedule"], f"{place}.schedule")
        if "micro_batch" in entry["schedule"]:
            raise InputError(f"{place}.schedule.micro_batch: batch norm sees the whole batch; remove it (params.yaml)")


def _run(params: dict, section: dict, place: str) -> None:
    """What the selected scale must have for the selected cells."""
    needed = {f"{place}.backbones.{name}": e["root"] for name, e in section["backbones"].items() if "root" in e}
    needed[f"{place}.propose"] = section["propose"]["root"]
    for name in params["run"]["methods"]:
        entry = params["methods"][name]
        if from_file(section, name):
            continue
        if entry["backbone"] is None:
            raise InputError(
                f"methods.{name}.backbone is null, so its detector comes from a file: {place}.pretrain.{name} needs a "
                "checkpoint (params.yaml)"
            )
        checks.choice(entry["backbone"], section["backbones"], "backbone", f"methods.{name}; {place}.backbones")
        trained = [plugin for plugin in section["pretrain"] if not from_file(section, plugin)]
        if entry["name"] not in (NOT_PRETRAINED, *trained):
            raise InputError(f"{place}.pretrain lacks {entry['name']}, the plug-in of methods.{name} (params.yaml)")
    for name in params["run"]["benchmarks"]:
        needed[f"benchmarks.{name}"] = params["benchmarks"][name]["root"]
        if not {name, "default"} & set(section["schedules"]):
            raise InputError(f"{place}.schedules lacks {name}, which run.benchmarks selects (params.yaml)")
    for who, root in needed.items():
        if "/" not in root and section["roots"].get(root) is None:
            raise InputError(f"{who} needs {place}.roots.{root}, which is not set (params.yaml)")
