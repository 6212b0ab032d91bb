"""What a run needs of the data that is there: folders, and as many labelled images as a batch has."""

from proseco.experiment import plan, rows


def roots(params: dict, scale: str) -> dict[str, bool]:
    """Roots of the images without labels, to pretrain detectors or backbones on, as their entries give them -> whether
    it may be a tar.

    :param params: params.yaml, checked.
    """
    section, run = params["scales"][scale], params["run"]
    # Of all backbones, as stage inventory lists their roots whether they are used or not.
    archives = {entry["root"]: True for entry in section["backbones"].values() if "root" in entry}
    archives |= {section["propose"]["unlabelled"][name]["root"]: True for name in run["unlabelled"]}
    _, trained = plan.chosen_backbones(params, scale)
    return archives | {entry["root"]: False for entry in trained.values() if "root" in entry}


def batches(params: dict, scale: str, benchmark: str, images: int) -> list[str]:
    """A line for each batch of a selected row's finetuning that is larger than the labelled images, with its key.

    :param params: params.yaml, checked.
    :param images: the fewest that a seed labels.
    """
    section, run = params["scales"][scale], params["run"]
    key = benchmark if benchmark in section["schedules"] else "default"
    batch_of = {}  # place -> batch; rows share them
    for name in [*run["methods"], *(run["ablations"] if benchmark in run["ablation_benchmarks"] else [])]:
        row = rows.row(params, scale, name)
        detector = rows.method_of(params, name).get("detector")
        place = f"detectors.{detector}.schedule" if "batch" in row.schedule else f"schedules.{key}"
        batch_of[f"scales.{scale}.{place}.batch"] = rows.finetuning_schedule(section, row, benchmark)["batch"]
    return [
        f"{benchmark}: {place} is {batch}; it must be at most {images}, the labelled images to train on (params.yaml)"
        for place, batch in batch_of.items()
        if batch > images
    ]
