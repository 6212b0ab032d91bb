"""What each part of the pipeline depends on, resolved from the parameters.

A pretraining depends on its row's entry, and only ProSeCo's on ``loss``; it depends on the source of its method, its
loss and its detector, and on no other plug-in's. Neither can be said in DVC's templates, so stage ``plan`` writes small
files of settings, one for each consumer, and the stages depend on these. Nothing heavy is imported.
"""

from pathlib import Path

from proseco.base import files, plugins, sources
from proseco.experiment import rows
from proseco.experiment.rows import Row
from proseco.experiment.schema import check


def resolve(params: dict) -> dict[str, dict]:
    """File name -> content of everything that stage ``plan`` writes for the selected scale.

    :raises InputError: see :func:`proseco.experiment.schema.check`.
    """
    check(params)
    scale, run = params["scale"], params["run"]
    section = params["scales"][scale]
    settings = {"backbone.json": backbones(params, scale)}
    for data in run["unlabelled"]:
        settings[f"propose/{data}.json"] = proposing(params, section["propose"], data)
    for names, benchmarks in ((run["methods"], run["benchmarks"]), (run["ablations"], run["ablation_benchmarks"])):
        for name in names:
            row = rows.row(params, scale, name)
            settings[f"pretrain/{name}.json"] = pretraining(params, row)
            settings[f"source/{name}.json"] = {"data": settings[f"pretrain/{name}.json"]["data"]}
            for benchmark in benchmarks:
                settings[f"finetune/{name}/{benchmark}.json"] = finetuning(params, section, row, benchmark)
    return settings


def proposing(params: dict, section: dict, data: str) -> dict:
    """What the proposals of a set of unlabelled images depend on: its ``root`` and ``subset``, ``proposals`` and
    ``filter``, ``seed``, what else ``propose`` says of images and shards, and ``code``.

    :param section: ``scales.<scale>.propose``.
    """
    common = {key: value for key, value in section.items() if key != "unlabelled"}
    made = common | section["unlabelled"][data] | rows.proposals(section, data)
    return made | {"seed": params["seed"], "code": code(("proposals", made["proposals"]["name"]))}


def pretraining(params: dict, row: Row) -> dict:
    """All that the pretraining of a row depends on, and nothing else.

    :returns: ``detector``, ``seed``, and for a row that is pretrained ``method`` (its entry for the plug-in),
        ``data``, ``loss``, ``views``, ``schedule``, ``precision``, ``pictures``, ``code``; else these are None, but for
        ``code`` and ``checkpoint`` (its entry, and the file's ``digest``) of a row whose detector comes from a file.
    """
    settings = {"detector": row.detector, "seed": params["seed"]}
    settings |= dict.fromkeys(
        ("method", "data", "loss", "views", "schedule", "precision", "pictures", "checkpoint", "code"),
    )
    detector = ("detectors", row.detector["name"])
    if row.from_file:
        checkpoint = row.pretrain | {"digest": digest(row.pretrain["checkpoint"])}
        return settings | {"checkpoint": checkpoint, "code": code(detector)}
    if row.pretrain is None:
        return settings
    known = plugins.keywords("methods", row.plugin)
    used = [("methods", row.plugin), detector]
    settings["method"] = {"name": row.plugin, **row.pretrain["method"]}
    if settings["method"].get("search"):  # proposals made while it trains
        used.append(("proposals", settings["method"]["search"]["proposals"]["name"]))
    if "loss" in known:  # its keys are the loss's own and the method's weights; those of other losses are passed over
        mine = plugins.keywords("losses", row.loss["name"])
        settings["loss"] = {key: value for key, value in row.loss.items() if key in mine or key == "name"}
        settings["method"] |= {key: value for key, value in row.loss.items() if key in known and key != "name"}
        used.append(("losses", row.loss["name"]))
    views = {key: row.views[key] for key in ("weak", "strong") if key in known}
    settings |= {"data": row.data, "views": views, "schedule": row.pretrain["schedule"]}
    return settings | {"precision": params["precision"], "pictures": row.pretrain.get("pictures"), "code": code(*used)}


def finetuning(params: dict, section: dict, row: Row, benchmark: str) -> dict:
    """What the finetuning of a row on a benchmark depends on: ``detector``, ``schedule``, ``scoring``, ``views``,
    ``precision``, ``init_from``, ``predict_batch`` and ``code``.
    """
    schedule = rows.finetuning_schedule(section, row, benchmark)
    used = code(("detectors", row.detector["name"]))
    chosen = {"detector": row.detector, "schedule": schedule, "code": used, "precision": params["precision"]}
    chosen |= {"views": {key: section["views"][key] for key in ("weak", "predict")}, **section["finetune"]}
    return chosen | {"scoring": params["benchmarks"][benchmark].get("scoring", "coco")}


def backbones(params: dict, scale: str) -> dict:
    """What the backbone stage depends on: ``files`` (row -> backbone entry), ``backbones``, ``body``, ``seed``.

    And ``precision`` where one is trained, else None; ``digests`` of the checkpoint files.
    """
    names, used = chosen_backbones(params, scale)
    trained = code(*(("methods", entry["name"]) for entry in used.values() if "name" in entry))
    body = params["scales"][scale]["detector"]["backbone"]
    settings = {"files": names, "backbones": used, "body": body, "seed": params["seed"]}
    settings["digests"] = {e["checkpoint"]: digest(e["checkpoint"]) for e in used.values() if "checkpoint" in e}
    return settings | {"precision": params["precision"] if trained else None, "code": trained}


def chosen_backbones(params: dict, scale: str) -> tuple[dict[str, str], dict[str, dict]]:
    """Row -> name of its backbone, and name -> entry of those that the selected rows use."""
    section = params["scales"][scale]
    names, entries = {}, dict(section["backbones"])
    for name in rows.names(params):
        row = rows.row(params, scale, name)
        if row.from_file:  # which has a backbone in it
            names[name] = f"{name}@{row.pretrain['checkpoint']}"  # no name of an entry has an @
            prefix = f"{row.pretrain['network']}.backbone.0.body." if "network" in row.pretrain else None
            entries[names[name]] = {"checkpoint": row.pretrain["checkpoint"], "prefix": prefix}
        else:
            names[name] = section["backbones"][row.backbone].get("same_as", row.backbone)
    return names, {name: entries[name] for name in sorted(set(names.values()))}


def digest(path: str) -> str | None:
    """Of a checkpoint file, by which another file of the same name makes stale what was made of the former; None where
    there is none (yet).
    """
    return files.digest(path) if Path(path).is_file() else None


def code(*used: tuple[str, str]) -> dict[str, str]:
    """Path -> digest of all files in folders of plug-ins that these (kind, name) are made of.

    That is their own files and the shared ones (``_contrast.py``) that they import, directly or not. What they import
    from elsewhere (``proseco/nn``) stands in dvc.yaml.
    """
    starts = [Path("proseco", kind, f"{name}.py") for kind, name in used]
    return {path: digest for path, digest in sources.digests(starts).items() if path.split("/")[1] in plugins.KINDS}
