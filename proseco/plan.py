"""What each part of the pipeline depends on, resolved from the parameters.

A pretraining depends on its method's entry, and only ProSeCo's on ``loss``; it depends on the source of its method, its
loss and its detector, and on no other plug-in's. Neither can be said in DVC's templates, so stage ``plan`` writes small
files of settings, one for each consumer, and the stages depend on these. Nothing heavy is imported.
"""

from pathlib import Path

from proseco.base import plugins, sources
from proseco.schema import check, from_file


def resolve(params: dict) -> dict[str, dict]:
    """File name -> content of everything that stage ``plan`` writes for the selected scale.

    :raises InputError: see :func:`proseco.schema.check`.
    """
    check(params)
    scale = params["scale"]
    section = params["scales"][scale]
    settings = {f"pretrain/{name}.json": pretraining(params, scale, name) for name in params["run"]["methods"]}
    proposals, detector = section["propose"]["proposals"], section["detector"]
    settings["propose.json"] = {"proposals": proposals, "code": code(("proposals", proposals["name"]))}
    settings["detector.json"] = {"detector": detector, "code": code(("detectors", detector["name"]))}
    schedules = section["schedules"]
    for name in params["run"]["benchmarks"]:
        settings[f"finetune/{name}.json"] = {"schedule": schedules.get(name, schedules.get("default"))}
    return settings | {"backbone.json": backbones(params, scale)}


def pretraining(params: dict, scale: str, name: str) -> dict:
    """All that the pretraining of a method depends on, and nothing else.

    :returns: ``detector``, ``seed``, and for a method that is pretrained ``method`` (its entry for the plug-in),
        ``loss``, ``views``, ``schedule``, ``precision``, ``pictures``, ``code``; else these are None, but for ``code``
        and ``checkpoint`` (its entry) of a row whose detector comes from a file.
    """
    section, plugin = params["scales"][scale], params["methods"][name]["name"]
    settings = {"detector": section["detector"], "seed": params["seed"]}
    settings |= dict.fromkeys(
        ("method", "loss", "views", "schedule", "precision", "pictures", "checkpoint", "code"),
    )
    if from_file(section, name):
        used = code(("detectors", section["detector"]["name"]))
        return settings | {"checkpoint": section["pretrain"][name], "code": used}
    if plugin not in section["pretrain"]:
        return settings
    chosen = section["pretrain"][plugin]
    known = plugins.keywords("methods", plugin)
    used = [("methods", plugin), ("detectors", section["detector"]["name"])]
    settings["method"] = {"name": plugin, **chosen["method"]}
    if "loss" in known:  # its keys are the loss's own and the method's weights; those of other losses are passed over
        loss = params["loss"] | chosen.get("loss", {})  # the scale's own keys; schema refuses one that stands twice
        mine = plugins.keywords("losses", loss["name"])
        settings["loss"] = {key: value for key, value in loss.items() if key in mine or key == "name"}
        settings["method"] |= {key: value for key, value in loss.items() if key in known and key != "name"}
        used.append(("losses", loss["name"]))
    views = {key: section["views"][key] for key in ("weak", "strong") if key in known}
    settings |= {"views": views, "schedule": chosen["schedule"], "precision": params["precision"]}
    return settings | {"pictures": chosen.get("pictures"), "code": code(*used)}


def backbones(params: dict, scale: str) -> dict:
    """What the backbone stage depends on: ``files`` (method -> backbone entry), ``backbones``, ``body``, ``seed``.

    And ``precision`` where one is trained, else None.
    """
    section = params["scales"][scale]
    names, entries = {}, dict(section["backbones"])
    for name in params["run"]["methods"]:
        if from_file(section, name):  # which has a backbone in it
            chosen = section["pretrain"][name]
            names[name] = f"{name}@{chosen['checkpoint']}"  # no name of an entry has an @
            prefix = f"{chosen['network']}.backbone.0.body." if "network" in chosen else None
            entries[names[name]] = {"checkpoint": chosen["checkpoint"], "prefix": prefix}
        else:
            backbone = params["methods"][name]["backbone"]
            names[name] = section["backbones"][backbone].get("same_as", backbone)
    used = {name: entries[name] for name in sorted(set(names.values()))}
    trained = code(*(("methods", entry["name"]) for entry in used.values() if "name" in entry))
    settings = {"files": names, "backbones": used, "body": section["detector"]["backbone"], "seed": params["seed"]}
    return settings | {"precision": params["precision"] if trained else None, "code": trained}


def code(*used: tuple[str, str]) -> dict[str, str]:
    """Path -> digest of all files in folders of plug-ins that these (kind, name) are made of.

    That is their own files and the shared ones (``_contrast.py``) that they import, directly or not. What they import
    from elsewhere (``proseco/nn``) stands in dvc.yaml.
    """
    starts = [Path("proseco", kind, f"{name}.py") for kind, name in used]
    return {path: digest for path, digest in sources.digests(starts).items() if path.split("/")[1] in plugins.KINDS}
