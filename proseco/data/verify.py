"""Labels held against the image files, by the files' headers alone."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from proseco.data import images
from proseco.data.annotations import subset

_THREADS = 16  # waiting for disks and networks, not for a core


def other_sizes(annotations: dict, root: str | Path) -> dict[str, str]:
    """Key -> what is wrong, of each image whose file has no readable header or another size than its record.

    Sizes are those of the upright image, as training reads it: an EXIF rotation swaps the sides. Missing files are
    passed over; :func:`proseco.data.annotations.missing_images` finds them faster.
    """

    def look(record: dict) -> str | None:
        wanted = record["width"], record["height"]
        try:
            found = images.size(Path(root) / record["file_name"])
        except FileNotFoundError:
            return None
        except images.BrokenImage as reason:
            return f"{record['file_name']}: {reason}; expected an image of {wanted[0]} x {wanted[1]} pixels"
        if found == wanted:
            return None
        return (
            f"{record['file_name']}: the file is {found[0]} x {found[1]} pixels, "
            f"its annotation says {wanted[0]} x {wanted[1]}"
        )

    records = annotations["images"]
    with ThreadPoolExecutor(_THREADS) as pool:
        found: Iterable = pool.map(look, records)
        found = tqdm(found, total=len(records), desc="headers", unit="image", leave=False, disable=None)
        return {record["key"]: wrong for record, wrong in zip(records, found, strict=True) if wrong is not None}


def drop_other_sizes(annotations: dict, root: str | Path, *, source: str) -> tuple[dict, list[str]]:
    """Leave out the images whose file contradicts its record: where their boxes belong is not known.

    :returns: the dict without them, and what was left out, in a line or none.
    """
    wrong = other_sizes(annotations, root)
    if not wrong:
        return annotations, []
    note = f"{source}: left out {len(wrong)} of {len(annotations['images'])} images, first {next(iter(wrong.values()))}"
    return subset(annotations, [r["key"] for r in annotations["images"] if r["key"] not in wrong]), [note]
