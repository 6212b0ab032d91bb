"""The backbone of each row: a public checkpoint imported, or one trained by a method over a network."""

from pathlib import Path

from proseco.base import cli, files, launch, params, scratch, sources
from proseco.base.errors import InputError
from proseco.runs import backbones
from proseco.weights import wanted


def main(*, scale: str) -> None:
    """Write one backbone file per row, in torchvision's parameter names."""
    settings = params.load()
    plan = files.read_json(Path("work", scale, "plan", "backbone.json"))
    missing = wanted.missing(plan["backbones"], scale=scale)
    if missing:
        raise InputError("; ".join(missing))
    roots = {
        name: params.root(settings, scale, entry["root"])
        for name, entry in plan["backbones"].items()
        if "root" in entry
    }
    inventory = [Path("work", scale, "inventory", "backbones.json")] if roots else []
    images = files.read_json(inventory[0]) if roots else {}
    depends = {
        name: {
            "code": sources.digests([__file__, Path("proseco", "methods", f"{plan['backbones'][name]['name']}.py")]),
            "images": images[name],
        }
        for name in roots
    }
    out, results = Path("checkpoints", scale, "backbone"), Path("results", scale, "backbone")
    with (
        scratch.set_aside(f"backbone-before-{scale}", out, results) as earlier,
        launch.working(
            "backbone", out, results, code=[__file__], inputs=inventory, planned=plan["code"], plan=plan
        ) as (work, new_checkpoints, new_results),
    ):
        new_results.mkdir()
        backbones.make(
            plan,
            roots,
            new_checkpoints,
            new_results,
            device=settings["device"],
            scratch=work,
            before=backbones.Before(*earlier, depends),
        )


if __name__ == "__main__":
    cli.run(main)
