"""Finetune a pretrained detector on the labelled images of one benchmark and seed, and score it."""

from pathlib import Path

from proseco.base import files, launch, params, plugins
from proseco.runs import finetuning


def main(*, scale: str, method: str, benchmark: str, seed: int) -> None:
    """Write the best checkpoint by validation AP, its AP on the test images, the log and a picture."""
    settings = params.load()
    annotations = Path("work", scale, "annotations", benchmark, str(seed))
    plan = files.read_json(Path("work", scale, "plan", "finetune", method, f"{benchmark}.json"))
    parts = {part: annotations / f"{part}.json" for part in ("train", "val", "test")}
    start = Path("checkpoints", scale, "pretrain", f"{method}.safetensors")
    item = Path(scale, "finetune", method, benchmark, str(seed))
    names = {"method": method, "benchmark": benchmark, "seed": seed}
    chosen = {key: value for key, value in plan.items() if key != "code"}
    with launch.working(
        "finetune",
        Path("checkpoints", item).with_suffix(".safetensors"),
        Path("results", item),
        code=[__file__, plugins.path("methods", "supervised")],
        inputs=[*parts.values(), *(path.with_suffix(".images.txt") for path in parts.values()), start],
        planned=plan["code"],
        names=names,
        chosen=chosen,
    ) as (work, out, results):
        finetuning.run(
            names=names,
            annotations={part: files.read_json(path) for part, path in parts.items()},
            digest=files.digests(parts.values()),
            root=params.root(settings, scale, settings["benchmarks"][benchmark]["root"]),
            start=start,
            out=out,
            results=results,
            scratch=work,
            device=settings["device"],
            **chosen,
        )


if __name__ == "__main__":
    launch.run(main)
