"""Selective Search over the images to pretrain on, into WebDataset shards."""

from functools import partial
from pathlib import Path

from proseco.base import cli, environment, files, params, plugins, scratch
from proseco.base.errors import InputError
from proseco.data import filters, inventory, listing, offline, proposing, shards


def main(*, scale: str, data: str, part: str = "") -> None:
    """Write shards of images and proposals; with --part k/n every n-th of them from the k-th, to be collected later."""
    settings = params.load()
    made = files.read_json(Path("work", scale, "plan", "propose", f"{data}.json"))
    root = params.root(settings, scale, made["root"], archive=True)
    listed = Path("work", scale, "inventory", "unlabelled", f"{data}.tsv")
    stored = Path("work", scale, "inventory", "proposals", f"{data}.json")
    images = listing.load(listed)
    spec, sizes = made["proposals"], {key: made[key] for key in ("samples_per_shard", "shard_bytes")}
    located = params.located(settings, scale, spec)
    recipe = shards.Recipe(
        propose=plugins.bind("proposals", located),
        keep=partial(filters.keep, **made["filter"]),
        seed=made["seed"],
        min_side=made["min_side"],
        subset=made["subset"],
    )
    code = [*made["code"], filters.__file__, proposing.__file__, shards.__file__]
    unchanged = scratch.watch(code=[__file__, offline.__file__, *code], inputs=[listed, stored], planned=made["code"])

    def check() -> None:
        unchanged()
        survey = files.read_json(stored)
        if survey is not None and inventory.boxes(Path(located["root"]), made["subset"]) != survey:
            again = f"`dvc repro -f inventory@{scale}` reads them anew"
            raise InputError(f"the boxes in {spec['root']!r} are not those that stage inventory found; {again}")

    if not part:  # the run that collects looks at all of them
        check()
    fingerprint = scratch.fingerprint(
        code=code,
        libraries=("numpy", "numba", "opencv", "pillow"),
        listing=listing.digest(images),
        seed=recipe.seed,
        min_side=recipe.min_side,
        subset=recipe.subset,
        proposals=spec,
        stored=files.read_json(stored),
        filter=made["filter"],
        **sizes,
    )
    summary = offline.write(
        Path("work", scale, "shards", data),
        listing.base(root, made["subset"]),
        images,
        recipe,
        work=environment.scratch() / "propose" / fingerprint,
        max_skipped=made["max_skipped"],
        check=check,
        part=offline.parse_part(part),
        **sizes,
    )
    print(
        shards.describe(summary) if summary else f"part {part} is done; `dvc repro propose@{scale}-{data}` collects all"
    )


if __name__ == "__main__":
    cli.run(main)
