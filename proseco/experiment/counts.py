"""How many images each part of a run works on: from what stages have written, else from what is known of the data."""

import itertools
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from proseco import splits
from proseco.base import files
from proseco.base.errors import InputError
from proseco.data import id_files

#: (a benchmark's plug-in or a key of roots, subset) -> images of the public data set.
PUBLIC = {
    ("imagenet", "train"): 1_281_167,
    ("coco", "train2017"): 118_287,
    ("coco", "val2017"): 5_000,
    ("voc", "2007_trainval"): 5_011,
    ("voc", "2007_test"): 4_952,
    ("voc", "2012_trainval"): 11_540,
    ("fsod", "fsod_train"): 52_350,
    ("fsod", "fsod_test"): 14_152,
}
#: The same -> key of ``scales.<scale>.generate``, for data that is drawn.
DRAWN = {
    ("scenes", "train"): "scenes",
    ("imagenet", "train"): "objects",
    ("coco", "train2017"): "coco_train",
    ("coco", "val2017"): "coco_val",
    ("voc", "2007_trainval+2012_trainval"): "voc_trainval",
    ("voc", "2007_test"): "voc_test",
    ("fsod", "fsod_train"): "fsod_train",
    ("fsod", "fsod_test"): "fsod_test",
}


@dataclass(frozen=True)
class Count:
    """A number of images, None where nothing says it, and what says so."""

    images: int | None
    source: str


class Counts:
    """Counts of the data of one scale.

    :param section: ``scales.<scale>`` of params.yaml; ``benchmarks`` its section of that name.
    """

    def __init__(self, scale: str, section: dict, benchmarks: dict):
        self.scale, self.section, self.benchmarks = scale, section, benchmarks
        self.work = Path("work", scale)

    def unlabelled(self, data: str) -> Count:
        """Images to make proposals of, and to pretrain on."""
        source = self.section["propose"]["unlabelled"][data]
        summary, listing = self.work / "shards" / data / "summary.json", self.work / f"inventory/unlabelled/{data}.tsv"
        if summary.is_file():
            return Count(files.read_json(summary)["samples"], str(summary))
        if listing.is_file():
            return Count(_lines(listing), str(listing))
        return self._known(source["root"], source["subset"])

    def backbone(self, name: str) -> Count:
        """Images that a backbone is trained on: all of its root."""
        manifests = self.work / "inventory" / "backbones.json"
        surveys = files.read_json(manifests) if manifests.is_file() else {}
        if name in surveys:
            return Count(surveys[name]["images"], str(manifests))
        return self._known(self.section["backbones"][name]["root"], "train")

    def part(self, benchmark: str, seed: int, part: str) -> Count:
        """Images of ``train``, ``val`` or ``test`` of a benchmark and seed, as stage split draws them."""
        ids = Path("splits", self.scale, benchmark, str(seed), f"{part}.txt")
        labels = self.work / "annotations" / benchmark / str(seed) / f"{part}.json"
        facts = self._facts(ids, benchmark)
        if facts is not None:
            return Count(int(facts["count"]), str(ids).replace(f"/{seed}/", "/<seed>/"))
        if labels.is_file():
            return Count(_images(labels), str(labels).replace(f"/{seed}/", "/<seed>/"))
        return self._reckoned(benchmark, part)

    def _facts(self, ids: Path, benchmark: str) -> dict | None:
        """The first line of an id file, if it was drawn by the rule that params.yaml now has."""
        try:
            facts = id_files.read_facts(ids)
        except InputError:
            return None
        entry = self.benchmarks[benchmark]
        wanted = {"subset": "_".join(entry["train"].split())}
        wanted |= {key: str(entry[key]) for key in splits.RULE_KEYS if key in entry}
        return facts if facts.items() >= wanted.items() else None

    def _reckoned(self, benchmark: str, part: str) -> Count:
        """The rule's share of the known size of the data set, as :func:`proseco.splits.draw` shares it out."""
        entry = self.benchmarks[benchmark]
        whole = self._known(entry["root"], entry["train"], entry["name"])
        if whole.images is None or entry["rule"] == "file":
            return Count(None, f"dvc repro split@{self.scale}-{benchmark} says")
        validation, fraction = self.section["split"]["validation"], entry.get("fraction", 1)
        train = max(1, round(whole.images * fraction))
        source = whole.source + (f", fraction {fraction}" if fraction != 1 else "")
        if part == "test" or (part == "val" and validation == "test"):
            if entry["test"] is not None:
                return self._known(entry["root"], entry["test"], entry["name"])
            return Count(whole.images - train, f"the rest of {source}")
        held = 0
        if validation != "test":
            from_labelled = entry["test"] is None or entry["rule"] == "all"
            held = min(validation, train // 5 if from_labelled else whole.images - train)
            train -= held if from_labelled else 0
        return Count(held, f"held out of {source}") if part == "val" else Count(train, source)

    def _known(self, root: str, subset: str, plugin: str | None = None) -> Count:
        name = plugin or root
        if self.section["generate"] is not None:
            key = DRAWN.get((name, subset))
            place = f"scales.{self.scale}.generate.{key}"
            return Count(self.section["generate"][key], place) if key else _UNKNOWN
        parts = [PUBLIC.get((name, part)) for part in subset.split("+")]
        return _UNKNOWN if None in parts else Count(sum(parts), f"known size of {name} {subset}")


_UNKNOWN = Count(None, "stage inventory or split says")


@cache
def _lines(path: Path) -> int:
    with open(path, "rb") as file:
        blocks = itertools.takewhile(bool, (file.read(1 << 20) for _ in itertools.count()))
        return sum(block.count(b"\n") for block in blocks)


@cache
def _images(path: Path) -> int:
    return len(files.read_json(path)["images"])
