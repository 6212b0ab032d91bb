"""Reading Pascal VOC's XML, and that of data sets in the same format."""

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from proseco.base.errors import InputError, one_of


def classes(path: Path) -> tuple[str, ...] | None:
    """The class names in a file, one per line; None where there is no such file.

    :raises InputError: there is no name in it, or one comes twice, or it is not UTF-8.
    """
    if not path.is_file():
        return None
    names = tuple(line for line in _lines(path) if line)
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path.as_posix()!r} lists {len(names)} classes; expected one or more, each once")
    return names


def listed(path: Path) -> list[str]:
    """The keys in a list of images, one per line, sorted.

    :raises InputError: a key comes twice, or the file is not UTF-8.
    """
    first: dict[str, int] = {}
    for number, key in enumerate(_lines(path), 1):
        if key and key in first:
            raise InputError(
                f"{path.as_posix()!r}, line {number}: image {key!r} again, first in line {first[key]}; "
                "expected each once"
            )
        first[key] = number
    return sorted(key for key in first if key)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.as_posix()!r} is no UTF-8: {error}; expected one name a line") from None


def labels(names: tuple[str, ...], parts: list[tuple[str, str, dict]]) -> dict:
    """The COCO-format dict of images and their labels, numbered from 1.

    :param names: of the classes, by id.
    :param parts: (key, ``file_name``, what :func:`read` returns) of each image.
    """
    images, objects = [], []
    for key, file_name, content in parts:
        image = {"id": len(images) + 1, "key": key, "file_name": file_name}
        images.append(image | {side: content[side] for side in ("width", "height")})
        for record in content["objects"]:
            objects.append({"id": len(objects) + 1, "image_id": len(images), **record})
    categories = [{"id": row, "name": name, "original_id": row + 1} for row, name in enumerate(names)]
    return {"images": images, "annotations": objects, "categories": categories}


def parse(path: Path) -> ElementTree.Element:
    """The root element of a file, in the encoding that it declares.

    :raises InputError: the file is missing, is not XML, or declares entities.
    """

    def refuse(*_) -> None:
        raise InputError(f"{path.as_posix()!r} declares a DOCTYPE or an entity, which labels need not")

    try:
        content = path.read_bytes()
        # VOC's files declare no entities. In others these may expand to gigabytes or pull in other files.
        first = expat.ParserCreate()
        first.StartDoctypeDeclHandler = refuse
        first.Parse(content, True)
        return ElementTree.fromstring(content)
    except (OSError, LookupError, ValueError, expat.ExpatError, ElementTree.ParseError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"is not readable XML: {error}"
        raise InputError(f"{path.as_posix()!r} {reason}; expected VOC's labels of an image") from None


def read(path: Path, number: dict[str, int]) -> dict:
    """The labels of one image.

    In the file corners count pixels from 1, and both lie inside the box. The result counts from 0, so x = xmin - 1 and
    w = xmax - xmin + 1. A box with swapped corners gets the size 0, and is later dropped as one without area.

    :param number: class -> its id.
    :returns: ``width``, ``height``, ``file_name`` (as the file has it, or None) and ``objects``.
    :raises InputError: the file is malformed; the message names the file, the object and what is expected.
    """
    tree = parse(path)
    width, height = (int(_number(tree, f"size/{side}", path, "the image")) for side in ("width", "height"))
    if width < 1 or height < 1:
        raise InputError(f"{path.as_posix()!r}: the size of the image is {width} x {height}; expected numbers above 0")
    objects = []
    # Direct children only: in VOC 2012 the <object> of a person contains <part>s that have boxes of their own.
    for position, element in enumerate(tree.findall("object"), 1):
        place = f"object {position}"
        name = (element.findtext("name") or "").strip()
        if name not in number:
            raise one_of("class", name, number, f"{path.as_posix()}, {place}")
        left, top, right, bottom = (
            _number(element, f"bndbox/{side}", path, place) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        box = [left - 1, top - 1, max(right - left + 1, 0.0), max(bottom - top + 1, 0.0)]
        difficult = element.find("difficult") is not None and _number(element, "difficult", path, place) != 0
        objects.append(
            {
                "category_id": number[name],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "difficult": int(difficult),
            }
        )
    name = (tree.findtext("filename") or "").strip()
    return {"width": width, "height": height, "file_name": name or None, "objects": objects}


def _number(element: ElementTree.Element, tag: str, path: Path, place: str) -> float:
    text = element.findtext(tag)
    try:
        value = float(text)
        if abs(value) < float("inf"):
            return value
    except (TypeError, ValueError):
        pass
    raise InputError(f"{path.as_posix()!r}: {tag} of {place} is {text!r}; expected a number")
