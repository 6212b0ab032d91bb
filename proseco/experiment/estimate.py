"""What a run will cost: the images that each item still has to see, over images a second.

Rates are of one GPU, of one CPU process, or of one core (proposals, which run on any number of them). A training on
several GPUs takes their time together, so hours of devices are the same for any number as far as they scale.
"""

import csv
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from proseco.base import files
from proseco.base.errors import InputError, one_of
from proseco.experiment import matrix, rows
from proseco.experiment.counts import Count, Counts
from proseco.training.schedules import Finetuning, Schedule, changed

#: What is done at a rate of its own.
KINDS = ("propose", "backbone", "pretrain", "finetune", "predict")
#: Images a second of one core of the native search, whole and fast (docs/paper-scale.md: 59 ms an image of ImageNet).
SEARCH = {"name": "selective_search", "mode": "fast", "long_edge": None}
SEARCH_RATE = 1 / 0.059


@dataclass(frozen=True)
class Rate:
    """Images a second of one ``device``: GPU, CPU or core; and where the figure comes from."""

    images: float
    device: str
    source: str


@dataclass(frozen=True)
class Pass:
    """One kind of work of one item: ``seen`` images in all, of ``images`` different ones."""

    item: matrix.Item
    kind: str
    images: Count
    batch: int | None
    steps: int | None
    seen: int | None
    #: A key of ``scales.<scale>.backbones``, of the work of that kind.
    backbone: str | None = None
    rate: Rate | None = None
    done: bool | None = None

    @property
    def hours(self) -> float | None:
        """Of the rate's device; None where the images or the rate are not known."""
        return None if self.rate is None or self.seen is None else self.seen / self.rate.images / 3600


def passes(params: dict) -> list[Pass]:
    """All work of a run whose time grows with the images, without rates.

    Left out are rows that are not trained, or whose network comes from a file, and stages that take minutes.

    :param params: params.yaml, checked.
    :raises InputError: a batch is larger than the data.
    """
    scale = params["scale"]
    section = params["scales"][scale]
    counts = Counts(scale, section, params["benchmarks"])
    found = []
    for item in matrix.items(params):
        stage = item.stage.removesuffix("_ablation")
        if stage == "propose":
            images = counts.unlabelled(item.data)
            found.append(Pass(item, "propose", images, None, None, images.images))
        elif stage == "backbone":
            for name in _trained_backbones(params, section):
                entry = section["backbones"][name]
                one = _training(item, Schedule(**entry["schedule"]), counts.backbone(name))
                found.append(replace(one, backbone=name))
        elif stage == "pretrain":
            row = rows.row(params, scale, item.row)
            if row.pretrain is not None and not row.from_file:
                found.append(_training(item, Schedule(**row.pretrain["schedule"]), counts.unlabelled(row.data)))
        elif stage == "finetune":
            found += _finetuning(params, section, counts, item)
    return found


def _trained_backbones(params: dict, section: dict) -> list[str]:
    names = []
    for name in rows.names(params):
        row = rows.row(params, params["scale"], name)
        if not row.from_file:
            names.append(section["backbones"][row.backbone].get("same_as", row.backbone))
    return [name for name in dict.fromkeys(names) if "name" in section["backbones"][name]]


def _training(item: matrix.Item, plan: Schedule, images: Count) -> Pass:
    kind, steps = item.stage.removesuffix("_ablation"), plan.steps
    if images.images is not None:
        try:
            steps = plan.count(images.images)
        except InputError as error:
            raise InputError(f"{item.name}: {error}") from None
    return Pass(item, kind, images, plan.batch, steps, None if steps is None else steps * plan.batch)


def _finetuning(params: dict, section: dict, counts: Counts, item: matrix.Item) -> list[Pass]:
    """The training, and the images to choose the checkpoint with and to score."""
    schedules, row = section["schedules"], rows.row(params, params["scale"], item.row)
    schedule = changed(schedules.get(item.benchmark, schedules.get("default")), row.schedule)
    images = {part: counts.part(item.benchmark, item.seed, part) for part in ("train", "val", "test")}
    plan = Finetuning(**schedule)
    training = _training(item, plan, images["train"])
    # Where the test images are the validation's, they are not run through once more (proseco.evaluation.finetune).
    once = section["split"]["validation"] == "test"
    times = plan.validations if images["train"].images is None else len(plan.moments(images["train"].images))
    val, test = images["val"].images, 0 if once else images["test"].images
    seen = None if None in (times, val, test) else times * val + test
    source = images["val"].source if once else f"{images['val'].source}; {images['test'].source}"
    total = None if None in (val, test) else val + test
    return [training, Pass(item, "predict", Count(total, source), section["finetune"]["predict_batch"], None, seen)]


def rated(found: Iterable[Pass], rate_of: Callable[[Pass], Rate | None], done: set[str] | None) -> list[Pass]:
    """With rates, and with what is done: names of items, None where that is not known."""
    return [replace(one, rate=rate_of(one), done=None if done is None else one.item.name in done) for one in found]


def given(text: str, items: Iterable[matrix.Item], device: str) -> dict[str, Rate]:
    """``pretrain=350,predict=900`` -> name of a kind of work, or of an item, -> rate.

    :param device: whose rates these are, GPU or CPU.
    :raises InputError: another name, or a value that is no number above 0.
    """
    found, names = {}, (*KINDS, *(item.name for item in items))
    for word in filter(None, text.split(",")):
        name, _, value = word.strip().partition("=")
        if name not in names:
            raise one_of("kind of work", name, KINDS, "--images-per-second, or the name of an item")
        try:
            images = float(value)
        except ValueError:
            images = math.nan
        if not 0 < images < math.inf:
            raise InputError(f"--images-per-second: {name} is {value!r}; it must be a number above 0")
        found[name] = Rate(images, "core" if name.startswith("propose") else device, "given")
    return found


