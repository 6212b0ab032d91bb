"""Draw which images are labelled, for every seed, and write ids and annotations."""

from functools import partial
from pathlib import Path

from proseco import splits
from proseco.base import cli, files, params, plugins
from proseco.data import annotations, id_files, verify

OWN = Path("splits", "own")  # id files that users bring, see its README


def main(*, scale: str, benchmark: str) -> None:
    """Write id files of a benchmark for the published seeds and those of the run, and annotations for the latter."""
    settings = params.load()
    entry = params.get(settings, "benchmarks", benchmark)
    section = params.get(settings, "scales", scale, "split")
    root = params.root(settings, scale, entry["root"])
    read = partial(plugins.load("benchmarks", entry["name"]), **plugins.options("benchmarks", entry))

    def load(subset: str) -> dict:
        content = read(root, subset)
        checked, notes = annotations.check(content, source=f"{benchmark} {subset}")
        if entry.get("drop_other_sizes", False):
            checked, more = verify.drop_other_sizes(checked, root, source=f"{benchmark} {subset}")
            notes += more
        print(*notes, sep="\n", end="\n" if notes else "")
        return checked

    whole = load(entry["train"])
    test = load(entry["test"]) if entry["test"] is not None else None
    if test is not None:
        annotations.check_classes(whole, test, source=benchmark)
    rule = {key: entry[key] for key in ("rule", "fraction", "ids") if key in entry}
    facts = {"data_set": entry["name"], "subset": "_".join(entry["train"].split()), "benchmark": benchmark, **rule}
    if "ids" in rule:
        rule["ids"] = OWN / rule["ids"]
    seeds, sizes = settings["run"]["seeds"], annotations.FileSizes(root)
    published = {*seeds, *section["seeds"]} if "ids" not in rule else seeds  # an id file is published already
    with (
        files.replacing(Path("splits", scale, benchmark)) as ids,
        files.replacing(Path("work", scale, "annotations", benchmark)) as out,
    ):
        for seed in sorted(published):
            drawn = splits.draw(whole, test, **rule, seed=seed, validation=section["validation"])
            for note in drawn.notes:
                print(f"{benchmark}, seed {seed}: {note}")
            for part in drawn.published:
                id_files.write(ids / str(seed) / f"{part}.txt", drawn.keys[part], **facts, seed=seed)
            for part, keys in drawn.keys.items() if seed in seeds else ():
                chosen = annotations.subset(test if part in drawn.from_test else whole, keys)
                annotations.check_images(chosen, root, source=f"{benchmark} {part}")
                if part != "val":  # which may be few images
                    annotations.check_objects(chosen, source=f"{benchmark} {part}", scored=part == "test")
                if part != "train":  # boxes are what is scored
                    chosen = annotations.without_masks(chosen)
                files.write_json(out / str(seed) / f"{part}.json", chosen, indent=None)
                # Images whose sizes change while labels do not: by this, what reads both runs anew.
                files.write_text(out / str(seed) / f"{part}.images.txt", annotations.image_files(chosen, sizes))


if __name__ == "__main__":
    cli.run(main)
