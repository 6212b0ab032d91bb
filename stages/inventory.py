"""List what is on disk, so that later stages depend on a small manifest instead of a million files."""

from pathlib import Path

from proseco.base import cli, files, params
from proseco.data import inventory, listing
from proseco.experiment import rows


def main(*, scale: str) -> None:
    """Write manifests (counts, bytes, digest), each for one reader, and list the unlabelled images and stored boxes."""
    settings = params.load()
    section = params.get(settings, "scales", scale)
    run, unlabelled = settings["run"], section["propose"]["unlabelled"]
    sets = {name: unlabelled[name]["root"] for name in run["unlabelled"]}
    backbones = {name: entry["root"] for name, entry in section["backbones"].items() if "root" in entry}
    benchmarks = {name: settings["benchmarks"][name]["root"] for name in run["benchmarks"]}
    surveys, stored = {}, {}
    for root in sorted({*sets.values(), *backbones.values(), *benchmarks.values()}):
        surveys[root] = inventory.survey(params.root(settings, scale, root, archive=root in sets.values()))
        print(inventory.describe(root, surveys[root][0]))
    with files.replacing(Path("work", scale, "inventory")) as out:
        for name, root in sets.items():
            chosen = inventory.subset(
                params.root(settings, scale, root, archive=True), surveys[root][1], unlabelled[name]["subset"]
            )
            listing.save(out / "unlabelled" / f"{name}.tsv", chosen)
            stored[name] = rows.proposals(section["propose"], name)["proposals"].get("root")
            boxes = None
            if stored[name] is not None:
                inventory.refuse_one_name(chosen)
                boxes = inventory.boxes(params.root(settings, scale, stored[name]), unlabelled[name]["subset"])
            files.write_json(out / "proposals" / f"{name}.json", boxes)
        whole = sorted({root for root in stored.values() if root is not None})
        files.write_json(
            out / "boxes.json", {root: inventory.boxes(params.root(settings, scale, root)) for root in whole}
        )
        files.write_json(out / "backbones.json", {name: surveys[root][0] for name, root in backbones.items()})
        for name, root in benchmarks.items():
            files.write_json(out / "benchmarks" / f"{name}.json", surveys[root][0])


if __name__ == "__main__":
    cli.run(main)