def search(proposals: dict) -> Rate | None:
    """The rate of making proposals that was measured once, if these are the ones."""
    same = all(proposals.get(key, SEARCH[key]) == value for key, value in SEARCH.items())
    return Rate(SEARCH_RATE, "core", "docs/paper-scale.md") if same else None


def of_runs(params: dict, one: Pass, results: Path) -> Rate | None:
    """From what trainings have recorded: this item's, else those of rows that are like its row.

    Alike are rows of one plug-in and detector; for finetuning and prediction, rows of one detector.

    :param results: of the scale.
    """
    scale, name = params["scale"], one.item.row
    if one.kind == "backbone":
        return _median([results / "backbone" / one.backbone / "speed.csv"])
    if name is None:
        return None
    mine = rows.row(params, scale, name)
    everything = [name, *(other for other in (*params["methods"], *params["ablations"]) if other != name)]
    places = []
    for other in everything:
        row = rows.row(params, scale, other) if other == name or _resolvable(params, other) else None
        if row is None or row.detector["name"] != mine.detector["name"]:
            continue
        if one.kind == "pretrain":
            places.append(results / "pretrain" / other if row.plugin == mine.plugin else None)
        else:
            cell = results / "finetune" / other
            places.append(cell / str(one.item.benchmark) / str(one.item.seed))
            places.append(cell)
    file = "predict.csv" if one.kind == "predict" else "speed.csv"
    for place in filter(None, places):
        rate = _median(sorted(place.rglob(file)))
        if rate is not None:
            return rate
    return None


def _resolvable(params: dict, name: str) -> bool:
    """Whether the scale has the detector that a row asks for; only rows of the run are checked for it."""
    of = params["methods"][name if name in params["methods"] else params["ablations"][name]["of"]]
    return "detector" not in of or of["detector"] in params["scales"][params["scale"]]["detectors"]


def _median(paths: list[Path]) -> Rate | None:
    """The median of files with a column ``images_per_second``, of one process of the training that wrote them."""
    rates, devices, machines = [], set(), set()
    for path in filter(Path.is_file, paths):
        try:
            with open(path, newline="", encoding="utf-8") as file:
                values = [float(row["images_per_second"]) for row in csv.DictReader(file)]
        except (KeyError, ValueError):
            continue
        beside = [path.with_name(name) for name in ("run.json", "cost.json")]
        facts = {key: value for file in beside if file.is_file() for key, value in files.read_json(file).items()}
        if values:
            rates.append(statistics.median(values) / facts.get("processes", 1))
            devices.add(_device(facts))
            machines.add(facts.get("hardware"))
    if len(devices) != 1:  # none, or runs of both, which have no median
        return None
    source = str(paths[0].parent) if len(paths) == 1 else f"{len(rates)} runs"
    machine = machines.pop()
    source += f" ({machine})" if machine and not machines else ""
    return Rate(statistics.median(rates), devices.pop(), source)


def _device(facts: dict) -> str:
    """Of a training: run.json has its ``device``, cost.json its ``hardware``, of a CPU with the threads it used."""
    if "device" in facts:
        return "GPU" if facts["device"].startswith("cuda") else "CPU"
    return "CPU" if "thread" in facts.get("hardware", "thread") else "GPU"


def table(found: list[Pass]) -> list[list[str]]:
    """Header and a row a pass, as text; ``?`` where nothing says."""
    header = ["item", "work", "images", "batch", "steps", "images seen", "images/s", "rate from", "hours", "of", "done"]
    return [header] + [
        [
            one.item.name,
            one.kind,
            _number(one.images.images),
            _number(one.batch, ""),
            _number(one.steps, "" if one.kind in ("propose", "predict") else "?"),
            _number(one.seen),
            f"{one.rate.images:,.4g}" if one.rate else "?",
            one.rate.source if one.rate else "",
            _hours([one.hours]),
            one.rate.device if one.rate else "",
            {True: "yes", False: "", None: "?"}[one.done],
        ]
        for one in found
    ]


def totals(found: list[Pass]) -> list[list[str]]:
    """Header and a row a kind of work and device, then a row a device for all; ``left`` is without what is done."""
    groups: dict[tuple[str, str], list[Pass]] = {}
    for one in found:
        device = one.rate.device if one.rate else "?"
        groups.setdefault((one.kind, device), []).append(one)
    lines = [["work", "items", "images seen", "hours", "left", "of"]]
    lines += [_total(kind, device, part) for (kind, device), part in groups.items()]
    for device in dict.fromkeys(device for _, device in groups):
        lines.append(_total("all", device, [one for (_, d), part in groups.items() if d == device for one in part]))
    return lines


def _total(title: str, device: str, part: list[Pass]) -> list[str]:
    left = [one for one in part if not one.done]
    seen = [one.seen for one in part]
    hours = [[one.hours for one in some] for some in (part, left)]
    return [
        title,
        _number(len({one.item.name for one in part})),
        _number(None if None in seen else sum(seen)),
        *map(_hours, hours),
        device,
    ]


def _hours(values: list[float | None]) -> str:
    """Their sum."""
    total = "?" if None in values else sum(values)
    return total if total == "?" else f"{total:,.1f}" if total >= 10 else f"{total:.2g}"


def _number(value: int | None, nothing: str = "?") -> str:
    return nothing if value is None else f"{value:,}"
