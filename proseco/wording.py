"""What the tables say of a row beside its results: its title and the settings that lines are told apart by."""

from proseco import rows
from proseco.base import plugins


def every(params: dict, scale: str) -> dict[str, dict]:
    """All methods and ablations of the parameters -> what is said of them; see :func:`settings`."""
    return {name: settings(params, scale, name) for name in (*params["methods"], *params["ablations"])}


def settings(params: dict, scale: str, name: str) -> dict:
    """What is said of a row at a scale, whether it is selected or not.

    :returns: ``title``; ``method``, the title of the method that it is; ``of``, where it is an ablation; and as far as
        they apply ``detector``, ``data`` (the root of the images it is pretrained on), ``queries``, ``batch``,
        ``scale`` (the smallest and the largest short edge in pixels), ``ema_rate``, ``loss``, ``delta``, ``tau_t``.
    """
    of = params["ablations"].get(name, {}).get("of")
    method, section = params["methods"][of or name], params["scales"][scale]
    said = {"title": params["ablations"][name]["title"] if of else method["title"], "method": method["title"]}
    said |= {"of": of} if of else {}
    if "detector" in method and method["detector"] not in section["detectors"]:  # the scale has no such row
        return said | {"detector": method["detector"]}
    row = rows.row(params, scale, name)
    source = section["propose"]["unlabelled"].get(row.data, {})
    said |= {"title": row.title, "detector": row.detector["name"], "queries": row.detector.get("queries")}
    said["data"] = None if row.from_file else source.get("root")
    if row.pretrain is None or row.from_file:
        return said
    edges = row.views["weak"]["short_edges"]
    said |= {"batch": row.pretrain["schedule"]["batch"], "scale": f"{min(edges)}-{max(edges)}"}
    said["ema_rate"] = row.pretrain["method"].get("ema_rate")
    if "loss" in plugins.keywords("methods", row.plugin):
        loss = plugins.options("losses", row.loss)
        said |= {"loss": row.loss["name"], "delta": loss.get("delta"), "tau_t": loss.get("tau_t")}
    return said
