"""Draw which images are labelled, for every seed, and write ids and annotations."""

from pathlib import Path

from proseco import splits
from proseco.base import cli, files, params, plugins
from proseco.data import annotations


def main(*, scale: str, benchmark: str) -> None:
    """Write id files and annotations of a benchmark, for every seed of the run."""
    settings = params.load()
    entry = params.get(settings, "benchmarks", benchmark)
    validation = params.get(settings, "scales", scale, "split", "validation")
    root = params.root(settings, scale, entry["root"])

    def load(subset: str) -> dict:
        content = plugins.load("benchmarks", entry["name"])(root, subset)
        checked, notes = annotations.check(content, source=f"{benchmark} {subset}")
        print(*notes, sep="\n", end="\n" if notes else "")
        return checked

    whole = load(entry["train"])
    test = load(entry["test"]) if entry["test"] is not None else None
    facts = {"benchmark": benchmark, "rule": entry["rule"], "fraction": entry["fraction"]}
    with (
        files.replacing(Path("splits", scale, benchmark)) as ids,
        files.replacing(Path("work", scale, "annotations", benchmark)) as out,
    ):
        for seed in settings["run"]["seeds"]:
            drawn = splits.draw(whole, test, entry["rule"], entry["fraction"], seed=seed, validation=validation)
            for note in drawn.notes:
                print(f"{benchmark}, seed {seed}: {note}")
            for part, keys in drawn.keys.items():
                source, subset = (test, entry["test"]) if part in drawn.from_test else (whole, entry["train"])
                splits.write_ids(ids / str(seed) / f"{part}.txt", keys, subset=subset, seed=seed, **facts)
                chosen = annotations.subset(source, keys)
                annotations.check_images(chosen, root, source=f"{benchmark} {part}")
                files.write_json(out / str(seed) / f"{part}.json", chosen, indent=None)


if __name__ == "__main__":
    cli.run(main)
