"""A data set in a few lines: number of files, bytes, a digest of paths and sizes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from proseco.base import files
from proseco.base.errors import InputError
from proseco.data import archive, images, listing
from proseco.data.listing import File

SUFFIXES = (*images.SUFFIXES, ".json", ".xml", ".txt")
BOXES = ".npy"


def survey(root: Path) -> tuple[dict, list[File]]:
    """Survey a data set.

    Annotation files, which are small, enter the digest with their content: an edited label need not change a size.

    :param root: a folder, or a tar of class tars.
    :returns: counts and bytes of its files and a digest of all paths and sizes; its images.
    :raises InputError: there is no image, or the tar cannot be used.
    """
    labels, passed_over = [], []
    if root.is_file():
        pictures, passed_over = archive.members(root)
    else:
        listed = files.list_files(root, SUFFIXES)
        pictures = [File(name, size) for name, size in listed if name.lower().endswith(images.SUFFIXES)]
        if not pictures:
            raise InputError(f"no image ({', '.join(images.SUFFIXES)}) in {str(root)!r}")
        names = [name for name, _ in listed if not name.lower().endswith(images.SUFFIXES)]
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
    """The images to make proposals for: those in a folder of the data set, or all of a tar of training images.

    :raises InputError: there is none.
    """
    if root.is_file():
        if name != "train":
            raise InputError(
                f"scales.<scale>.propose.unlabelled.<data>.subset is {name!r}; of a tar of class tars it is 'train'"
            )
        return pictures
    chosen = listing.in_folder(pictures, name)
    if not chosen:
        folders = sorted({file.path.split("/")[0] for file in pictures if "/" in file.path})
        raise InputError(
            f"scales.<scale>.propose.unlabelled.<data>.subset is {name!r}; {str(root)!r} has images in "
            f"{', '.join(folders) or 'no folder, use .'}"
        )
    return chosen


def boxes(root: Path, subset: str = ".") -> dict:
    """Survey files of boxes that another program has found (:mod:`proseco.proposals.stored`).

    Their content enters the digest: another detector's file of as many boxes has the same size.

    :param subset: folder below the root.
    :returns: the number of files and the digest.
    :raises InputError: there is none.
    """
    folder = root / subset
    names = [name for name, _ in files.list_files(folder, (BOXES,))]
    if not names:
        raise InputError(f"no file of boxes ({BOXES}) in {str(folder)!r}")
    with ThreadPoolExecutor(16) as threads:  # most of the time goes into waiting for a disk
        hashed = threads.map(lambda name: (name, files.digest(folder / name)), names)
        listed = list(tqdm(hashed, desc=f"boxes in {folder}", total=len(names), unit="file", leave=False, delay=1))
    return {"files": len(listed), "digest": files.listing_digest(listed)}


def refuse_one_name(listing: list[File]) -> None:
    """:raises InputError: two images would have one file of boxes."""
    seen: dict[str, str] = {}
    for file in listing:
        other = seen.setdefault(file.path.rpartition(".")[0], file.path)
        if other != file.path:
            raise InputError(f"{other!r} and {file.path!r} would have one file of stored boxes; rename one of them")


def describe(name: str, manifest: dict) -> str:
    """A manifest in words; names what a tar holds besides usable images, with the reason."""
    text = f"{name}: {manifest['images']} images, {manifest['bytes'] / 2**20:.1f} MiB"
    return text + "".join(f"\n  passed over {entry['file']!r}: {entry['reason']}" for entry in manifest["passed_over"])
