import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from proseco.base.errors import InputError
from proseco.data import images

SAMPLES = Path(__file__).resolve().parents[2] / "../shared/data/imagenet/train"
# Orientation -> how the stored pixels come from the upright ones (EXIF 2.32, tag 274: where row 0 and column 0 are).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


def picture(height=40, width=56, seed=0):
    """Smooth colours without any symmetry."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 236, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def stored(image, kind, **options):
    """Bytes of a file; ``image`` is an array or a PIL image."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def distance(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_undone_by_both_decoders(orientation):
    upright = picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.ascontiguousarray(STORED[orientation](upright))
    data = stored(pixels, "JPEG", quality=95, subsampling=0, exif=exif)
    strict, facts = images.inspect(data)
    assert facts["rotated"] == (orientation != 1)
    assert distance(strict, upright) < 12  # JPEG's own loss; any other orientation is off by far more
    assert distance(images.decode(data, "x"), strict) <= 2


def test_the_colours_come_as_rgb():
    red = np.zeros((8, 9, 3), np.uint8)
    red[..., 0] = 255
    for decoded in (images.inspect(stored(red, "PNG"))[0], images.decode(stored(red, "PNG"), "x")):
        assert (decoded == red).all() and decoded.flags.c_contiguous


@pytest.mark.parametrize(
    ("image", "kind", "facts"),
    [
        (Image.fromarray(picture()).convert("L"), "JPEG", {"format": "jpg", "grayscale": True, "cmyk": False}),
        (Image.fromarray(picture()).convert("L"), "PNG", {"format": "png", "grayscale": True, "cmyk": False}),
        (Image.fromarray(picture()).convert("CMYK"), "JPEG", {"format": "jpg", "grayscale": False, "cmyk": True}),
        (Image.fromarray(picture()).convert("P"), "PNG", {"format": "png", "grayscale": False, "cmyk": False}),
        (Image.fromarray(picture()).convert("LA"), "PNG", {"format": "png", "grayscale": True, "cmyk": False}),
        (Image.fromarray(picture()).convert("RGBA"), "PNG", {"format": "png", "grayscale": False, "cmyk": False}),
        (Image.fromarray(picture()).convert("1"), "PNG", {"format": "png", "grayscale": True, "cmyk": False}),
        (picture(), "WEBP", {"format": "webp", "grayscale": False, "cmyk": False}),
        (picture(), "BMP", {"format": "bmp", "grayscale": False, "cmyk": False}),
        (picture(), "TIFF", {"format": "tif", "grayscale": False, "cmyk": False}),
    ],
    ids=lambda value: getattr(value, "mode", value if isinstance(value, str) else None),
)
def test_every_kind_of_image_becomes_rgb(image, kind, facts):
    data = stored(image, kind)
    strict, found = images.inspect(data)
    assert found == {**facts, "rotated": False}
    assert strict.shape == (40, 56, 3)
    assert distance(images.decode(data, "x"), strict) <= 2
    if found["grayscale"]:
        assert (strict == strict[..., :1]).all()


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 40 * 56).reshape(40, 56).astype(np.uint16)
    data = stored(ramp, "PNG")
    strict, facts = images.inspect(data)
    assert facts["grayscale"] and facts["format"] == "png"
    assert distance(strict[..., 0], (ramp / 257).round().astype(np.uint8)) <= 1
    assert distance(images.decode(data, "x"), strict) <= 1


def test_floats_are_refused_by_name():
    with pytest.raises(images.BrokenImage, match=r"^32-bit float, which training cannot read$"):
        images.inspect(stored(np.linspace(0, 1, 40 * 56, dtype=np.float32).reshape(40, 56), "TIFF"))


def test_a_truncated_jpeg_is_refused():
    data = stored(picture(120, 160), "JPEG", quality=90)
    for share in (0.5, 0.8, 0.97):
        with pytest.raises(images.BrokenImage, match=r"^truncated$"):
            images.inspect(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"not an image\n" * 50, b"\xff\xd8\xff", stored(picture(), "PNG")[40:]])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(images.BrokenImage, match=r"^cannot be decoded$"):
        images.inspect(data)
    with pytest.raises(InputError, match=r"^shard-3: cat: not an image that can be decoded$"):
        images.decode(data, "shard-3: cat")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_damage_is_told_by_one_exception_alone(kind):
    data, rng, refused = stored(picture(), kind), np.random.default_rng(0), 0
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            damaged[place] = rng.integers(256)
        try:
            image, _ = images.inspect(bytes(damaged[: rng.integers(len(data) // 2, len(data))]))
            assert image.ndim == 3
        except images.BrokenImage:
            refused += 1
    assert refused > 30


def test_files_are_named(tmp_path):
    (tmp_path / "good.png").write_bytes(stored(picture(), "PNG"))
    assert (images.read(tmp_path / "good.png") == picture()).all()
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(InputError, match=r"bad\.png: not an image"):
        images.read(tmp_path / "bad.png")
    with pytest.raises(InputError, match=r"cannot read image '.*absent\.png': No such file"):
        images.read(tmp_path / "absent.png")
    with pytest.raises(InputError, match=r"cannot read image '.*': Is a directory"):
        images.read(tmp_path)


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_both_decoders_agree_on_imagenet(every):
    if not SAMPLES.is_dir():
        pytest.skip(f"no ImageNet samples in {os.path.relpath(SAMPLES)}")
    paths = sorted(SAMPLES.glob("*/*.JPEG"))[::every]
    for path in paths:
        strict, _ = images.inspect(path.read_bytes())
        fast = images.read(path)
        assert fast.shape == strict.shape, path.name
        assert np.abs(fast.astype(int) - strict).mean() < 2, path.name
