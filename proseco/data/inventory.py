"""A data set in a few lines: how many files, how many bytes, a digest of their paths and sizes."""

from pathlib import Path

from proseco.base import files
from proseco.base.errors import InputError
from proseco.data import archive, images, listing
from proseco.data.listing import File

SUFFIXES = (*images.SUFFIXES, ".json", ".xml", ".txt")


def survey(root: Path) -> tuple[dict, list[File]]:
    """Counts and bytes of images and annotation files of a data set, and a digest of all paths and sizes; its images.

    The digest of the small annotation files is of their content, for an edited label need not change a size.

    :param root: a folder, or a tar of class tars.
    :raises InputError: there is no image, or the tar cannot be used.
    """
    labels, passed_over = [], []
    if root.is_file():
        pictures, passed_over = archive.members(root)
    else:
        found = files.list_files(root, SUFFIXES)
        pictures = [File(name, size) for name, size in found if name.lower().endswith(images.SUFFIXES)]
        if not pictures:
            raise InputError(f"no image ({', '.join(images.SUFFIXES)}) in {str(root)!r}")
        names = [name for name, _ in found if not name.lower().endswith(images.SUFFIXES)]
        labels = [(name, files.digest(root / name)) for name in names]
    manifest = {
        "images": len(pictures),
        "bytes": sum(file.size for file in pictures),
        "annotation_files": len(labels),
        "passed_over": passed_over,
        "digest": files.listing_digest([(file.path, file.size) for file in pictures] + labels),
    }
    return manifest, pictures


def subset(root: Path, pictures: list[File], name: str) -> list[File]:
    """The images to make proposals of: those in a folder of the data set, or all of a tar of training images.

    :raises InputError: there is none.
    """
    if root.is_file():
        if name != "train":
            raise InputError(
                f"scales.<scale>.propose.unlabelled.<data>.subset is {name!r}; of a tar of class tars it is 'train'"
            )
        return pictures
    found = listing.in_folder(pictures, name)
    if not found:
        folders = sorted({file.path.split("/")[0] for file in pictures if "/" in file.path})
        raise InputError(
            f"scales.<scale>.propose.unlabelled.<data>.subset is {name!r}; {str(root)!r} has images in "
            f"{', '.join(folders) or 'no folder, use .'}"
        )
    return found


def describe(name: str, manifest: dict) -> str:
    """A manifest in words; what a tar holds beside its images is named with the reason."""
    text = f"{name}: {manifest['images']} images, {manifest['bytes'] / 2**20:.1f} MiB"
    return text + "".join(f"\n  passed over {entry['file']!r}: {entry['reason']}" for entry in manifest["passed_over"])
