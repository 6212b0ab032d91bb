"""Tars of class tars: listed as the folder that they unpack to, or refused."""

import bz2
import gzip
import io
import lzma
import os
import tarfile

import pytest

from proseco.base.errors import InputError
from proseco.data import archive, listing
from tests.data.test_shards import folder  # noqa: F401, a fixture
from tests.making import listed, tree, write

LONG = "n2/" + "x" * 120 + "_é.JPEG"


def tar_of(members, format=tarfile.GNU_FORMAT):
    """Bytes of a tar of (name, bytes), or of finished headers."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def link(name, kind=tarfile.SYMTYPE, target="elsewhere.JPEG"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


IMAGES = {"n10/a.JPEG": b"a" * 700, "n10/b.JPEG": b"", "n2/sub/c.png": b"c" * 512, LONG: b"d" * 5}


def tar_of_tars(files=IMAGES, format=tarfile.GNU_FORMAT):
    """In the reverse order of the names, so that it must be sorted."""
    classes = {}
    for path, data in files.items():
        name, _, rest = path.partition("/")
        classes.setdefault(name, []).append((rest, data))
    return tar_of([(f"{n}.tar", tar_of(m[::-1], format)) for n, m in sorted(classes.items(), reverse=True)], format)


def members(tmp_path, data):
    path = tmp_path / "images.tar"
    path.write_bytes(data)
    return archive.members(path)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_images_are_found_where_they_are(tmp_path, format):
    data = tar_of_tars(format=format)
    found, passed_over = members(tmp_path, data)
    assert [(file.path, file.size) for file in found] == [(name, len(IMAGES[name])) for name in sorted(IMAGES)]
    assert passed_over == []
    assert {file.path: data[file.offset : file.offset + file.size] for file in found} == IMAGES
    with listing.reading(tmp_path / "images.tar") as read:
        assert {file.path: read(file) for file in found} == IMAGES
    assert sorted(os.listdir(tmp_path)) == ["images.tar"]  # nothing was unpacked


def test_what_is_no_image_of_a_class_is_passed_over(tmp_path):
    inner = [
        ("/etc/a.JPEG", b"x"),
        ("../../b.JPEG", b"x"),
        ("ok/../../c.JPEG", b"x"),
        link("d.JPEG"),
        link("e.JPEG", tarfile.LNKTYPE),
        link("f.JPEG", tarfile.CHRTYPE),
        ("line\nbreak.JPEG", b"x"),
        link("folder.JPEG", tarfile.DIRTYPE),
        ("README.txt", b"x"),
        ("._g.JPEG", b"x"),
        ("./good.JPEG", b"good"),
    ]
    outer = [("n1.tar", tar_of(inner)), link("n2.tar"), ("../n3.tar", tar_of_tars()), ("stray.JPEG", b"x")]
    found, passed_over = members(tmp_path, tar_of(outer))
    assert [(file.path, file.size) for file in found] == [("n1/good.JPEG", 4)]
    out = "its path leads out of the archive"
    assert [(entry["file"], entry["reason"]) for entry in passed_over] == [
        ("n1//etc/a.JPEG", out),
        ("n1/../../b.JPEG", out),
        ("n1/ok/../../c.JPEG", out),
        ("n1/d.JPEG", "a link"),
        ("n1/e.JPEG", "a link"),
        ("n1/f.JPEG", "not a plain file"),
        ("n1/line\nbreak.JPEG", "its name is not printable text"),
        ("n2.tar", "a link"),
        ("../n3.tar", out),
    ]


def test_of_two_members_of_one_name_the_later_counts(tmp_path):
    found, _ = members(tmp_path, tar_of([("n1.tar", tar_of([("a.JPEG", b"first"), ("a.JPEG", b"later!")]))]))
    with listing.reading(tmp_path / "images.tar") as read:
        assert [read(file) for file in found] == [b"later!"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gzip.compress(tar_of_tars()), r"images\.tar' is compressed \(gzip\); .* unpack it to a plain tar"),
        (bz2.compress(tar_of_tars()), r"compressed \(bzip2\)"),
        (lzma.compress(tar_of_tars()), r"compressed \(xz\)"),
        (tar_of([("n1.tar", gzip.compress(tar_of([])))]), r"images\.tar: n1\.tar' is compressed \(gzip\)"),
        (tar_of([("n1.tar.gz", b"")]), r"holds 'n1\.tar\.gz', which is compressed"),
        (tar_of([("n1.tar", b"no tar" * 200)]), r"images\.tar: n1\.tar' is not a tar"),
        (tar_of([("n1.tar", b"")]), r"images\.tar: n1\.tar' is not a tar"),
        (b"", "is not a tar"),
        (b"text\n" * 400, "is not a tar"),
        (tar_of([]), "holds no class tars with images"),
        (tar_of([("a.JPEG", b"x")]), "holds no class tars with images"),
        (tar_of([("n1.tar", tar_of([("a.txt", b"x")]))]), "holds no class tars with images"),
    ],
)
def test_other_files_are_refused(tmp_path, data, words):
    with pytest.raises(InputError, match=words) as caught:
        members(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_a_cut_tar_is_refused_wherever_it_is_cut(tmp_path):
    """tarfile itself takes many of these for the end of the archive."""
    data = tar_of_tars()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        end = max(member.offset_data + member.size for member in tar)
    for size in range(1, end, 211):
        with pytest.raises(InputError, match=r"cut or damaged after byte|is not a tar"):
            members(tmp_path, data[:size])
    with pytest.raises(InputError, match="lacks the mark of its end"):
        members(tmp_path, data[:end])


def test_a_damaged_header_is_no_end(tmp_path):
    data = bytearray(tar_of_tars())
    data[data.index(b"n10.tar") + 130] ^= 1  # in its size
    with pytest.raises(InputError, match="cut or damaged after byte"):
        members(tmp_path, bytes(data))


def test_hostile_sizes_are_refused(tmp_path):
    for size in (b"\xff" * 12, b"\x80" + b"\x7f" * 11):  # negative, and beyond any file
        header = bytearray(tarfile.TarInfo("n1.tar").tobuf(tarfile.GNU_FORMAT))
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        with pytest.raises(InputError, match=r"cut or damaged|is not a tar"):
            members(tmp_path, bytes(header) + bytes(4096))


def test_the_shards_are_those_of_the_unpacked_folder(folder, tmp_path):  # noqa: F811
    files = {file.path: (folder / file.path).read_bytes() for file in listed(folder) if "/" in file.path}
    for path, data in files.items():
        (tmp_path / "unpacked" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unpacked" / path).write_bytes(data)
    found, _ = members(tmp_path, tar_of_tars(files))
    assert listing.digest(found) == listing.digest(listed(tmp_path / "unpacked"))
    write(tmp_path / "a", tmp_path / "images.tar", found)
    write(tmp_path / "b", tmp_path / "unpacked")
    assert tree(tmp_path / "a") == tree(tmp_path / "b") and len(tree(tmp_path / "a")) == 7
