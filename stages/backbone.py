"""The backbone of each row: a public checkpoint imported, or one trained by a method over a network."""

from pathlib import Path

from proseco.base import cli, files, params, scratch, sources
from proseco.base.errors import InputError
from proseco.methods import _backbones
from proseco.weights import wanted


def main(*, scale: str) -> None:
    """Write one backbone file a row, in torchvision's parameter names."""
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
    out, results = Path("checkpoints", scale, "backbone"), Path("results", scale, "backbone")
    code = [__file__, *plan["code"]]
    depends = {"code": sources.digests(code), "images": {path.name: files.digest(path) for path in inventory}}
    before = _backbones.Before(out, results, depends)
    with (
        scratch.folder("backbone", code=code, inputs=inventory, plan=plan) as kept,
        files.replacing(out) as new,
        files.replacing(results) as said,
    ):
        said.mkdir()
        _backbones.make(plan, roots, new, said, device=settings["device"], scratch=kept, before=before)


if __name__ == "__main__":
    cli.run(main)
