"""Checks of one scale, of its pretrainings, and of what an ablation comes to there; for ``schema.py``."""

import inspect
from dataclasses import fields

from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.data import augment
from proseco.demo import data_sets
from proseco.experiment import checks, rows, schema_trainings, selection
from proseco.training.schedules import Finetuning, override

# Sections that no function's signature describes: key -> type, written as in an annotation.
SCALE = ("roots", "propose", "split", "recall", "backbones", "detector", "detectors", "views", "pretrain", "ablations")
SCALE = dict.fromkeys((*SCALE, "finetune", "schedules"), "dict") | {"generate": "dict | None"}
PROPOSE = {"unlabelled": "dict", "samples_per_shard": "int", "min_side": "int", "max_skipped": "float"}
PROPOSE |= {"shard_bytes": "int | None", "filter": "dict", "proposals": "dict"}
UNLABELLED = {"root": "str", "subset": "str"}
#: Of a set of images that differs from the others of its scale in its proposals.
OWN_PROPOSALS = {"proposals": "dict", "filter": "dict"}
#: What a source of proposals is given beside the keywords of its entry.
PROPOSING = ("seed", "path")
BODY = {"block": "str", "layers": "list[int]", "stem": "int", "widths": "list[int]"}
BLOCKS = ("basic", "bottleneck")
VIEWS = dict.fromkeys(("weak", "strong", "predict"), "dict")
#: What of the scale's views a method may have of its own.
OWN_VIEWS = {key: "dict" for key in VIEWS if key != "predict"}
PREDICT = {"short_edge": "int", "long_edge": "int | None"}
CHECKPOINT = {"checkpoint": "str"}
FINETUNE = {"init_from": "str", "predict_batch": "int"}


def scale(params: dict, section: dict, place: str) -> None:
    """Refuse an entry of ``scales`` that a stage would refuse, or with keys that none reads."""
    checks.keys(section, SCALE, place)
    if section["generate"] is not None:
        checks.call(section["generate"], data_sets.write, f"{place}.generate", given=("workers",))
    checks.keys(section["propose"], PROPOSE, f"{place}.propose")
    checks.positive(section["propose"], ("samples_per_shard", "shard_bytes"), f"{place}.propose")
    if rows.MAIN not in section["propose"]["unlabelled"]:
        raise InputError(f"{place}.propose.unlabelled lacks {rows.MAIN} (params.yaml)")
    schema_trainings.proposal_filter(section["propose"]["filter"], f"{place}.propose.filter")
    checks.plugin("proposals", section["propose"]["proposals"], f"{place}.propose.proposals", given=PROPOSING)
    for name, entry in checks.entries(section["propose"]["unlabelled"], f"{place}.propose.unlabelled"):
        where = f"{place}.propose.unlabelled.{name}"
        checks.keys(entry, UNLABELLED, where, optional=OWN_PROPOSALS)
        if "proposals" in entry:
            checks.plugin("proposals", entry["proposals"], f"{where}.proposals", given=PROPOSING)
        if "filter" in entry:
            checks.keys(
                entry["filter"], {}, f"{where}.filter", optional=dict.fromkeys(section["propose"]["filter"], "")
            )
            schema_trainings.proposal_filter(rows.proposals(section["propose"], name)["filter"], f"{where}.filter")
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
    for key in ("layers", "widths"):
        if len(section["detector"]["backbone"][key]) != 4:
            value = section["detector"]["backbone"][key]
            raise InputError(f"{place}.detector.backbone.{key} is {value}; a ResNet has 4 stages (params.yaml)")
    checks.choice(section["detector"]["backbone"]["block"], BLOCKS, "ResNet block", f"{place}.detector.backbone.block")
    _views(section["views"], f"{place}.views")
    checks.keys(section["finetune"], FINETUNE, f"{place}.finetune")
    checks.positive(section["finetune"], ("predict_batch",), f"{place}.finetune")
    networks = ("student", "teacher")
    checks.choice(section["finetune"]["init_from"], networks, "network", f"{place}.finetune.init_from")
    for name, schedule in section["schedules"].items():
        if name != "default":
            checks.choice(name, params["benchmarks"], "benchmark", f"{place}.schedules")
        schema_trainings.finetuning(schedule, f"{place}.schedules.{name}")
        for detector, entry in section["detectors"].items():
            merged = override(schedule, entry.get("schedule", {}))
            schema_trainings.finetuning(merged, f"{place}.schedules.{name} with detectors.{detector}.schedule")
    _pretrainings(params, section, place)
    for name, entry in section["ablations"].items():
        checks.choice(name, {"every", *params["ablations"]}, "ablation", f"{place}.ablations")
        overlay(entry, f"{place}.ablations.{name}", title=name != "every")
    for name, entry in checks.entries(section["backbones"], f"{place}.backbones"):
        schema_trainings.backbone(section["backbones"], entry, f"{place}.backbones.{name}")
    unlabelled = {entry["root"] for entry in section["propose"]["unlabelled"].values()}
    used = {entry["root"] for entry in params["benchmarks"].values()} | unlabelled
    made = [entry for entry in (section["propose"], *section["propose"]["unlabelled"].values()) if "proposals" in entry]
    used |= {entry["proposals"]["root"] for entry in made if "root" in entry["proposals"]}
    used |= {entry["root"] for entry in section["backbones"].values() if "root" in entry}
    for name, folder in checks.entries(section["roots"], f"{place}.roots"):
        if not any("/" in root for root in unlabelled):  # else the root that such a folder stands in for may stay
            checks.choice(name, used, "data set", f"{place}.roots; propose, backbones and benchmarks name them")
        if not checks.fits(folder, "str | None"):
            raise InputError(f"{place}.roots.{name} is {folder!r}; it must be a folder or null (params.yaml)")


