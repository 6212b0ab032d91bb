import pytest

from proseco.base.errors import InputError
from proseco.benchmarks import voc_xml
from proseco.data.annotations import check_images
from tests.benchmarks.test_voc import thing, xml


def write(root, labels, pictures, **files):
    """``files``: name -> (XML, image file)."""
    for folder in (labels, pictures):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, (text, picture) in files.items():
        (root / labels / f"{name}.xml").write_text(text)
        (root / pictures / picture).touch()


def named(text, name):
    return text.replace("<size>", f"<filename>{name}</filename><size>")


@pytest.mark.parametrize(
    ("subset", "labels", "pictures"),
    [
        ("train", "train", "train"),
        ("train", "train/Annotations", "train/JPEGImages"),
        ("train", "train/Annotations", "train/images"),
        ("train", "train/Annotations", "train"),
        ("train", "train", "images"),
        ("Annotations", "Annotations", "JPEGImages"),
        (".", "Annotations", "images"),
        (".", ".", "."),
    ],
)
def test_layouts(tmp_path, subset, labels, pictures):
    first = (named(xml(thing("zebra"), thing("ant")), "x one.PNG"), "x one.PNG")
    second = (named(xml(thing("ant")), "not its name.jpg"), "two.jpeg")
    write(tmp_path, labels, pictures, one=first, two=second, three=(xml(), "three.jpg"))
    found = voc_xml.load(tmp_path, subset)
    assert [image["key"] for image in found["images"]] == ["one", "three", "two"]
    folder = "" if pictures == "." else f"{pictures}/"
    assert [image["file_name"] for image in found["images"]] == [
        f"{folder}x one.PNG",
        f"{folder}three.jpg",
        f"{folder}two.jpeg",
    ]
    check_images(found, tmp_path, source="mine")
    assert [category["name"] for category in found["categories"]] == ["ant", "zebra"]
    assert [(record["image_id"], record["category_id"]) for record in found["annotations"]] == [(1, 1), (1, 0), (3, 0)]
    assert voc_xml.load(tmp_path, subset, images=pictures) == found


def test_what_macos_leaves_beside_a_file_is_no_label(tmp_path):
    write(tmp_path, "train", "train", one=(xml(thing("dog")), "one.jpg"))
    (tmp_path / "train/._one.xml").write_bytes(b"\x00\x05\x16\x07")
    assert [image["key"] for image in voc_xml.load(tmp_path, "train")["images"]] == ["one"]
    with pytest.raises(InputError, match=r"the root has the subsets train$"):
        voc_xml.load(tmp_path, "valid")


@pytest.mark.parametrize("path", ["/home/someone/pictures/first.jpg", r"C:\pictures\first.jpg", "pictures/first.jpg"])
def test_of_a_whole_path_the_name_counts(tmp_path, path):
    write(
        tmp_path, "train", "train", one=(named(xml(), path), "first.jpg"), two=(named(xml(), path[:-9] + "x.png"), "y")
    )
    names = [image["file_name"] for image in voc_xml.load(tmp_path, "train")["images"]]
    assert names == ["train/first.jpg", "train/x.png"]  # the latter is not there, and will be reported


def test_an_image_of_the_xmls_own_name_counts_more_than_its_filename(tmp_path):
    stale = named(xml(), "a.jpg")
    files = {name: (stale, f"{name}.jpg") for name in ("a", "a_flip")}
    files |= {"b": (stale, "b.png"), "c": (named(xml(), "c.PNG"), "c.PNG"), "d": (stale, "x.jpg")}
    write(tmp_path, "train", "train", **files)
    (tmp_path / "train/c.jpg").touch()  # of two of its own name the filename says which
    names = [image["file_name"] for image in voc_xml.load(tmp_path, "train")["images"]]
    assert names == ["train/a.jpg", "train/a_flip.jpg", "train/b.png", "train/c.PNG", "train/a.jpg"]


