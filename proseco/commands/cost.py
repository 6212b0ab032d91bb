"""``cost``: what the run that params.yaml selects will take, before any of it starts."""

import json
import subprocess
import sys
from contextlib import ExitStack
from csv import writer
from functools import partial
from pathlib import Path

from proseco.base import files, params, plugins
from proseco.base.errors import InputError
from proseco.commands import _measure
from proseco.experiment import estimate, matrix, plan, rows
from proseco.experiment.estimate import Rate, Workload


def main(
    *,
    scale: str | None = None,
    images_per_second: str = "",
    measure: bool = False,
    batch: int | None = None,
    csv: bool = False,
) -> None:
    """Say of every item of run how many images it will see, at which rate, in how many hours, and if it is done.

    A rate is the first there is of: one given, one measured now, those of this scale's own runs.

    :param scale: that of params.yaml if not given.
    :param images_per_second: ``pretrain=350,finetune=120``: of one GPU (with device: cpu, of the CPU) for backbone,
        pretrain, finetune and predict, of one core for propose; or of an item by its name.
    :param measure: run some steps of each network on drawn images, on the device at hand.
    :param batch: images of a step while measuring, such as one GPU's share of a batch; else the schedule's.
    :param csv: print the items alone, as CSV.
    """
    if batch is not None and (batch < 1 or not measure):
        raise InputError(f"--batch is {batch}; it must be a whole number above 0, and goes with --measure")
    settings = params.load()
    selected = settings["scale"]
    if scale is not None:
        params.get(settings, "scales", scale)
        settings["scale"] = scale
    wanted = plan.resolve(settings)
    works, scale = estimate.workloads(settings), settings["scale"]
    device = "CPU" if settings["device"] == "cpu" else "GPU"
    given_rates = estimate.parse_rates(images_per_second, matrix.items(settings), device)
    done, note = _done(settings, wanted) if scale == selected else (None, f"of scale {scale}, which is not selected")
    with ExitStack() as stack:
        measured = stack.enter_context(_measure.results(settings, batch=batch)) if measure else None
        rate_of = partial(_rate, settings, given_rates, measured, measure)
        works = estimate.with_rates(works, rate_of, done)
    lines = estimate.table(works)
    if csv:
        writer(sys.stdout, lineterminator="\n").writerows(lines)
        return
    print(_markdown(lines), "", _markdown(estimate.totals(works)), "", sep="\n")
    print("Not counted, as they take minutes: plan, data, inventory, split, source, recall, tabulate.")
    if any(schedule.get("patience") for schedule in settings["scales"][scale]["schedules"].values()):
        print(
            "A finetuning with patience may end before its last step: its images and hours are the most there can be."
        )
    if done is None:
        print(f"What is done is not known: {note}.")
    counted = dict.fromkeys(f"{work.images.images:,} from {work.images.source}" for work in works if work.images.images)
    print("Images:", *(f"- {text}" for text in counted), sep="\n")
    missing = [kind for kind in estimate.KINDS if any(work.kind == kind and work.rate is None for work in works)]
    if missing:
        rates = ",".join(f"{kind}=N" for kind in missing)
        print(f"No rate of {', '.join(missing)}: --measure takes one here, or give it: --images-per-second {rates}")


def _rate(
    settings: dict, given_rates: dict[str, Rate], measured: Path | None, measure: bool, work: Workload
) -> Rate | None:
    rate = given_rates.get(work.item.name) if work.kind != "predict" else None
    rate = rate or given_rates.get(work.kind)
    if rate is None and work.kind == "propose":
        return _search_rate(settings, measure, work.item.data)
    if rate is None and measured is not None:
        rate = estimate.recorded_rate(settings, work, measured)
        rate = rate and Rate(rate.images, rate.device, "measured")
    return rate or estimate.recorded_rate(settings, work, Path("results", settings["scale"]))


def _search_rate(settings: dict, measure: bool, data: str) -> Rate | None:
    proposals = rows.proposals(settings["scales"][settings["scale"]]["propose"], data)["proposals"]
    known = estimate.known_search_rate(proposals)
    if known is not None or not measure or "path" in plugins.keywords("proposals", proposals["name"]):
        return known  # there are no boxes of drawn scenes to read
    return _measure.search_rate(settings, params.located(settings, settings["scale"], proposals))


def _done(settings: dict, wanted: dict[str, dict]) -> tuple[set[str] | None, str]:
    """Names of the items whose outputs are there and up to date, with all that they need; or None, and why.

    DVC compares an item with the outputs of others as they are now; what these would be, only ``plan`` can say.
    """
    command = (sys.executable, "-m", "dvc", "status", "--json")
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        return None, (answer.stderr.strip().splitlines() or ["dvc status failed"])[0]
    changed = set(json.loads(answer.stdout))
    scale = settings["scale"]
    stale = {name for name, content in wanted.items() if _read(Path("work", scale, "plan", name)) != content}
    done: set[str] = set()
    for item in matrix.items(settings):  # what an item needs comes before it
        plans = {
            "propose": f"propose/{item.data}.json",
            "backbone": "backbone.json",
            "pretrain": f"pretrain/{item.row}.json",
            "finetune": f"finetune/{item.row}/{item.benchmark}.json",
        }
        late = plans.get(item.stage.removesuffix("_ablation")) in stale
        ready = all(name in done for name in item.needs) and not {f"data@{scale}", f"inventory@{scale}"} & changed
        if ready and not late and item.name not in changed:
            done.add(item.name)
    return done, ""


def _read(path: Path) -> dict | None:
    return files.read_json(path) if path.is_file() else None


def _markdown(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])
