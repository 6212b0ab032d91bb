"""All shards of a data set: which are missing, who makes them, and the folder that they end up in.

The work is done in a scratch folder: ``shards`` holds what is finished, ``parts`` what is being written. After a kill
at any point the same command resumes, and many runs can make a part each.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import joblib
from tqdm import tqdm

from proseco.base import files, scratch
from proseco.base.errors import InputError
from proseco.data import parallel, shards
from proseco.data.listing import File


def parse_part(text: str) -> tuple[int, int] | None:
    """``3/16`` -> (3, 16); nothing -> None.

    :raises InputError: anything else.
    """
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    part = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part[0] <= part[1]:
        raise InputError(f"--part is {text!r}; it must be k/n, the k-th of n parts, with k from 1 to n")
    return part


def write(
    out: Path,
    base: Path,
    listing: list[File],
    recipe: shards.Recipe,
    *,
    work: Path,
    samples_per_shard: int,
    shard_bytes: int | None,
    max_skipped: float,
    check: Callable[[], None] = lambda: None,
    part: tuple[int, int] | None = None,
) -> dict | None:
    """Write shards of all images into the folder ``out``, which is replaced.

    :param base: folder or tar that the listing is of.
    :param work: scratch folder of this work alone; removed at the end.
    :param samples_per_shard: at most; ``shard_bytes``: most bytes of its image files, None: no such limit.
    :param max_skipped: share of left-out images (0..1) above which this fails.
    :param check: called when all shards are finished, before they take their place; what it raises leaves them.
    :param part: (k, n): only make every n-th shard from the k-th, in the scratch folder.
    :returns: the summary that is also written to ``summary.json``; None for a part.
    :raises InputError: no image is left, too many were left out, or the work cannot go on; finished shards are kept.
    """
    groups = shards.partition(listing, samples_per_shard=samples_per_shard, shard_bytes=shard_bytes)
    names = sorted(groups)[part[0] - 1 :: part[1]] if part else sorted(groups)
    with scratch.claimed(work, f"part-{part[0]}-of-{part[1]}" if part else ""):
        # A folder of its own, which the lock covers: parts of another n may be at work on the same shards.
        parts = work / "parts" / (f"{part[0]}-of-{part[1]}" if part else "all")
        chosen = {name: groups[name] for name in names}
        done = _make_missing(work / "shards", parts, base, chosen, recipe, len(listing), max_skipped)
        if part:
            return None
        folder = work / "shards"
        indexes = files.digests(folder / f"{name}.json" for name in names)
        summary = shards.summary([done[name] for name in names], indexes)
        files.write_json(folder / "summary.json", summary)
        _judge(summary["skipped"], len(listing), max_skipped, folder)
        if not summary["samples"]:
            raise InputError(f"none of the {len(listing)} images can be used: {_first(summary['skipped'])}")
        check()
        size = sum(path.stat().st_size for path in folder.iterdir())
        with files.explaining_write_errors(out, size, f"all shards are kept in {str(folder)!r}"):
            files.move(folder, out)
        shutil.rmtree(work)
    return summary


def _make_missing(
    folder: Path,
    parts: Path,
    base: Path,
    groups: dict[str, list],
    recipe: shards.Recipe,
    total: int,
    max_skipped: float,
) -> dict[str, dict]:
    """Make those of these shards that are not finished, in ``parts``, and move them into ``folder``. Returns name ->
    statistics of all of them.
    """
    shutil.rmtree(parts, ignore_errors=True)  # of a run that was killed
    for path in (folder, parts):
        path.mkdir(parents=True, exist_ok=True)
    done = {name: facts for name in groups if (facts := shards.finished(folder, name)) is not None}
    skipped = [entry for facts in done.values() for entry in facts["skipped"]]
    if len(skipped) > max_skipped * total:  # that was why the last run ended; images may have been mended since
        done, skipped = {name: facts for name, facts in done.items() if not facts["skipped"]}, []
    tasks = (
        joblib.delayed(shards.make)(name, items, base.absolute(), recipe, folder, parts)
        for name, items in groups.items()
        if name not in done
    )
    before = sum(len(groups[name]) for name in done)
    count = sum(map(len, groups.values()))
    with tqdm(total=count, initial=before, desc="proposals", unit="image", smoothing=0.05) as bar:
        bar.set_postfix_str(f"{len(done)} of {len(groups)} shards")
        for name, facts in parallel.results(tasks, folder) if len(done) < len(groups) else ():
            done[name] = facts
            skipped += facts["skipped"]
            bar.set_postfix_str(f"{len(done)} of {len(groups)} shards", refresh=False)
            bar.update(len(groups[name]))
            _judge(skipped, total, max_skipped, folder)  # now, not after the hours that are left
    return done


def _judge(skipped: list[dict], total: int, max_skipped: float, folder: Path) -> None:
    if len(skipped) > max_skipped * total:
        raise InputError(
            f"{len(skipped)} of {total} images cannot be used, {len(skipped) / total:.1%}; propose.max_skipped is "
            f"{max_skipped:.1%}: {_first(skipped)}; the indexes (.json) in {str(folder)!r} name all"
        )


def _first(skipped: list[dict]) -> str:
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return ", ".join(f"{entry['file']} ({entry['reason']})" for entry in skipped[:3]) + more
