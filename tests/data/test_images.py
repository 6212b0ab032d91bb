import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

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


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_samples_of_32_bits_are_refused_by_name(kind):
    data = stored(np.linspace(0, 1e5, 40 * 56).astype(kind).reshape(40, 56), "TIFF")
    with pytest.raises(images.BrokenImage, match=r"^32 bits a sample, which training cannot read$"):
        images.inspect(data)
    with pytest.raises(InputError, match=r"^cat: 32 bits a sample"):
        images.decode(data, "cat")


def with_alpha(mode):
    """Transparent at the top, opaque at the bottom."""
    image = Image.fromarray(picture()).convert(mode)
    image.putalpha(Image.fromarray(np.linspace(0, 255, 40 * 56).reshape(40, 56).astype(np.uint8)))
    return image


def cmyk(adobe=True, transform=None):
    """A JPEG of four inks, which PIL stores inverted as Adobe does; without Adobe's marker, or as YCCK."""
    rng = np.random.default_rng(1)
    inks = cv2.resize(rng.integers(0, 256, (4, 5, 4), dtype=np.uint8), (56, 40), interpolation=cv2.INTER_CUBIC)
    data = stored(Image.fromarray(inks, "CMYK"), "JPEG", quality=98, subsampling=0)
    marker = data.index(b"Adobe") - 4
    if not adobe:
        return data[:marker] + data[marker + 16 :]
    return data if transform is None else data[: marker + 15] + bytes([transform]) + data[marker + 16 :]


def turned(kind, orientation, mode="RGB", **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return stored(Image.fromarray(picture()).convert(mode), kind, exif=exif, **options)


def two(kind, **options):
    """A file of two pictures, of which the first counts."""
    return stored(picture(), kind, save_all=True, append_images=[Image.fromarray(picture(seed=3))], **options)


SIXTEEN = (cv2.resize(np.random.default_rng(2).random((4, 5, 4)), (56, 40)) * 65535).clip(0, 65535).astype(np.uint16)
PALETTE = Image.fromarray(picture()).convert("P")
UNUSUAL = {
    **{f"alpha {kind}": lambda kind=kind: stored(with_alpha("RGB"), kind) for kind in ("PNG", "TIFF", "BMP")},
    "alpha WEBP": lambda: stored(with_alpha("RGB"), "WEBP", lossless=True, exact=True),
    **{f"grey alpha {kind}": lambda kind=kind: stored(with_alpha("L"), kind) for kind in ("PNG", "TIFF")},
    "palette, one colour transparent": lambda: stored(PALETTE, "PNG", transparency=3),
    "palette, all half transparent": lambda: stored(PALETTE, "PNG", transparency=bytes(range(256))),
    "grey, one value transparent": lambda: stored(Image.fromarray(picture()).convert("L"), "PNG", transparency=99),
    "one bit, fax": lambda: stored(Image.fromarray(picture()).convert("1"), "TIFF", compression="group4"),
    "CMYK": cmyk,
    "CMYK, not Adobe's": lambda: cmyk(adobe=False),
    "YCCK": lambda: cmyk(transform=2),
    "CMYK turned": lambda: turned("JPEG", 6, "CMYK"),
    "CMYK TIFF": lambda: stored(Image.fromarray(picture()).convert("CMYK"), "TIFF"),
    "Lab TIFF": lambda: stored(Image.fromarray(picture()).convert("LAB"), "TIFF"),
    "16 bits RGB PNG": lambda: cv2.imencode(".png", SIXTEEN[..., :3])[1].tobytes(),
    "16 bits RGBA PNG": lambda: cv2.imencode(".png", SIXTEEN)[1].tobytes(),
    "16 bits RGB TIFF": lambda: cv2.imencode(".tiff", SIXTEEN[..., :3])[1].tobytes(),
    "16 bits grey TIFF": lambda: stored(SIXTEEN[..., 0].copy(), "TIFF"),
    "MPO": lambda: two("MPO"),
    "MPO turned": lambda: turned("MPO", 8),
    "animated WEBP": lambda: two("WEBP", lossless=True),
    "animated PNG": lambda: two("PNG"),
    "TIFF of two pages": lambda: two("TIFF"),
    **{
        f"{kind} turned {orientation}": lambda kind=kind, orientation=orientation: turned(kind, orientation)
        for kind in ("PNG", "WEBP", "TIFF")
        for orientation in range(2, 9)
    },
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_both_decoders_agree_on_unusual_images(name):
    """Proposals are made on what one sees, training crops what the other sees."""
    data = UNUSUAL[name]()
    strict, facts = images.inspect(data)
    assert distance(images.decode(data, name), strict) <= 2
    turn = name.rpartition(" turned")
    assert facts["rotated"] == bool(turn[1])
    assert strict.shape == ((56, 40, 3) if turn[1] and turn[2].strip() not in ("2", "3", "4") else (40, 56, 3))
    assert facts["cmyk"] == ("CMYK" in name or "YCCK" in name)
    assert strict.std() > 10


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


def test_what_training_could_not_decode_is_refused_offline():
    """PIL reads a PNG whose checksum is wrong, and many formats more than OpenCV; it draws EPS by another program."""
    png = bytearray(stored(picture(), "PNG"))
    png[-18] ^= 1  # of the data's CRC-32
    for data in (bytes(png), *(stored(picture(), kind) for kind in ("TGA", "ICO", "PCX", "EPS", "SGI"))):
        with pytest.raises(InputError, match="not an image that can be decoded"):
            images.decode(data, "x")
        with pytest.raises(images.BrokenImage, match=r"^cannot be decoded$"):
            images.inspect(data)


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


XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


def with_text(key, text):
    """A PNG's text chunks."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt(key, text)
    return {"pnginfo": chunks}


def raw_profile():
    """EXIF as ImageMagick writes it into a PNG's text."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes()
    return with_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n")


def upright_exif():
    """EXIF without an orientation: PIL then looks for one elsewhere."""
    exif = Image.Exif()
    exif[0x0131] = "a program"
    return exif


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"xmp": XMP}),
        ("JPEG", {"xmp": XMP, "exif": upright_exif()}),
        ("WEBP", {"xmp": XMP, "lossless": True}),
        ("PNG", with_text("XML:com.adobe.xmp", XMP.decode())),
        ("PNG", raw_profile()),
    ],
    ids=["JPEG", "JPEG with EXIF", "WEBP", "PNG", "PNG profile"],
)
def test_an_orientation_elsewhere_than_in_exif_is_nobodys(tmp_path, kind, options):
    """Proposals are made of what the strict decoder returns, training sees the fast one's: the same frame."""
    path = tmp_path / "image"
    path.write_bytes(stored(picture(), kind, **options))
    with Image.open(path) as image:
        assert image.getexif().get(0x0112) == 6 or kind == "PNG"  # which has its texts behind the pixels
    strict, facts = images.inspect(path.read_bytes())
    assert not facts["rotated"]
    assert strict.shape == images.decode(path.read_bytes(), "x").shape == (40, 56, 3)
    assert images.header(path)[0] == (56, 40)


