"""What the tables say of a row beside its results: its title and the settings that lines are told apart by."""

from proseco.base import plugins
from proseco.experiment import rows


def every(params: dict, scale: str) -> dict[str, dict]:
    """All methods and ablations of the parameters -> what is said of them; see :func:`settings`."""
    return {name: settings(params, scale, name) for name in (*params["methods"], *params["ablations"])}


def settings(params: dict, scale: str, name: str) -> dict:
    """What is said of a row at a scale, whether it is selected or not.

    :returns: ``title``; ``method``, the title of the method that it is; ``of``, where it is an ablation; and as far as
        they apply ``detector``, ``data`` (the root of the images that it, or else its backbone, is pretrained on),
        ``unlabelled`` (the key that it stands under), ``queries``, ``batch``, ``scale`` (the smallest and the largest
        short edge in pixels), ``ema_rate``, ``loss``, ``delta``, ``tau_t``.
    """
    of = params["ablations"].get(name, {}).get("of")
    method, section = params["methods"][of or name], params["scales"][scale]
    said = {"title": params["ablations"][name]["title"] if of else method["title"], "method": method["title"]}
    said |= {"of": of} if of else {}
    if not _there(params, scale, name):
        return said | {"detector": method["detector"]}
    row = rows.row(params, scale, name)
    source = section["propose"]["unlabelled"].get(row.data, {})
    if row.pretrain is None:
        source = {**source, **_body(section, row.backbone)}
    said |= {"title": row.title, "detector": row.detector["name"], "queries": row.detector.get("queries")}
    said["data"] = None if row.from_file else source.get("root")
    if row.pretrain is None or row.from_file:
        return said
    said["unlabelled"] = row.data
    edges = row.views["weak"]["short_edges"]
    said |= {"batch": row.pretrain["schedule"]["batch"], "scale": f"{min(edges)}-{max(edges)}"}
    said["ema_rate"] = row.pretrain["method"].get("ema_rate")
    if "loss" in plugins.keywords("methods", row.plugin):
        loss = plugins.options("losses", row.loss)
        said |= {"loss": row.loss["name"], "delta": loss.get("delta"), "tau_t": loss.get("tau_t")}
    return said


def alias(params: dict, scale: str) -> dict[str, str]:
    """Ablation -> the row whose results are its own; see :func:`proseco.experiment.rows.alias`."""
    there = [name for name in params["ablations"] if _there(params, scale, name)]
    return {name: rows.alias(params, scale, name) for name in there}


def _body(section: dict, name: str | None) -> dict:
    """The entry that a backbone is the same as, or its own."""
    entry = section["backbones"].get(name, {})
    return section["backbones"].get(entry.get("same_as"), entry)


def _there(params: dict, scale: str, name: str) -> bool:
    """Whether a scale has the detector of a row; it need not, as long as it does not run it."""
    method = params["methods"][params["ablations"].get(name, {}).get("of", name)]
    return "detector" not in method or method["detector"] in params["scales"][scale]["detectors"]


def families(params: dict) -> dict[str, dict[str, float]]:
    """Benchmarks that label different shares of the same images: what they share -> name -> percentage."""
    found: dict[str, dict[str, float]] = {}
    for name, entry in params["benchmarks"].items():
        if entry["rule"] in ("all", "uniform") and "train" in entry:
            images = f"{entry['root']}, {entry['train']}"
            found.setdefault(images, {})[name] = 100 * entry.get("fraction", 1.0)
    return found
