"""List what is on disk, so that later stages depend on a small manifest instead of a million files."""

from pathlib import Path

from proseco.base import cli, files, params
from proseco.data import inventory, listing


def main(*, scale: str) -> None:
    """Write a manifest (counts, bytes, digest) of every data set that the run needs, and list the unlabelled images."""
    settings = params.load()
    section = params.get(settings, "scales", scale)
    unlabelled = section["propose"]["root"]
    roots = {"propose": unlabelled}
    roots |= {f"backbone_{name}": entry["root"] for name, entry in section["backbones"].items() if "root" in entry}
    roots |= {f"benchmark_{name}": settings["benchmarks"][name]["root"] for name in settings["run"]["benchmarks"]}
    # A key of roots names its manifest; a folder given in its place is named by who reads it.
    used = {who if "/" in root else root: root for who, root in roots.items()}
    with files.replacing(Path("work", scale, "inventory")) as out:
        for name, root in sorted(used.items()):
            folder = params.root(settings, scale, root, archive=root == unlabelled)
            manifest, images = inventory.survey(folder)
            files.write_json(out / f"{name}.json", manifest)
            if root == unlabelled:
                listing.save(out / "propose.tsv", inventory.subset(folder, images, section["propose"]["subset"]))
            print(inventory.describe(name, manifest))


if __name__ == "__main__":
    cli.run(main)
