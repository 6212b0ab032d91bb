"""List what is on disk, so that later stages depend on a small manifest instead of a million files."""

from pathlib import Path

from proseco.base import cli, files, params
from proseco.data import inventory, listing


def main(*, scale: str) -> None:
    """Write a manifest (counts, bytes, digest) of every data set that the run needs, and list the unlabelled images."""
    settings = params.load()
    section = params.get(settings, "scales", scale)
    unlabelled = section["propose"]["root"]
    names = {unlabelled}
    names |= {entry["root"] for entry in section["backbones"].values() if "root" in entry}
    names |= {settings["benchmarks"][name]["root"] for name in settings["run"]["benchmarks"]}
    with files.replacing(Path("work", scale, "inventory")) as out:
        for name in sorted(names):
            root = params.root(settings, scale, name, archive=name == unlabelled)
            manifest, images = inventory.survey(root)
            files.write_json(out / f"{name}.json", manifest)
            if name == unlabelled:
                listing.save(out / "propose.tsv", inventory.subset(root, images, section["propose"]["subset"]))
            print(inventory.describe(name, manifest))


if __name__ == "__main__":
    cli.run(main)
