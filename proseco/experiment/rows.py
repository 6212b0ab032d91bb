"""Rows of the tables, resolved for one scale: methods, and ablations, which are a method with something changed.

Entries ``ablations.<row>`` say ``of`` which method they are and what they ``set``; ``scales.<scale>.ablations`` adds
what differs between the scales, for a row or for ``every`` one. Such an *overlay* has the keys of :data:`OVERLAY`.
"""

from dataclasses import asdict, dataclass, replace

from proseco.training import schedules

#: What an overlay may change -> what of the row it is laid over.
OVERLAY = {
    "loss": "dict",  # of loss:, and of the scale's own keys of it
    "pretrain": "dict",  # of scales.<scale>.pretrain.<plug-in>
    "views": "dict",  # of scales.<scale>.views, as the pretraining uses them
    "detector": "dict",  # of the row's detector, as pretraining and finetuning use it
    "backbone": "str",  # a key of scales.<scale>.backbones
    "data": "str",  # a key of scales.<scale>.propose.unlabelled
}
#: The unlabelled images that a row is pretrained on if it does not say.
MAIN = "main"


@dataclass(frozen=True)
class Row:
    """What a row of the tables is, at one scale."""

    name: str
    title: str
    #: A file in ``proseco/methods``.
    plugin: str
    #: A key of ``scales.<scale>.backbones``; None where the detector comes from a file.
    backbone: str | None
    #: A key of ``scales.<scale>.propose.unlabelled``.
    data: str
    #: Entry of the detector's plug-in, ``backbone`` (the body that all detectors of a scale share) included.
    detector: dict
    #: Keys of the finetuning's schedule that the detector changes.
    schedule: dict
    #: Entry of the plug-in's pretraining, of a file (``checkpoint``), or None: it is not pretrained.
    pretrain: dict | None
    loss: dict
    views: dict

    @property
    def from_file(self) -> bool:
        """Whether the pretrained detector comes from a file, backbone included."""
        return _of_file(self.pretrain)

    @property
    def pretrained_here(self) -> bool:
        """Whether the row has a pretraining that is run: neither none, nor one from a file."""
        return self.pretrain is not None and not self.from_file


def names(params: dict) -> list[str]:
    """All rows that the run selects."""
    return [*params["run"]["methods"], *params["run"]["ablations"]]


def method_of(params: dict, name: str) -> dict:
    """The entry of the method that a row is, or is an ablation of."""
    return params["methods"][name if name in params["methods"] else params["ablations"][name]["of"]]


def has_detector(params: dict, scale: str, name: str) -> bool:
    """Whether a scale has the detector of a row; it need not, as long as it does not run it."""
    method = method_of(params, name)
    return "detector" not in method or method["detector"] in params["scales"][scale]["detectors"]


def row(params: dict, scale: str, name: str) -> Row:
    """Resolve a method or an ablation.

    :param params: params.yaml, checked.
    """
    if name in params["methods"]:
        return _method(params, params["scales"][scale], name)
    base = _method(params, params["scales"][scale], params["ablations"][name]["of"])
    over = overlay(params, scale, name)
    title = params["scales"][scale]["ablations"].get(name, {}).get("title", params["ablations"][name]["title"])
    pretrain = over.get("pretrain", {})
    changes = {"detector": merged(base.detector, over.get("detector", {}))}
    for key in ("loss", "views"):  # both stand in a plug-in's entry too
        changes[key] = merged(merged(getattr(base, key), pretrain.get(key, {})), over.get(key, {}))
    if base.pretrain is not None:
        changes["pretrain"] = merged(base.pretrain, pretrain)
    chosen = {key: over[key] for key in ("backbone", "data") if key in over}
    return replace(base, name=name, title=title, **changes, **chosen)


def finetuning_schedule(section: dict, row: Row, benchmark: str) -> dict:
    """The schedule of a row's finetuning on a benchmark.

    :param section: ``scales.<scale>`` of params.yaml.
    """
    of_scale = section["schedules"]
    return schedules.override(of_scale.get(benchmark, of_scale.get("default")), row.schedule)