@pytest.mark.parametrize("orientation", STORED)
def test_the_size_of_a_tiff_is_the_upright_one(tmp_path, orientation):
    path = tmp_path / "image.tif"
    path.write_bytes(
        stored(np.ascontiguousarray(STORED[orientation](picture())), "TIFF", tiffinfo={0x112: orientation})
    )
    strict, facts = images.inspect(path.read_bytes())
    assert (strict == picture()).all() and facts["rotated"] == (orientation != 1)
    assert images.header(path)[0] == (56, 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["short", "LONG of MM", "BYTE of II"])
def test_proposals_are_made_in_the_frame_that_training_sees(kind, orientation, form):
    """Also where the orientation is of a type that PIL and OpenCV do not both read."""
    entry = {
        "short": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation, 0, 0]),
        "LONG of MM": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0" + bytes([orientation]),
        "BYTE of II": b"II*\0\x08\0\0\0\x01\0\x12\x01\x01\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]),
    }[form]
    data = stored(picture(), kind, exif=b"Exif\0\0" + entry + bytes(4))
    assert distance(images.inspect(data)[0], images.decode(data, "x")) <= 2


def test_exif_behind_the_pixels_of_a_png(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = stored(np.ascontiguousarray(STORED[6](picture())), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    path = tmp_path / "late.png"
    path.write_bytes(data.replace(chunk, b"").replace(b"\0\0\0\0IEND", chunk + b"\0\0\0\0IEND"))
    strict, facts = images.inspect(path.read_bytes())
    assert facts["rotated"] and (strict == picture()).all() and (images.read(path) == picture()).all()
    assert images.header(path)[0] == (56, 40)


def test_damaged_exif_is_none(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(stored(picture(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nonsense"))
    strict, facts = images.inspect(path.read_bytes())
    assert not facts["rotated"] and distance(strict, images.read(path)) <= 2
    assert images.header(path)[0] == (56, 40)


def test_an_image_of_more_pixels_than_pil_likes_is_read(tmp_path):
    """An aerial or pathological one; 182 million pixels, of one bit for the test's sake."""
    path = tmp_path / "large.png"
    Image.new("1", (14000, 13000)).save(path)
    assert images.header(path) == ((14000, 13000), False)
