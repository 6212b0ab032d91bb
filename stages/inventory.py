"""List what is on disk, so that later stages depend on a small manifest instead of a million files."""

from pathlib import Path

from proseco.base import cli, files, params
from proseco.data import inventory, listing


def main(*, scale: str) -> None:
    """Write a manifest (counts, bytes, digest) of every data set that the run needs, and list the unlabelled images."""
    settings = params.load()
    section = params.get(settings, "scales", scale)
    run, unlabelled = settings["run"], section["propose"]["unlabelled"]
    roots = {f"unlabelled_{name}": unlabelled[name]["root"] for name in run["unlabelled"]}
    roots |= {f"backbone_{name}": entry["root"] for name, entry in section["backbones"].items() if "root" in entry}
    roots |= {f"benchmark_{name}": settings["benchmarks"][name]["root"] for name in run["benchmarks"]}
    # A key of roots names its manifest; a folder given in its place is named by who reads it.
    used = {who if "/" in root else root: root for who, root in roots.items()}
    with files.replacing(Path("work", scale, "inventory")) as out:
        for name, root in sorted(used.items()):
            subsets = {key: unlabelled[key]["subset"] for key in run["unlabelled"] if unlabelled[key]["root"] == root}
            folder = params.root(settings, scale, root, archive=bool(subsets))
            manifest, images = inventory.survey(folder)
            files.write_json(out / f"{name}.json", manifest)
            for key, subset in subsets.items():
                listing.save(out / "unlabelled" / f"{key}.tsv", inventory.subset(folder, images, subset))
            print(inventory.describe(name, manifest))


if __name__ == "__main__":
    cli.run(main)
