"""Any data set with one XML file per image, like VOC's: ``subset`` is a folder below ``root``, or a list of names."""

import posixpath
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from proseco.base.errors import InputError
from proseco.benchmarks import _xml
from proseco.data.images import SUFFIXES


def load(root: str | Path, subset: str, *, images: str | None = None) -> dict:
    """The labels of a subset, as a COCO-format dict. Keys are the names of the XML files.

    A subset is either ``<root>/ImageSets/Main/<subset>.txt``, a list of names, with the XML files in
    ``<root>/Annotations``; or a folder ``<root>/<subset>`` (``.``: the root), with them in it or in its
    ``Annotations``, and none in a folder further below. Classes are those of ``<root>/classes.txt`` (one name per
    line), else all that occur in any XML below the root, sorted, so that all subsets number them alike. Boxes are read
    as VOC's: corners count pixels from 1.

    :param images: folder below ``root`` with the images. None for those beside the XML files, or in ``JPEGImages`` or
        ``images`` beside or above them. An image has the name of the XML file, or else the XML's ``filename``.
    :raises InputError: a folder, list or file is missing or malformed; the message names it.
    """
    root = Path(root)
    names = _xml.classes(root / "classes.txt") or _occurring(root)
    number = {name: row for row, name in enumerate(names)}
    files = _files(root, subset)
    folders = [root / images] if images is not None else _near(root, files[0].parent)
    pictures = _Pictures(root, folders)
    parts = []
    for file in files:
        labels = _xml.read(file, number)
        parts.append(("_".join(file.stem.split()), pictures.find(file.stem, labels["file_name"]), labels))
    return _xml.labels(names, parts)


def _occurring(root: Path) -> tuple[str, ...]:
    """Names of all classes in any label file below the root, sorted."""
    names = {
        (name.text or "").strip()
        for file in _labels(root, "**/*.xml")
        for name in _xml.parse(file).findall("object/name")
    }
    return tuple(sorted(names - {""}))


def _labels(folder: Path, pattern: str = "*.xml") -> list[Path]:
    """Label files, sorted.

    Hidden ones are left out: the ``._name.xml`` that macOS writes beside each on other file systems, editors' folders.
    """
    files = folder.glob(pattern)
    return sorted(file for file in files if not any(part[0] == "." for part in file.relative_to(folder).parts))


def _files(root: Path, subset: str) -> list[Path]:
    """The XML files of a subset, sorted by name."""
    path = root / "ImageSets" / "Main" / f"{subset}.txt"
    if path.is_file():
        return [root / "Annotations" / f"{key}.xml" for key in _xml.listed(path)]
    folder = root / subset
    for labels in (folder, folder / "Annotations"):
        files = _labels(labels)
        if files:
            deeper = _labels(labels, "*/**/*.xml") if labels != root else []  # those of the root may be other subsets
            deeper = [file for file in deeper if not file.name.endswith(".aux.xml")]  # GDAL's, of an image
            if deeper:
                raise InputError(
                    f"{len(deeper)} XML files lie in folders below {labels.as_posix()!r}, the first is "
                    f"{deeper[0].relative_to(labels).as_posix()!r}; expected all of a subset in one folder"
                )
            return files
    lists = [file.stem for file in path.parent.glob("*.txt")]
    folders = [file.name for file in root.iterdir() if _labels(file) or _labels(file / "Annotations")]
    raise InputError(
        f"no XML file in {folder.as_posix()!r} or its 'Annotations', and no list {path.as_posix()!r}; "
        f"the root has the subsets {', '.join(sorted([*lists, *folders])) or 'none'}"
    )


def _near(root: Path, labels: Path) -> list[Path]:
    """Folders in which the images may lie, by the folder of the label files."""
    places = [labels] if labels == root else [labels, labels.parent]
    return [place / name for place in places for name in (".", "JPEGImages", "images")]


class _Pictures:
    """Finds images by name, in folders that are listed once."""

    def __init__(self, root: Path, folders: Iterable[Path]) -> None:
        self.root, self.folders = root, [folder for folder in folders if folder.is_dir()]
        self.names: dict[str, Path] = {}
        for folder in reversed(self.folders):
            for file in folder.iterdir():
                if file.suffix.lower() in SUFFIXES:
                    self.names |= {file.stem: file, file.name: file}

    def find(self, stem: str, name: str | None) -> str:
        """Path of an image relative to the root; where there is no such image, the path at which it is expected."""
        if name is not None:  # some programs write a whole path on the machine they ran on
            name = PureWindowsPath(name).name
        given, own = self.names.get(name), self.names.get(stem)
        # Programs that copy or augment leave the filename as it was: an image of the XML's own name counts more.
        path = given if given is not None and given.stem == stem else own or given
        if path is None:
            path = (self.folders or [self.root])[0] / (name or f"{stem}.jpg")
        return posixpath.normpath(path.relative_to(self.root).as_posix())
