"""Selective Search over the images to pretrain on, into WebDataset shards."""

from functools import partial
from pathlib import Path

from proseco.base import cli, files, params, plugins
from proseco.base.errors import InputError
from proseco.data import images, shards


def main(*, scale: str) -> None:
    """Write shards of images and proposals."""
    settings = params.load()
    propose = params.get(settings, "scales", scale, "propose")
    folder = params.root(settings, scale, propose["root"]) / propose["subset"]
    paths = [path for path, _ in files.list_files(folder, images.SUFFIXES)]
    if not paths:
        raise InputError(f"no image ({', '.join(images.SUFFIXES)}) in {str(folder)!r} (scales.{scale}.propose)")
    options = {key: value for key, value in propose["proposals"].items() if key != "name"}
    with files.replacing(Path("work", scale, "shards")) as out:
        summary = shards.write(
            out,
            folder,
            paths,
            partial(plugins.load("proposals", propose["proposals"]["name"]), **options),
            seed=settings["seed"],
            samples_per_shard=propose["samples_per_shard"],
            min_side=propose["min_side"],
            max_skipped=propose["max_skipped"],
        )
    print(shards.describe(summary))


if __name__ == "__main__":
    cli.run(main)
