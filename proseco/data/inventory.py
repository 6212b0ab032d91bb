"""A data set in a few lines: how many files, how many bytes, a digest of their paths and sizes."""

from pathlib import Path

from proseco.base import files
from proseco.base.errors import InputError
from proseco.data import images

SUFFIXES = (*images.SUFFIXES, ".json", ".xml", ".txt")


def manifest(root: Path) -> dict:
    """Counts and bytes of images and annotation files below a folder, and a digest of all paths and sizes.

    The digest of the small annotation files is of their content, for an edited label need not change a size.

    :raises InputError: there is no image.
    """
    listing = files.list_files(root, SUFFIXES)
    pictures = [(name, size) for name, size in listing if name.lower().endswith(images.SUFFIXES)]
    if not pictures:
        raise InputError(f"no image ({', '.join(images.SUFFIXES)}) in {str(root)!r}")
    labels = [(name, files.digest(root / name)) for name, _ in listing if not name.lower().endswith(images.SUFFIXES)]
    return {
        "images": len(pictures),
        "bytes": sum(size for _, size in pictures),
        "annotation_files": len(labels),
        "digest": files.listing_digest(pictures + labels),
    }
