"""``export-split``: the labelled images of a benchmark and seed as one COCO json, for other programs."""

from pathlib import Path

from proseco.base import files, params
from proseco.data import annotations


def main(*, benchmark: str, seed: int, out: str, part: str = "train", scale: str | None = None) -> None:
    """Write train, val or test of a benchmark and seed, as stage split drew it, as a COCO json.

    :param out: the file; its ``file_name`` entries are relative to the data set's root.
    """
    settings = params.load()
    params.get(settings, "benchmarks", benchmark)
    source = Path("work", scale or settings["scale"], "annotations", benchmark, str(seed), f"{part}.json")
    content = annotations.instances(files.read_json(source), description=f"{benchmark}, seed {seed}, {part}")
    files.write_json(out, content, indent=None)
    print(f"{out}: {len(content['images'])} images, {len(content['annotations'])} objects")
