"""Checks of what a training is given: its loss, its schedule, its method, its backbone; for ``schema.py``."""

import inspect
import math
from dataclasses import fields
from functools import cache

from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.data import augment, filters
from proseco.experiment import checks
from proseco.losses import _ranges
from proseco.training.schedules import DECAYS, OPTIMIZERS, Finetuning, Schedule

#: Of a plug-in's entry under ``scales.<scale>.pretrain``: what it must have, and what may be laid over it.
PRETRAIN = {"schedule": "dict", "method": "dict"}
OVER_PRETRAIN = PRETRAIN | {"pictures": "int", "loss": "dict", "views": "dict"}
#: Arguments of methods and losses that the program gives.
GIVEN = frozenset({"weak", "strong", "loss", "anchors", "micro_batch", "steps"})
#: Keys of a schedule that divide a batch; a plug-in that asks for micro_batch takes either.
MICRO = ("micro_batch", "micro_pixels")
#: Keys of a schedule about the frames of batches whose views differ in size.
FRAMES = ("group_steps", "pad_to")


def loss(section: dict) -> None:
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
            known |= plugins.types(kind, name)
    return {key: value for key, value in known.items() if key not in GIVEN}


def finetuning(section: dict, place: str) -> None:
    """Refuse a schedule of finetunings that contradicts itself, or with keys that nothing reads."""
    _schedule(section, place, Finetuning)
    if (section.get("validate_every") is None) == (section.get("validations") is None):
        raise InputError(f"{place} needs either validations or validate_every (params.yaml)")
    checks.positive(section, ("validations", "validate_every", "patience"), place)
    frozen = section.get("frozen_stages", 0)
    if not 0 <= frozen <= 5:
        raise InputError(
            f"{place}.frozen_stages is {frozen}; a backbone has 5 stages, its stem the first (params.yaml)"
        )
    if section.get("patience") is not None and section.get("decay") == "cosine":
        raise InputError(f"{place}.patience would leave out the end of decay cosine; it needs decay step (params.yaml)")


def _schedule(section: dict, place: str, kind: type[Schedule] = Schedule) -> None:
    types = {field.name: inspect.formatannotation(field.type) for field in fields(kind)}
    checks.keys(section, {key: types[key] for key in ("batch", "lr")}, place, optional=types)
    if (section.get("epochs") is None) == (section.get("steps") is None):
        raise InputError(f"{place} needs either epochs or steps (params.yaml)")
    counts = ("batch", "epochs", "steps", "log_every", *MICRO, *FRAMES)
    checks.positive(section, (*counts, "clip", "trust"), place)
    if all(section.get(key) is not None for key in MICRO):
        raise InputError(f"{place} has {' and '.join(MICRO)}; either says what is held at a time (params.yaml)")
    for key, what in (("drop_at", "the training"), ("final", "the learning rate"), ("momentum", "the last update")):
        if section.get(key, 0) > 1:
            raise InputError(f"{place}.{key} is {section[key]}; it is a share of {what}, 0..1 (params.yaml)")
    for key, known in (("optimizer", OPTIMIZERS), ("decay", DECAYS)):
        chosen = section.get(key, getattr(Schedule, key))
        checks.choice(chosen, known, key, f"{place}.{key}")
        for other in sorted((set().union(*known.values()) - set(known[chosen])) & set(section)):
            raise InputError(f"{place}.{other} is of no use: {key} {chosen} does not read it (params.yaml)")


def pretraining(shared: dict, name: str, entry: dict, place: str) -> None:
    """
    :param shared: the section ``loss``, which the entry's own keys of it are laid over.
    """
    known = set(plugins.keywords("methods", name))
    pictures = {"pictures": "int"} if "weak" in known else {}  # of predictions on the weak view
    checks.keys(entry, PRETRAIN | pictures, place, optional={"loss": "dict", "views": "dict"})
    _schedule(entry["schedule"], f"{place}.schedule")
    checks.positive(entry, ("pictures",), place)
    for key in FRAMES:
        if key in entry["schedule"] and "weak" not in known:
            raise InputError(f"{place}.schedule.{key} is of no use: all views of {name} have one size (params.yaml)")
    for key in MICRO:
        if key in entry["schedule"] and "micro_batch" not in known:
            raise InputError(f"{place}.schedule.{key} is of no use: {name} does not read it (params.yaml)")
    own = entry.get("loss", {})
    for key in own:
        if "loss" not in known or key in shared:
            why = "stands under loss too; keep one of them" if key in shared else f"is of no use: {name} has no loss"
            raise InputError(f"{place}.loss.{key} {why} (params.yaml)")
    whole = shared | own
    if own:
        loss(whole)
    of_loss = known & set(whole) if "loss" in known else set()
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
        proposal_filter(method["filter"], f"{place}.filter")
    if method.get("search") is not None:
        checks.keys(method["search"], {"side": "int", "proposals": "dict"}, f"{place}.search")
        checks.plugin("proposals", method["search"]["proposals"], f"{place}.search.proposals", given=("seed",))
        if method["search"]["side"] < 16:
            why = "a square of 16 pixels is the least that is searched"
            raise InputError(f"{place}.search.side is {method['search']['side']}; {why} (params.yaml)")
    checks.positive(method, ("side", "boxes", "min_size", "canonical_size", "extra_side"), place)
    sizes = method.get("min_size", 0), method.get("side", math.inf)
    if all(isinstance(size, int | float) for size in sizes) and sizes[0] > sizes[1]:
        raise InputError(f"{place}.min_size is {method['min_size']}; the views' side is {method['side']} (params.yaml)")


def backbone(entries: dict, entry: dict, place: str) -> None:
    """Refuse an entry of ``scales.<scale>.backbones``: it is another one, from a file, or trained by a method.

    :param entries: all of that section; ``same_as`` names one of them.
    """
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
        by_stage = GIVEN & set(plugins.keywords("methods", entry["name"]))
        spec = {key: value for key, value in entry.items() if key not in ours}
        checks.plugin("methods", spec, place, given=by_stage)
        _own_views(entry, place)
        checks.keys({key: value for key, value in entry.items() if key in ours}, ours, place)
        _schedule(entry["schedule"], f"{place}.schedule")
        for key in MICRO:
            if key in entry["schedule"]:
                raise InputError(f"{place}.schedule.{key}: batch norm sees the whole batch; remove it (params.yaml)")
        for key in FRAMES:
            if key in entry["schedule"]:
                raise InputError(f"{place}.schedule.{key}: all views have one size; remove it (params.yaml)")
        if entry["schedule"].get("lr_backbone"):
            raise InputError(f"{place}.schedule.lr_backbone: all of it is the backbone, of lr; remove it (params.yaml)")


def proposal_filter(section: dict, place: str) -> None:
    """Refuse what is no set of keywords of :func:`proseco.data.filters.keep`."""
    checks.call(section, filters.keep, place)
    checks.positive(section, ("limit",), place)
    for key in ("aspect", "size"):
        if section[key] is not None and section[key][0] > section[key][1]:
            raise InputError(f"{place}.{key} is {section[key]}; it must be [least, most] (params.yaml)")
