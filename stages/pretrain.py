"""Pretrain the detector of a method on unlabelled images."""

from pathlib import Path

from proseco.base import files, launch, params


def read_plan(scale: str, method: str) -> dict:
    return files.read_json(Path("work", scale, "plan", "pretrain", f"{method}.json"))


def main(*, scale: str, method: str) -> None:
    """Write the pretrained student and teacher: trained here, from a public file, or the backbone alone."""
    device = params.load()["device"]
    plan = read_plan(scale, method)
    shards = Path("work", scale, "shards", str(plan["data"]))
    backbone = Path("checkpoints", scale, "backbone", f"{method}.safetensors")
    with launch.working(
        "pretrain",
        Path("checkpoints", scale, "pretrain", f"{method}.safetensors"),
        Path("results", scale, "pretrain", method),
        code=[__file__],
        inputs=[backbone, *([shards / "summary.json"] if plan["method"] else [])],
        planned=plan["code"] or {},
        plan=plan,
    ) as (work, out, results):
        if plan["checkpoint"] is not None:
            from proseco.runs import public

            public.run(plan, out, results)
        elif plan["method"] is None:
            from proseco.weights import start

            start.write(out, backbone, results)
        else:
            from proseco.runs import pretraining

            pretraining.run(plan, shards, backbone, out, results, device=device, scratch=work, title=method)


if __name__ == "__main__":
    launch.run(main, alone=lambda *, scale, method: read_plan(scale, method)["method"] is None)
