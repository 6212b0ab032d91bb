"""Selective Search over the images to pretrain on, into WebDataset shards."""

from functools import partial
from pathlib import Path

from proseco.base import cli, environment, files, params, plugins, scratch
from proseco.data import filters, listing, offline, proposing, shards


def main(*, scale: str, data: str, part: str = "") -> None:
    """Write shards of images and proposals; with --part k/n every n-th of them from the k-th, to be collected later."""
    settings = params.load()
    section = params.get(settings, "scales", scale, "propose")
    source = params.get(section, "unlabelled", data)
    root = params.root(settings, scale, source["root"], archive=True)
    images = listing.load(Path("work", scale, "inventory", "unlabelled", f"{data}.tsv"))
    sizes = {key: section[key] for key in ("samples_per_shard", "shard_bytes")}
    made = files.read_json(Path("work", scale, "plan", "propose", f"{data}.json"))
    spec = made["proposals"]
    recipe = shards.Recipe(
        propose=plugins.bind("proposals", params.located(settings, scale, spec)),
        keep=partial(filters.keep, **made["filter"]),
        seed=settings["seed"],
        min_side=section["min_side"],
        subset=source["subset"],
    )
    fingerprint = scratch.fingerprint(
        code=[*made["code"], filters.__file__, proposing.__file__, shards.__file__],
        libraries=("numpy", "numba", "opencv", "pillow"),
        listing=listing.digest(images),
        seed=recipe.seed,
        min_side=recipe.min_side,
        proposals=spec,
        stored=files.read_json(Path("work", scale, "inventory", "proposals", f"{data}.json")),
        filter=made["filter"],
        **sizes,
    )
    summary = offline.write(
        Path("work", scale, "shards", data),
        listing.base(root, source["subset"]),
        images,
        recipe,
        work=environment.scratch() / "propose" / fingerprint,
        max_skipped=section["max_skipped"],
        part=offline.parse_part(part),
        **sizes,
    )
    print(
        shards.describe(summary) if summary else f"part {part} is done; `dvc repro propose@{scale}-{data}` collects all"
    )


if __name__ == "__main__":
    cli.run(main)
