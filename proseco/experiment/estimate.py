"""What a run will cost: the images that each item still has to see, over images per second.

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
from proseco.experiment import matrix, plan, rows
from proseco.experiment.counts import Count, Counts
from proseco.training.schedules import Finetuning, Schedule

#: What is done at a rate of its own.
KINDS = ("propose", "backbone", "pretrain", "finetune", "predict")
#: Images per second of one core of the native search, whole and fast (docs/paper-scale.md: 49 ms an image of ImageNet).
SEARCH = {"name": "selective_search", "mode": "fast", "long_edge": None}
SEARCH_RATE = 1 / 0.049


@dataclass(frozen=True)
class Rate:
    """Images per second of one ``device``: GPU, CPU or core; and where the figure comes from."""

    images: float
    device: str
    source: str


@dataclass(frozen=True)
class Workload:
    """One kind of work of one item: it sees ``seen`` images in all, of ``images`` different ones."""

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


def workloads(params: dict) -> list[Workload]:
    """All work of a run whose time grows with the images, without rates.

    Left out are rows that are not trained, or whose network comes from a file, and stages that take minutes.

    :param params: params.yaml, checked.
    :raises InputError: a batch is larger than the data.
    """
    scale = params["scale"]
    section = params["scales"][scale]
    counts = Counts(scale, section, params["benchmarks"])
    works = []
    for item in matrix.items(params):
        stage = item.stage.removesuffix("_ablation")
        if stage == "propose":
            images = counts.unlabelled(item.data)
            works.append(Workload(item, "propose", images, None, None, images.images))
        elif stage == "backbone":
            for name in _trained_backbones(params):
                entry = section["backbones"][name]
                work = _training(item, Schedule(**entry["schedule"]), counts.backbone(name))
                works.append(replace(work, backbone=name))
        elif stage == "pretrain":
            row = rows.row(params, scale, item.row)
            if row.pretrained_here:
                works.append(_training(item, Schedule(**row.pretrain["schedule"]), counts.unlabelled(row.data)))
        elif stage == "finetune":
            works += _finetuning(params, section, counts, item)
    return works


def _trained_backbones(params: dict) -> list[str]:
    """Of the selected rows, in their order, each once."""
    names, entries = plan.chosen_backbones(params, params["scale"])
    return [name for name in dict.fromkeys(names.values()) if "name" in entries[name]]


def _training(item: matrix.Item, schedule: Schedule, images: Count) -> Workload:
    kind, steps = item.stage.removesuffix("_ablation"), schedule.steps
    if images.images is not None:
        try:
            steps = schedule.count(images.images)
        except InputError as error:
            raise InputError(f"{item.name}: {error}") from None
    return Workload(item, kind, images, schedule.batch, steps, None if steps is None else steps * schedule.batch)


def _finetuning(params: dict, section: dict, counts: Counts, item: matrix.Item) -> list[Workload]:
    """The training, and the images to choose the checkpoint with and to score."""
    row = rows.row(params, params["scale"], item.row)
    schedule = Finetuning(**rows.finetuning_schedule(section, row, item.benchmark))
    images = {part: counts.part(item.benchmark, item.seed, part) for part in ("train", "val", "test")}
    training = _training(item, schedule, images["train"])
    # Where the test images are the validation's, they are not run through once more (proseco.runs.finetuning).
    once = section["split"]["validation"] == "test"
    times = schedule.validations if images["train"].images is None else len(schedule.moments(images["train"].images))
    val, test = images["val"].images, 0 if once else images["test"].images
    seen = None if None in (times, val, test) else times * val + test
    source = images["val"].source if once else f"{images['val'].source}; {images['test'].source}"
    total = None if None in (val, test) else val + test
    batch = section["finetune"]["predict_batch"]
    return [training, Workload(item, "predict", Count(total, source), batch, None, seen)]


def with_rates(
    works: Iterable[Workload], rate_of: Callable[[Workload], Rate | None], done: set[str] | None
) -> list[Workload]:
    """The same with their rates, and with what is done.

    :param done: names of items; None where it is not known.
    """
    return [replace(work, rate=rate_of(work), done=None if done is None else work.item.name in done) for work in works]


def parse_rates(text: str, items: Iterable[matrix.Item], device: str) -> dict[str, Rate]:
    """``pretrain=350,predict=900`` -> name of a kind of work, or of an item, -> rate.

    :param device: whose rates these are, GPU or CPU.
    :raises InputError: another name, or a value that is no number above 0.
    """
    rates, names = {}, (*KINDS, *(item.name for item in items))
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
        rates[name] = Rate(images, "core" if name.startswith("propose") else device, "given")
    return rates


def known_search_rate(proposals: dict) -> Rate | None:
    """The rate of making proposals that was measured once, if these are the ones."""
    same = all(proposals.get(key, SEARCH[key]) == value for key, value in SEARCH.items())
    return Rate(SEARCH_RATE, "core", "docs/paper-scale.md") if same else None


def recorded_rate(params: dict, work: Workload, results: Path) -> Rate | None:
    """The rate that trainings have recorded: this item's, else those of rows that are like its row.

    Alike are rows of one plug-in and detector; for finetuning and prediction, rows of one detector.

    :param results: of the scale.
    """
    scale, name = params["scale"], work.item.row
    if work.kind == "backbone":
        return _median([results / "backbone" / work.backbone / "speed.csv"])
    if name is None:
        return None
    mine = rows.row(params, scale, name)
    folders = []
    for other in dict.fromkeys([name, *params["methods"], *params["ablations"]]):
        if not rows.has_detector(params, scale, other):  # only rows of the run are checked for it
            continue
        row = rows.row(params, scale, other)
        if row.detector["name"] != mine.detector["name"]:
            continue
        if work.kind == "pretrain":
            folders += [results / "pretrain" / other] if row.plugin == mine.plugin else []
        else:
            folder = results / "finetune" / other
            folders += [folder / str(work.item.benchmark) / str(work.item.seed), folder]
    file = "predict.csv" if work.kind == "predict" else "speed.csv"
    for folder in folders:
        rate = _median(sorted(folder.rglob(file)))
        if rate is not None:
            return rate
    return None


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
        processes = facts.get("processes", 1)
        if values and processes is not None:  # else their number changed on the way
            rates.append(statistics.median(values) / processes)
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


def table(works: list[Workload]) -> list[list[str]]:
    """Header and one row per workload, as text; ``?`` where nothing says."""
    header = ["item", "work", "images", "batch", "steps", "images seen", "images/s", "rate from", "hours", "of", "done"]
    return [header] + [
        [
            work.item.name,
            work.kind,
            _number(work.images.images),
            _number(work.batch, ""),
            _number(work.steps, "" if work.kind in ("propose", "predict") else "?"),
            _number(work.seen),
            f"{work.rate.images:,.4g}" if work.rate else "?",
            work.rate.source if work.rate else "",
            _hours([work.hours]),
            work.rate.device if work.rate else "",
            {True: "yes", False: "", None: "?"}[work.done],
        ]
        for work in works
    ]


def totals(works: list[Workload]) -> list[list[str]]:
    """Header and one row per kind of work and device, then one per device for all; ``left`` is without what is done."""
    groups: dict[tuple[str, str], list[Workload]] = {}
    for work in works:
        device = work.rate.device if work.rate else "?"
        groups.setdefault((work.kind, device), []).append(work)
    lines = [["work", "items", "images seen", "hours", "left", "of"]]
    lines += [_total(kind, device, part) for (kind, device), part in groups.items()]
    for device in dict.fromkeys(device for _, device in groups):
        lines.append(_total("all", device, [work for (_, d), part in groups.items() if d == device for work in part]))
    return lines


def _total(title: str, device: str, works: list[Workload]) -> list[str]:
    left = [work for work in works if not work.done]
    seen = [work.seen for work in works]
    hours = [[work.hours for work in some] for some in (works, left)]
    return [
        title,
        _number(len({work.item.name for work in works})),
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
