"""What a run needs of the data that is there: folders, and as many labelled images as a batch has."""

from proseco.experiment import plan, rows
from proseco.training.schedules import override


def roots(params: dict, scale: str) -> dict[str, bool]:
    """Roots of the images without labels, to pretrain detectors or backbones on, as their entries give them -> whether
    it may be a tar.

    :param params: params.yaml, checked.
    """
    section, run = params["scales"][scale], params["run"]
    found = {entry["root"]: True for entry in section["backbones"].values() if "root" in entry}  # inventory lists all
    found |= {section["propose"]["unlabelled"][name]["root"]: True for name in run["unlabelled"]}
    _, trained = plan.chosen_backbones(params, scale)
    return found | {entry["root"]: False for entry in trained.values() if "root" in entry}


def batches(params: dict, scale: str, benchmark: str, images: int) -> list[str]:
    """A line for each batch of a selected row's finetuning that is larger than the labelled images, with its key.

    :param params: params.yaml, checked.
    :param images: the fewest that a seed labels.
    """
    schedules, run = params["scales"][scale]["schedules"], params["run"]
    name = benchmark if benchmark in schedules else "default"
    found = {}  # place -> batch; rows share them
    for method in [*run["methods"], *(run["ablations"] if benchmark in run["ablation_benchmarks"] else [])]:
        row = rows.row(params, scale, method)
        of = params["methods"][method if method in params["methods"] else params["ablations"][method]["of"]]
        place = f"detectors.{of['detector']}.schedule" if "batch" in row.schedule else f"schedules.{name}"
        found[f"scales.{scale}.{place}.batch"] = override(schedules[name], row.schedule)["batch"]
    return [
        f"{benchmark}: {place} is {batch}; it must be at most {images}, the labelled images to train on (params.yaml)"
        for place, batch in found.items()
        if batch > images
    ]
