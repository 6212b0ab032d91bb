"""Draw which images are labelled, for every seed, and write ids and annotations."""

from pathlib import Path

from proseco import splits
from proseco.base import cli, files, params, plugins
from proseco.data import annotations, parts, verify

OWN = Path("splits", "own")  # id files that users bring, see its README


def main(*, scale: str, benchmark: str) -> None:
    """Write id files of a benchmark for the published seeds and those of the run, and annotations for the latter."""
    settings = params.load()
    entry = params.get(settings, "benchmarks", benchmark)
    section = params.get(settings, "scales", scale, "split")
    root = params.root(settings, scale, entry["root"])
    whole = _load(entry, root, entry["train"], benchmark)
    test = None if entry["test"] is None else _load(entry, root, entry["test"], benchmark)
    if test is not None:
        annotations.check_classes(whole, test, source=benchmark)
    rule, facts = splits.rule_of(entry, OWN), splits.facts_of(benchmark, entry)
    seeds, sizes = settings["run"]["seeds"], annotations.FileSizes(root)
    published = seeds if "ids" in rule else {*seeds, *section["seeds"]}  # an id file is published already
    with (
        files.replacing(Path("splits", scale, benchmark)) as ids,
        files.replacing(Path("work", scale, "annotations", benchmark)) as out,
    ):
        for seed in sorted(published):
            drawn = splits.draw(whole, test, **rule, seed=seed, validation=section["validation"])
            print(*(f"{benchmark}, seed {seed}: {note}\n" for note in drawn.notes), sep="", end="")
            splits.publish(ids / str(seed), drawn, **facts, seed=seed)
            for part, keys in drawn.keys.items() if seed in seeds else ():
                chosen = annotations.subset(test if part in drawn.from_test else whole, keys)
                parts.write(out / str(seed), part, chosen, sizes, source=benchmark)


def _load(entry: dict, root: Path, subset: str, benchmark: str) -> dict:
    """The labels of a subset; prints what was changed in them."""
    content, drop = plugins.bind("benchmarks", entry)(root, subset), entry.get("drop_other_sizes", False)
    cleaned, notes = verify.clean(content, root, source=f"{benchmark} {subset}", drop=drop)
    print(*notes, sep="\n", end="\n" if notes else "")
    return cleaned


if __name__ == "__main__":
    cli.run(main)
