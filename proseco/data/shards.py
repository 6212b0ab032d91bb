"""WebDataset shards of images with their proposals: ``{key}.jpg``, ``{key}.boxes.npy``, ``{key}.json``.

Writing gives equal bytes for any number of workers: samples keep the order of their paths, tar headers carry no time
and no owner, and each image's randomness comes from its key. An index beside each tar (``shard-000000.json``) holds the
offset, size and CRC-32 of every member and the shard's statistics, and serves random access
(:mod:`proseco.data.reader`).
"""

import io
import json
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import joblib
import numpy as np
from tqdm import tqdm

from proseco.base import files
from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.data import images


def assign_keys(paths: list[str]) -> list[str]:
    """Key of each relative path: without suffix, dots in names replaced (WebDataset cuts at the first dot).

    Where two paths would share a key, the later one gets its suffix appended.
    """
    keys: list[str] = []
    taken = set()
    for path in paths:
        pure = PurePosixPath(path)
        key = str(pure.with_suffix("")).replace(".", "_")
        if key in taken:
            key = f"{key}_{pure.suffix[1:]}"
        if key in taken:
            raise InputError(f"two images would have the key {key!r}; rename {path!r}")
        taken.add(key)
        keys.append(key)
    return keys


def _make_shard(
    path: Path,
    root: Path,
    items: list[tuple[str, str]],
    propose: Callable[..., np.ndarray],
    seed: int,
    min_side: int,
) -> dict:
    """Write one shard and its index; return its statistics. ``items`` are (key, path relative to root)."""
    import cv2
    import webdataset  # here, because it imports torch, which the parent process need not wait for

    cv2.setNumThreads(1)  # a shard a core
    counts, skipped, buffer = Counter(samples=0, boxes=0, grayscale=0, cmyk=0, rotated=0), [], io.BytesIO()
    per_image = []
    writer = webdataset.TarWriter(buffer, user="", group="", mtime=0, mode=0o644, format="PAX_FORMAT")
    for key, relative in items:
        data = (root / relative).read_bytes()
        try:
            image, facts = images.inspect(data)
            height, width = image.shape[:2]
            if min(width, height) < min_side:
                raise images.BrokenImage(f"smaller than {min_side} pixels")
        except images.BrokenImage as error:
            skipped.append({"file": relative, "reason": str(error)})
            continue
        boxes = np.asarray(propose(image, seed=derive_seed(seed, "proposals", key)), np.float32).reshape(-1, 4)
        about = {"key": key, "width": width, "height": height, "boxes": len(boxes)}
        if "/" in relative:
            about["label"] = relative.split("/")[0]  # the class folder, in ImageNet's layout
        meta = json.dumps(about, sort_keys=True).encode()
        writer.write({"__key__": key, facts.pop("format"): data, "boxes.npy": boxes, "json": meta})
        counts.update(samples=1, boxes=len(boxes), **{name: int(flag) for name, flag in facts.items()})
        per_image.append(len(boxes))
    writer.close()
    stats = dict(counts) | {
        "skipped": skipped,
        "boxes_min": min(per_image, default=0),
        "boxes_max": max(per_image, default=0),
    }
    path.write_bytes(buffer.getvalue())
    index = {"bytes": len(buffer.getvalue()), "samples": _scan(buffer), "statistics": stats}
    path.with_suffix(".json").write_text(json.dumps(index, sort_keys=True) + "\n")
    return stats


def _scan(buffer: io.BytesIO) -> list[dict]:
    """Offset, size and CRC-32 of every member, a dictionary a sample: {"key", "image", "boxes.npy", "json"}."""
    import tarfile

    buffer.seek(0)
    data = buffer.getbuffer()
    samples: list[dict] = []
    with tarfile.open(fileobj=buffer) as tar:
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            stem, _, extension = name.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if not samples or samples[-1]["key"] != key:
                samples.append({"key": key})
            extension = extension if extension in ("boxes.npy", "json") else "image"
            crc = zlib.crc32(data[member.offset_data : member.offset_data + member.size])
            samples[-1][extension] = [member.offset_data, member.size, crc]
    return samples


def write(
    out: Path,
    root: Path,
    paths: list[str],
    propose: Callable[..., np.ndarray],
    *,
    seed: int,
    samples_per_shard: int,
    min_side: int,
    max_skipped: float,
    workers: int = -1,
) -> dict:
    """Write shards of all images into the folder ``out``; it need not exist.

    :param root: folder that ``paths`` are relative to.
    :param propose: ``(image, *, seed) -> boxes_xyxy``; sent to the workers, so it must pickle.
    :param min_side: images with a side below it, in pixels, are left out.
    :param max_skipped: share of left-out images (0..1) above which this fails.
    :param workers: processes; -1 for one a core. It does not change a byte.
    :returns: the summary that is also written to ``summary.json``.
    :raises InputError: no image is left, or too many were left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    items = list(zip(assign_keys(paths), paths, strict=True))
    parts = [items[i : i + samples_per_shard] for i in range(0, len(items), samples_per_shard)]
    tasks = [
        joblib.delayed(_make_shard)(out / f"shard-{i:06d}.tar", root, part, propose, seed, min_side)
        for i, part in enumerate(parts)
    ]
    all_stats = []
    with tqdm(total=len(items), desc="proposals", unit="image") as bar:
        results = joblib.Parallel(n_jobs=min(workers, len(parts)) if workers > 0 else workers, return_as="generator")(
            tasks
        )
        for part, stats in zip(parts, results, strict=True):
            all_stats.append(stats)
            bar.update(len(part))
    summary = {name: sum(s[name] for s in all_stats) for name in ("samples", "boxes", "grayscale", "cmyk", "rotated")}
    summary["shards"] = len(parts)
    summary["boxes_min"] = min((s["boxes_min"] for s in all_stats if s["samples"]), default=0)
    summary["boxes_max"] = max(s["boxes_max"] for s in all_stats)
    summary["boxes_mean"] = round(summary["boxes"] / max(summary["samples"], 1), 2)
    summary["skipped"] = [entry for s in all_stats for entry in s["skipped"]]
    files.write_json(out / "summary.json", summary)
    _judge(summary, len(items), max_skipped)
    return summary


def describe(summary: dict) -> str:
    """The summary of :func:`write` in words; left-out images are named with their reasons."""
    s = summary
    text = (
        f"{s['samples']} images, {s['boxes']} boxes ({s['boxes_min']} to {s['boxes_max']}, mean {s['boxes_mean']}) "
        f"in {s['shards']} shards; {s['grayscale']} grayscale, {s['cmyk']} CMYK, {s['rotated']} rotated by EXIF, "
        f"{len(s['skipped'])} left out"
    )
    return text + "".join(f"\n  {entry['file']}: {entry['reason']}" for entry in summary["skipped"])


def _judge(summary: dict, count: int, max_skipped: float) -> None:
    skipped = summary["skipped"]
    share = len(skipped) / count
    if not summary["samples"] or share > max_skipped:
        first = ", ".join(f"{s['file']} ({s['reason']})" for s in skipped[:3])
        raise InputError(
            f"{len(skipped)} of {count} images cannot be used, {share:.1%}; propose.max_skipped is {max_skipped:.1%}: "
            f"{first}"
        )
