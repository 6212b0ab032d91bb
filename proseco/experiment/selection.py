"""What a run selects, held against what the selected scale has: sections ``run`` and ``selections`` of params.yaml."""

from proseco.base.errors import InputError
from proseco.experiment import checks, matrix, rows

LISTS = ("methods", "benchmarks", "seeds", "ablations", "ablation_benchmarks", "unlabelled")

#: The one method that a row may have without a pretraining; any other would silently be finetuned as if it were this.
NOT_PRETRAINED = "supervised"


def check(params: dict) -> None:
    """Refuse a run of the selected scale that names what there is not, or that lacks what its rows need; and lists to
    choose from (``selections``) that would be refused whatever the scale.

    :raises InputError: the value, the choices and the place, in one line.
    """
    for name, lists in checks.entries(params["selections"], "selections"):
        _lists(params, lists, f"selections.{name}")
    _lists(params, params["run"], "run")
    scale = params["scale"]
    section, place = params["scales"][scale], f"scales.{scale}"
    needed = {f"{place}.backbones.{name}": e["root"] for name, e in section["backbones"].items() if "root" in e}
    for name in params["run"]["unlabelled"]:
        checks.choice(name, section["propose"]["unlabelled"], "data set", f"run.unlabelled; {place}.propose.unlabelled")
        needed[f"{place}.propose.unlabelled.{name}"] = section["propose"]["unlabelled"][name]["root"]
        made = rows.proposals(section["propose"], name)["proposals"]
        if "root" in made:
            needed[f"the proposals of {place}.propose.unlabelled.{name}"] = made["root"]
    for name in rows.names(params):
        _row(params, section, name, place)
    for name in params["run"]["benchmarks"]:
        needed[f"benchmarks.{name}"] = params["benchmarks"][name]["root"]
        if not {name, "default"} & set(section["schedules"]):
            raise InputError(f"{place}.schedules lacks {name}, which run.benchmarks selects (params.yaml)")
    for who, root in needed.items():
        if "/" not in root and section["roots"].get(root) is None:
            raise InputError(f"{who} needs {place}.roots.{root}, which is not set (params.yaml)")
    _stages(params)
    _titles(params)


def _lists(params: dict, run: dict, place: str) -> None:
    checks.keys(run, dict.fromkeys(LISTS, "list"), place)
    checks.choices(run["methods"], params["methods"], "method", f"{place}.methods")
    checks.choices(run["benchmarks"], params["benchmarks"], "benchmark", f"{place}.benchmarks")
    seeds = run["seeds"]
    if not checks.fits(seeds, "list[int]") or len(set(seeds)) < len(seeds):
        raise InputError(
            f"{place}.seeds is {seeds!r}; it must be a list of different whole numbers from 0 (params.yaml)"
        )
    sources = {key for section in params["scales"].values() for key in section["propose"]["unlabelled"]}
    checks.choices(run["unlabelled"], sources, "data set", f"{place}.unlabelled; propose.unlabelled")
    if rows.MAIN not in run["unlabelled"]:
        raise InputError(f"{place}.unlabelled lacks {rows.MAIN}, whose proposals stage recall measures (params.yaml)")
    if run["ablations"]:
        checks.choices(run["ablations"], params["ablations"], "ablation", f"{place}.ablations")
        there = f"{place}.ablation_benchmarks"
        there += f"; {place}.benchmarks has them split" if run["ablation_benchmarks"] else ""
        checks.choices(run["ablation_benchmarks"], run["benchmarks"], "benchmark", there)


def _row(params: dict, section: dict, name: str, place: str) -> None:
    """What the selected scale must have for a row."""
    who = f"methods.{name}" if name in params["methods"] else f"ablations.{name}"
    method = rows.method_of(params, name)
    if "detector" in method:
        checks.choice(method["detector"], section["detectors"], "detector", f"{who}; {place}.detectors")
    row = rows.row(params, params["scale"], name)
    if row.from_file:
        if name in params["ablations"]:
            raise InputError(f"{who}: the detector of its method comes from a file; there is nothing to change")
        return
    if row.backbone is None:
        raise InputError(
            f"{who}.backbone is null, so its detector comes from a file: {place}.pretrain.{name} needs a checkpoint "
            "(params.yaml)"
        )
    checks.choice(row.backbone, section["backbones"], "backbone", f"{who}; {place}.backbones")
    if row.pretrain is None and row.plugin != NOT_PRETRAINED:
        raise InputError(f"{place}.pretrain lacks {row.plugin}, the plug-in of {who} (params.yaml)")
    if row.pretrain is not None and row.data not in params["run"]["unlabelled"]:
        raise InputError(
            f"{who} is pretrained on {row.data}, which run.unlabelled lacks; it has "
            f"{', '.join(params['run']['unlabelled'])} (params.yaml)"
        )


def _stages(params: dict) -> None:
    """DVC joins the names in a matrix with hyphens, of which ours may have some."""
    seen: dict[str, matrix.Item] = {}
    for item in matrix.items(params):
        other = seen.setdefault(item.name, item)
        if other is not item:
            both = " and ".join(f"{cell.row!r} on {cell.benchmark!r}" for cell in (other, item))
            raise InputError(
                f"run: {both} would be one stage, {item.name}; expected names that differ joined by '-' (params.yaml)"
            )


def _titles(params: dict) -> None:
    """Tables and pictures know rows and benchmarks by their titles, so one of two would hide the other."""
    titles = {name: rows.row(params, params["scale"], name).title for name in rows.names(params)}
    _different(titles, "rows")
    _different({name: params["benchmarks"][name]["title"] for name in params["run"]["benchmarks"]}, "benchmarks")


def _different(titles: dict[str, str], what: str) -> None:
    seen: dict[str, str] = {}
    for name, title in titles.items():
        other = seen.setdefault(title, name)
        if other != name:
            raise InputError(
                f"run: {what} {other!r} and {name!r} have one title, {title!r}; expected two (params.yaml)"
            )


def names(params: dict, name: str) -> dict:
    """The lists of one selection, for ``run``.

    :raises InputError: there is none of that name.
    """
    checks.choice(name, params["selections"], "selection", "params.yaml: selections")
    return params["selections"][name]
