import pytest

from proseco.base.errors import InputError
from proseco.data import listing
from proseco.data.listing import File
from tests.data.test_archive import IMAGES, members, tar_of_tars

FOUND = [File("a/é b.jpg", 3), File("a/\u2028\x85.jpg", 0), File("c.png", 2**40, 512), File("d.png", 1, 0)]


def test_what_is_saved_is_loaded(tmp_path):
    listing.save(tmp_path / "list.tsv", FOUND)
    assert listing.load(tmp_path / "list.tsv") == FOUND


@pytest.mark.parametrize("name", ["tab\t.jpg", "line\n.jpg", "\udcff.jpg", "bell\x07.jpg"])
def test_names_that_would_break_it_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"has control characters in its name, or is not UTF-8; rename it"):
        listing.save(tmp_path / "list.tsv", [File(name, 1)])


@pytest.mark.parametrize("content", [None, b"", b"a.jpg\n", b"a.jpg\tx\t\n", b"\xff\t1\t\n"])
def test_what_is_no_listing_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "list.tsv").write_bytes(content)
    with pytest.raises(InputError, match=r"list\.tsv'.*`dvc repro -f inventory@<scale>` lists the images anew"):
        listing.load(tmp_path / "list.tsv")


def test_subsets():
    found = [File("train/n1/a.jpg", 1), File("train2/b.jpg", 2, 7), File("c.jpg", 3)]
    assert listing.in_folder(found, "train") == [File("n1/a.jpg", 1)]
    assert listing.in_folder(found, "train/n1/") == [File("a.jpg", 1)]
    assert listing.in_folder(found, ".") == found
    assert listing.in_folder(found, "rain") == listing.in_folder(found, "..") == []


def test_where_the_paths_lead(tmp_path):
    (tmp_path / "images.tar").touch()
    assert listing.base(tmp_path, "train") == tmp_path / "train"
    assert listing.base(tmp_path / "images.tar", "train") == tmp_path / "images.tar"


def test_the_digest_does_not_know_where_the_images_lie():
    assert listing.digest([File("a", 1, 5)]) == listing.digest([File("a", 1)]) != listing.digest([File("a", 2)])


def test_a_folder_that_changed_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"abc")
    with listing.reading(tmp_path) as read:
        assert read(File("a.jpg", 3)) == b"abc"
        again = r"`dvc repro -f inventory@<scale>`"
        with pytest.raises(InputError, match=rf"a\.jpg' has 3 bytes, 4 when stage inventory listed it; {again}"):
            read(File("a.jpg", 4))
        with pytest.raises(InputError, match=rf"cannot read '.*b\.jpg', which stage .* No such file.*; {again}"):
            read(File("b.jpg", 4))


def test_a_tar_that_changed_is_named(tmp_path):
    path = tmp_path / "images.tar"
    found, _ = members(tmp_path, tar_of_tars())
    path.write_bytes(tar_of_tars(IMAGES | {"n10/0.JPEG": b"new"}))
    with listing.reading(path) as read:
        wrong = 0
        for file in found:
            try:
                assert read(file) == IMAGES[file.path]
            except InputError as error:
                assert f"no longer holds {file.path!r} where stage inventory found it" in str(error)
                wrong += 1
        assert wrong
    path.write_bytes(path.read_bytes()[: found[0].offset + 2])
    with listing.reading(path) as read, pytest.raises(InputError, match="no longer holds"):
        read(found[0])
    path.unlink()
    with pytest.raises(InputError, match=r"cannot read '.*images\.tar': No such file"), listing.reading(path):
        pass