def test_classes_of_all_subsets_or_of_the_list(tmp_path):
    write(tmp_path, "train", "train", one=(xml(thing("dog")), "one.jpg"))
    write(tmp_path, "valid", "valid", two=(xml(thing("cat")), "two.jpg"))
    both = [voc_xml.load(tmp_path, subset) for subset in ("train", "valid")]
    assert both[0]["categories"] == both[1]["categories"]
    assert [part["annotations"][0]["category_id"] for part in both] == [1, 0]
    (tmp_path / "classes.txt").write_text("dog\n")
    assert voc_xml.load(tmp_path, "train")["annotations"][0]["category_id"] == 0
    with pytest.raises(InputError, match=r"no class named 'cat'; there is dog .*two\.xml"):
        voc_xml.load(tmp_path, "valid")


def test_lists(tmp_path):
    files = {name: (xml(thing("dog")), f"{name}.jpg") for name in ("a", "b", "c")}
    write(tmp_path, "Annotations", "JPEGImages", **files)
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("c\na\n")
    found = voc_xml.load(tmp_path, "train")
    assert [image["key"] for image in found["images"]] == ["a", "c"]
    check_images(found, tmp_path, source="mine")
    with pytest.raises(InputError, match=r"no list '.*test\.txt'; the root has the subsets Annotations, train$"):
        voc_xml.load(tmp_path, "test")
    (tmp_path / "JPEGImages/c.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 2 image files of mine are missing, the first is '.*/c\.jpg'"):
        check_images(voc_xml.load(tmp_path, "train"), tmp_path, source="mine")


def test_names_with_blanks_give_keys_without(tmp_path):
    write(tmp_path, "train", "train", **{"my  photo (1)": (xml(), "my  photo (1).jpg")})
    found = voc_xml.load(tmp_path, "train")
    assert found["images"][0]["key"] == "my_photo_(1)"  # one word, as id files hold it
    assert found["images"][0]["file_name"] == "train/my  photo (1).jpg"


def test_what_editors_keep_in_hidden_folders_is_no_label(tmp_path):
    write(tmp_path, "train", "train", one=(xml(thing("dog")), "one.jpg"))
    for folder in (".idea", "train/.ipynb_checkpoints"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".idea/modules.xml").write_text("<no xml")
    (tmp_path / "train/.ipynb_checkpoints/one-checkpoint.xml").write_text(xml(thing("zombie")))
    assert [category["name"] for category in voc_xml.load(tmp_path, "train")["categories"]] == ["dog"]


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "UTF-16", "windows-1252"])
def test_a_file_is_read_in_the_encoding_that_it_declares(tmp_path, encoding):
    text = xml(thing("bébé"), before=f'<?xml version="1.0" encoding="{encoding}"?>')
    write(tmp_path, "train", "train", one=("", "one.jpg"))
    (tmp_path / "train/one.xml").write_bytes(text.encode(encoding))
    assert [category["name"] for category in voc_xml.load(tmp_path, "train")["categories"]] == ["bébé"]
    declared = text.replace("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>')
    (tmp_path / "train/one.xml").write_bytes(declared.encode(encoding))
    with pytest.raises(InputError, match=r"one\.xml' declares a DOCTYPE or an entity"):
        voc_xml.load(tmp_path, "train")


def test_an_encoding_that_nobody_knows(tmp_path):
    write(tmp_path, "train", "train", one=(xml(before='<?xml version="1.0" encoding="klingon"?>'), "one.jpg"))
    with pytest.raises(InputError, match=r"one\.xml' is not readable XML: .*encoding"):
        voc_xml.load(tmp_path, "train")


def test_label_files_in_deeper_folders_are_not_passed_over(tmp_path):
    write(tmp_path, "train", "train", one=(xml(thing("dog")), "one.jpg"))
    write(tmp_path, "train/more/of it", "train", two=(xml(thing("dog")), "two.jpg"))
    with pytest.raises(
        InputError, match=r"^1 XML files lie in folders below .*train', the first is 'more/of it/two\.xml'"
    ):
        voc_xml.load(tmp_path, "train")
    (tmp_path / "train/more/of it/two.xml").rename(tmp_path / "train/more/of it/two.tif.aux.xml")  # GDAL's
    assert [image["key"] for image in voc_xml.load(tmp_path, "train")["images"]] == ["one"]
    write(tmp_path, ".", ".", three=(xml(thing("dog")), "three.jpg"))  # the root, of which they may be other subsets
    assert [image["key"] for image in voc_xml.load(tmp_path, ".")["images"]] == ["three"]
