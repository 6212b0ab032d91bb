"""Pretrain the detector of a method on unlabelled images."""

from pathlib import Path

from proseco.base import cli, files, params


def main(*, scale: str, method: str) -> None:
    """Write the pretrained student and teacher: trained here, from a public file, or the backbone alone."""
    device = params.load()["device"]
    plan = files.read_json(Path("work", scale, "plan", "pretrain", f"{method}.json"))
    backbone = Path("checkpoints", scale, "backbone", f"{method}.safetensors")
    checkpoint = Path("checkpoints", scale, "pretrain", f"{method}.safetensors")
    with files.replacing(checkpoint) as out, files.replacing(Path("results", scale, "pretrain", method)) as results:
        if plan["checkpoint"] is not None:
            from proseco.methods import _public

            _public.run(plan, out, results)
        elif plan["method"] is None:
            from proseco.weights import start

            start.write(out, backbone, results)
        else:
            from proseco.methods import _pretraining

            _pretraining.run(plan, Path("work", scale, "shards"), backbone, out, results, device=device, title=method)


if __name__ == "__main__":
    cli.run(main)
