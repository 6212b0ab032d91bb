"""Selective Search over the images to pretrain on, into WebDataset shards."""

from functools import partial
from pathlib import Path

from proseco.base import cli, environment, files, params, plugins, scratch
from proseco.data import filters, listing, offline, shards


def main(*, scale: str, data: str, part: str = "") -> None:
    """Write shards of images and proposals; with --part k/n every n-th of them from the k-th, to be collected later."""
    settings = params.load()
    section = params.get(settings, "scales", scale, "propose")
    source = params.get(section, "unlabelled", data)
    root = params.root(settings, scale, source["root"], archive=True)
    images = listing.load(Path("work", scale, "inventory", "unlabelled", f"{data}.tsv"))
    spec, sizes = section["proposals"], {key: section[key] for key in ("samples_per_shard", "shard_bytes")}
    recipe = shards.Recipe(
        propose=plugins.bind("proposals", spec),
        keep=partial(filters.keep, **section["filter"]),
        seed=settings["seed"],
        min_side=section["min_side"],
    )
    plugin = files.read_json(Path("work", scale, "plan", "propose.json"))["code"]
    fingerprint = scratch.fingerprint(
        code=[*plugin, filters.__file__, shards.__file__],
        libraries=("numpy", "numba", "opencv", "pillow"),
        listing=listing.digest(images),
        seed=recipe.seed,
        min_side=recipe.min_side,
        proposals=spec,
        filter=section["filter"],
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