def overlay(params: dict, scale: str, name: str) -> dict:
    """All that an ablation changes at a scale; its own word counts most, then what the scale says of every one."""
    of_scale = params["scales"][scale]["ablations"]
    changes: dict = {}
    for part in (of_scale.get("every", {}), params["ablations"][name]["set"], of_scale.get(name, {})):
        changes = merged(changes, {key: value for key, value in part.items() if key in OVERLAY})
    return changes


def proposals(section: dict, data: str) -> dict:
    """By what the proposals of a set of unlabelled images are made, and which are stored: the scale's ``proposals`` and
    ``filter``, or the set's own. Of ``proposals`` the set's take the place of the scale's, a filter is laid over it.

    :param section: ``scales.<scale>.propose`` of params.yaml; ``data`` a key of its ``unlabelled``.
    """
    own = section["unlabelled"][data]
    return {
        "proposals": own.get("proposals", section["proposals"]),
        "filter": section["filter"] | own.get("filter", {}),
    }


def proposal_sources(params: dict, scale: str) -> dict[str, str]:
    """Of the selected sets of unlabelled images those whose proposals are made in ways of their own, MAIN first -> what
    to call each: by its plug-in, and where they are several by the set too.
    """
    section = params["scales"][scale]["propose"]
    found: dict[str, dict] = {}
    for data in sorted(params["run"]["unlabelled"], key=lambda data: data != MAIN):
        made = proposals(section, data)
        if made not in found.values():
            found[data] = made
    plugin = {data: made["proposals"]["name"] for data, made in found.items()}
    return plugin if len(plugin) == 1 else {data: f"{data}: {name}" for data, name in plugin.items()}


def alias(params: dict, scale: str, name: str) -> str:
    """The row whose results are this row's: an ablation that changes nothing at a scale is the method it is of."""
    if name in params["methods"]:
        return name
    method = params["ablations"][name]["of"]
    mine, base = (asdict(replace(row(params, scale, key), name="", title="")) for key in (name, method))
    return method if mine == base else name


def merged(base: dict, over: dict) -> dict:
    """A mapping laid over another, mapping by mapping; everything else is replaced. A ``schedule`` with another
    optimiser or decay loses the keys of the former one.
    """
    both = {}
    for key, value in over.items():
        if _mappings(base.get(key), value):
            both[key] = schedules.override(base[key], value) if key == "schedule" else merged(base[key], value)
    return base | over | both


def _of_file(entry) -> bool:
    return isinstance(entry, dict) and "checkpoint" in entry


def _mappings(*values) -> bool:
    return all(isinstance(value, dict) for value in values)


def _pretrain(entries: dict, name: str, plugin: str) -> dict | None:
    """The pretraining of a row: from a file, or the plug-in's with the row's own entry, if it has one, laid over it."""
    own, of_plugin = entries.get(name), entries.get(plugin)
    if _of_file(own):
        return own
    if of_plugin is None or _of_file(of_plugin):
        return None
    return of_plugin if own is None or name == plugin else merged(of_plugin, own)


def _method(params: dict, section: dict, name: str) -> Row:
    entry = params["methods"][name]
    pretrain = _pretrain(section["pretrain"], name, entry["name"])
    detector, schedule = section["detector"], {}
    if "detector" in entry:
        other = section["detectors"][entry["detector"]]
        detector = {"backbone": detector["backbone"], **{k: v for k, v in other.items() if k != "schedule"}}
        schedule = other.get("schedule", {})
    return Row(
        name=name,
        title=entry["title"],
        plugin=entry["name"],
        backbone=entry["backbone"],
        data=entry.get("data", MAIN),
        detector=detector,
        schedule=schedule,
        pretrain=pretrain,
        loss=params["loss"] | ((pretrain or {}).get("loss") or {}),
        views=merged(section["views"], (pretrain or {}).get("views") or {}),
    )