def _pretrainings(params: dict, section: dict, place: str) -> None:
    """Entries of plug-ins; of rows, which are laid over those; and of detectors that come from a file."""
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
            checks.keys(entry, {}, where, optional=schema_trainings.OVER_PRETRAIN)
            of_plugin = section["pretrain"][plugin]
            if not isinstance(of_plugin, dict) or "checkpoint" in of_plugin:
                continue  # the one is refused in its turn; over a file nothing can be laid, see selection.py
            entry = rows.merged(of_plugin, entry)
        schema_trainings.pretraining(params["loss"], plugin, entry, where)
        if "views" in entry:
            checks.keys(entry["views"], {}, f"{where}.views", optional=OWN_VIEWS)
            _views(rows.merged(section["views"], entry["views"]), f"{where}.views")


def _views(section: dict, place: str) -> None:
    checks.keys(section, VIEWS, place)
    weak = section["weak"]
    checks.call(weak, augment.weak_geometry, f"{place}.weak")
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


def overlay(entry: dict, place: str, *, title: bool = False) -> None:
    """What an ablation sets, before it is laid over anything.

    :param title: whether it may have one.
    """
    checks.keys(entry, {}, place, optional=rows.OVERLAY | ({"title": "str"} if title else {}))
    checks.keys(entry.get("pretrain", {}), {}, f"{place}.pretrain", optional=schema_trainings.OVER_PRETRAIN)
    if isinstance(entry.get("detector"), dict) and "backbone" in entry["detector"]:
        why = "all rows of a scale share its form, and its weights are made of it: scales.<scale>.detector.backbone"
        raise InputError(f"{place}.detector.backbone cannot differ: {why} (params.yaml)")
    for views in (entry.get("views", {}), entry.get("pretrain", {}).get("views", {})):
        checks.keys(views, {}, f"{place}: views", optional=OWN_VIEWS)


def ablation(params: dict, scale: str, name: str) -> None:
    """What an ablation comes to at a scale that has all its method needs."""
    place = f"ablations.{name} at scale {scale}"
    section = params["scales"][scale]
    if not rows.has_detector(params, scale, name):
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
    if "views" in over or "views" in over.get("pretrain", {}):
        _views(row.views, f"{place}: views")
    if "loss" in over:
        if "loss" not in plugins.keywords("methods", row.plugin):
            raise InputError(f"{place} changes loss, which {row.plugin} does not have (params.yaml)")
        schema_trainings.loss(row.loss)
    if "pretrain" in over and row.pretrain is not None:
        of_loss = {"loss": {key: value for key, value in row.loss.items() if key not in params["loss"]}}
        loss = {key: value for key, value in row.loss.items() if key in params["loss"]}
        schema_trainings.pretraining(
            loss, row.plugin, row.pretrain | (of_loss if of_loss["loss"] else {}), f"{place}: pretrain"
        )
