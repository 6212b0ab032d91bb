"""What the tables say of a row beside its results: its title and the settings that lines are told apart by."""

from proseco.base import plugins
from proseco.experiment import rows


def describe_all(params: dict, scale: str) -> dict[str, dict]:
    """All methods and ablations of the parameters -> what is said of them; see :func:`describe`."""
    return {name: describe(params, scale, name) for name in (*params["methods"], *params["ablations"])}


def describe(params: dict, scale: str, name: str) -> dict:
    """What is said of a row at a scale, whether it is selected or not.

    :returns: ``title``; ``method``, the title of the method that it is; ``of``, where it is an ablation; and as far as
        they apply ``detector``, ``data`` (the root of the images that it, or else its backbone, is pretrained on),
        ``unlabelled`` (the key that it stands under), ``queries``, ``batch``, ``scale`` (the smallest and the largest
        short edge in pixels), ``ema_rate``, ``loss``, ``delta``, ``tau_t``.
    """
    method, section = rows.method_of(params, name), params["scales"][scale]
    description = {"title": method["title"], "method": method["title"]}
    if name in params["ablations"]:
        description |= {"title": params["ablations"][name]["title"], "of": params["ablations"][name]["of"]}
    if not rows.has_detector(params, scale, name):
        return description | {"detector": method["detector"]}
    row = rows.row(params, scale, name)
    source = section["propose"]["unlabelled"].get(row.data, {})
    if row.pretrain is None:
        source = {**source, **_body(section, row.backbone)}
    description |= {"title": row.title, "detector": row.detector["name"], "queries": row.detector.get("queries")}
    description["data"] = None if row.from_file else source.get("root")
    if not row.pretrained_here:
        return description
    description["unlabelled"] = row.data
    edges = row.views["weak"]["short_edges"]
    description |= {"batch": row.pretrain["schedule"]["batch"], "scale": f"{min(edges)}-{max(edges)}"}
    description["ema_rate"] = row.pretrain["method"].get("ema_rate")
    if "loss" in plugins.keywords("methods", row.plugin):
        loss = plugins.options("losses", row.loss)
        description |= {"loss": row.loss["name"], "delta": loss.get("delta"), "tau_t": loss.get("tau_t")}
    return description


def data(params: dict, scale: str) -> str:
    """What the selected benchmarks' images are, where the scale draws them; else an empty text."""
    if not params["scales"][scale]["generate"]:
        return ""
    chosen = [params["benchmarks"][name] for name in params["run"]["benchmarks"]]
    drawn = [entry["title"] for entry in chosen if "/" not in entry["root"]]  # others are the user's own
    which = "" if len(drawn) == len(chosen) else f"{', '.join(drawn)}: "
    return f"{which}drawn scenes under the names of the data sets" if drawn else ""


def alias(params: dict, scale: str) -> dict[str, str]:
    """Ablation -> the row whose results are its own; see :func:`proseco.experiment.rows.alias`."""
    return {
        name: rows.alias(params, scale, name) for name in params["ablations"] if rows.has_detector(params, scale, name)
    }


def _body(section: dict, name: str | None) -> dict:
    """The entry that a backbone is the same as, or its own."""
    entry = section["backbones"].get(name, {})
    return section["backbones"].get(entry.get("same_as"), entry)


def families(params: dict) -> dict[str, dict[str, float]]:
    """Benchmarks that label different shares of the same images: what they share -> name -> percentage."""
    percentages: dict[str, dict[str, float]] = {}
    for name, entry in params["benchmarks"].items():
        if entry["rule"] in ("all", "uniform") and "train" in entry:
            images = f"{entry['root']}, {entry['train']}"
            percentages.setdefault(images, {})[name] = 100 * entry.get("fraction", 1.0)
    return percentages
