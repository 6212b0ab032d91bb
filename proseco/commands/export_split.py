"""``export-split``: the labelled images of a benchmark and seed as one COCO json, for other programs."""

from pathlib import Path

from proseco.base import files, params
from proseco.base.errors import InputError
from proseco.data import annotations


def main(*, benchmark: str, seed: int, out: str, part: str = "train", scale: str | None = None) -> None:
    """Write train, val or test of a benchmark and seed, as stage split drew it, as a COCO json.

    :param benchmark: a key of ``benchmarks`` in params.yaml.
    :param seed: one of ``run.seeds``.
    :param out: the file; its ``file_name`` entries are relative to the data set's root.
    :param part: train, val or test.
    :param scale: that of params.yaml if not given.
    :raises InputError: no such benchmark, seed or part; ``out`` is a folder.
    """
    settings = params.load()
    params.get(settings, "benchmarks", benchmark)
    scale = scale or settings["scale"]
    folder = Path("work", scale, "annotations", benchmark)
    source = folder / str(seed) / f"{part}.json"
    if not source.is_file():
        there = sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.json"))
        raise InputError(
            f"no {part} of seed {seed} in {folder.as_posix()!r}; there is {', '.join(there) or 'nothing'} "
            f"(stage split@{scale}-{benchmark} writes them, of run.seeds)"
        )
    content = annotations.instances(files.read_json(source), description=f"{benchmark}, seed {seed}, {part}")
    files.write_json(out, content, indent=None)
    print(f"{out}: {len(content['images'])} images, {len(content['annotations'])} objects")
