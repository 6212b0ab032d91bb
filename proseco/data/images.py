"""Decoding: every image comes out as upright RGB uint8, whatever it was stored as."""

import io
import os
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from proseco.base.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_ORIENTATION = 0x0112
#: Formats that PIL may try. It knows sixty, one of which, EPS, it would have Ghostscript draw.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
#: How files of the two usual formats begin and end; programs may append to the image.
_BEGIN, _SCAN, _END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"  # of a JPEG; no scan holds the bytes of its end
_BEGIN_AND_END = ((_BEGIN, _END), (b"\x89PNG", b"IEND\xaeB`\x82"))
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# PIL refuses twice this number of pixels, by default 179 million. OpenCV, which training decodes with, takes 2^30.
Image.MAX_IMAGE_PIXELS = 2**29


class BrokenImage(Exception):
    """An image that cannot be used; the message is the reason, without the name."""


def inspect(data: bytes) -> tuple[np.ndarray, dict]:
    """Decode strictly, as the offline stage does once for every image.

    PIL is used because it refuses a truncated file, which OpenCV pads with grey without a word. What PIL reads and
    :func:`decode` does not, such as a PNG with a wrong checksum, is refused too: it would end a training.

    :returns: (H, W, 3) RGB uint8 as training will see it, and its facts: ``format`` (``jpg``, ``png``, ...),
        ``grayscale``, ``cmyk``, ``rotated`` (by EXIF).
    :raises BrokenImage: it is not an image, or only a part of one.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            orientation = _orientation(image)  # before a TIFF is loaded, which turns it upright
            image.load()
            mode, kind = image.mode, (image.format or "").lower()
            if mode in ("F", "I"):  # it is not known which value is white, and OpenCV refuses them
                raise BrokenImage("32 bits a sample, which training cannot read")
            has_exif = "exif" in image.info
            if mode.startswith("I;16"):  # convert("RGB") would clip 16 bits instead of scaling them
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            rgb = np.asarray(image.convert("RGB"))
    except (BrokenImage, MemoryError):
        raise
    except Exception as error:  # for a damaged file PIL raises whatever its parser stumbles over
        reason = "truncated" if "truncated" in str(error).lower() else "cannot be decoded"
        raise BrokenImage(reason) from None
    if kind != "tiff" and (kind not in ("jpeg", "mpo") or has_exif):  # JPEG is libjpeg's in both
        trained_on = _opencv(data)
        if trained_on is None:
            raise BrokenImage("cannot be decoded")
        rgb = trained_on if has_exif else rgb  # turned as training turns it
    facts = {
        "format": {"jpeg": "jpg", "mpo": "jpg", "tiff": "tif"}.get(kind, kind),
        "grayscale": mode in ("1", "L", "LA") or mode.startswith("I"),
        "cmyk": mode == "CMYK",
        "rotated": orientation != 1,
    }
    return np.ascontiguousarray(rgb), facts


def _orientation(image: Image.Image) -> int:
    """1 (upright) to 8: a TIFF's as PIL turns it, else EXIF's alone, as OpenCV goes by it.

    PIL's own answer would come from XMP or a text of a PNG, too. A damaged one counts as none.
    """
    if image.format == "PNG" and "exif" not in image.info:
        image.load()  # it may stand behind the pixels
    exif = image.getexif() if image.format == "TIFF" else Image.Exif()
    if image.format != "TIFF":
        with suppress(Exception):  # PIL raises whatever its parser stumbles over
            exif.load(image.info.get("exif", b""))
    orientation = exif.get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def header(path: str | Path) -> tuple[tuple[int, int], bool]:
    """Width and height of the upright image, and whether the stored image differs from it and is as large, all from the
    file's header.

    :raises FileNotFoundError: there is no such file. :raises BrokenImage: its header is that of no image.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            orientation = _orientation(image)
            # The header's size of a TIFF is upright already where its own tag says how.
            upright = image.format == "TIFF" and _ORIENTATION in image.tag_v2
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BrokenImage(f"no readable header: {type(error).__name__}") from None
    size = (height, width) if orientation >= 5 and not upright else (width, height)
    return size, 1 < orientation < 5 or (orientation >= 5 and width == height)


def check_complete(path: str | Path, *, inspected: bool = False) -> None:
    """Refuse a file that was cut short, by its first and last bytes.

    One that does not end as a JPEG or PNG does is decoded, because some programs append to the image.

    :param inspected: decode it in any case, which also finds damage in its middle.
    :raises BrokenImage: it is incomplete, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
            end = file.read()
            file.seek(0)
            begin = file.read(4)
            known = any(begin.startswith(first) and end.endswith(last) for first, last in _BEGIN_AND_END)
            data = None if known and not inspected else begin + file.read()
    except OSError as error:
        raise BrokenImage(f"cannot be read: {error.strerror}") from None
    if data is None:
        return
    try:
        inspect(data)
    except MemoryError:
        raise BrokenImage("there is too little memory to decode it") from None
    if not data.startswith(_TIFF) and _opencv(data) is None:  # of a JPEG without its end it may want more than PIL
        raise BrokenImage("cannot be decoded")
    # An interrupted download into a preallocated file: decoders turn the zeros into grey without a word.
    if begin.startswith(_BEGIN) and end == bytes(8) and _END not in data[data.rfind(_SCAN) :]:
        raise BrokenImage("truncated: it ends in zeros")


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode fast, as training does: (H, W, 3) RGB uint8, upright.

    :raises InputError: not an image; it says ``name``.
    """
    if data.startswith(_TIFF):  # OpenCV multiplies colours with alpha, and has its own idea of CIELAB
        try:
            return inspect(data)[0]
        except BrokenImage as error:
            raise InputError(f"{name}: {error}") from None
    try:
        image = _opencv(data)
    except MemoryError:
        raise InputError(f"{name}: there is too little memory to decode it") from None
    if image is None:
        raise InputError(f"{name}: not an image that can be decoded")
    return image


def _opencv(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:  # not the image's fault
            raise MemoryError from None
        return None  # as for a header that says more pixels than it allows


def read(path: str | Path) -> np.ndarray:
    """:func:`decode` of a file.

    :raises InputError: the file is missing or is no image.
    """
    try:
        return decode(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read image {str(path)!r}: {error.strerror}") from None
