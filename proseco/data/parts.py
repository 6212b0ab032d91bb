"""The labels of one part of a split, ``train``, ``val`` or ``test``, as the trainings read them."""

from pathlib import Path

from proseco.base import files
from proseco.data.annotations import FileSizes, check_images, check_objects, image_files, without_masks


def write(folder: Path, part: str, annotations: dict, sizes: FileSizes, *, source: str) -> None:
    """Write ``<part>.json``, and ``<part>.images.txt``: by this what reads both runs anew where images change while
    their labels do not.

    :param annotations: of the part alone.
    :param sizes: of the files below the data set's root.
    :param source: the benchmark, for messages.
    :raises InputError: an image file is missing; or there is nothing to learn, or nothing to find.
    """
    check_images(annotations, sizes.root, source=f"{source} {part}")
    if part != "val":  # which may be few images
        check_objects(annotations, source=f"{source} {part}", scored=part == "test")
    if part != "train":  # boxes are what is scored
        annotations = without_masks(annotations)
    files.write_json(folder / f"{part}.json", annotations, indent=None)
    files.write_text(folder / f"{part}.images.txt", image_files(annotations, sizes))
