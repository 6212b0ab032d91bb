"""Finetune a pretrained detector on the labelled images of one benchmark and seed, and score it."""

from pathlib import Path

from proseco.base import cli, files, params
from proseco.evaluation import finetune


def main(*, scale: str, method: str, benchmark: str, seed: int) -> None:
    """Write the best checkpoint by validation AP, its AP on the test images, the log and a picture."""
    settings = params.load()
    section = params.get(settings, "scales", scale)
    annotations = Path("work", scale, "annotations", benchmark, str(seed))
    plan = files.read_json(Path("work", scale, "plan", "finetune", f"{benchmark}.json"))
    cell = Path(scale, "finetune", method, benchmark, str(seed))
    with (
        files.replacing(Path("checkpoints", cell).with_suffix(".safetensors")) as out,
        files.replacing(Path("results", cell)) as results,
    ):
        finetune.run(
            names={"method": method, "benchmark": benchmark, "seed": seed},
            detector=section["detector"],
            views=section["views"],
            schedule=plan["schedule"],
            annotations={part: files.read_json(annotations / f"{part}.json") for part in ("train", "val", "test")},
            root=params.root(settings, scale, settings["benchmarks"][benchmark]["root"]),
            start=Path("checkpoints", scale, "pretrain", f"{method}.safetensors"),
            out=out,
            results=results,
            device=settings["device"],
            **section["finetune"],
        )


if __name__ == "__main__":
    cli.run(main)
