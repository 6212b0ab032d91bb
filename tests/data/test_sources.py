import numpy as np
import pytest
from PIL import Image

from proseco.base.errors import InputError
from proseco.data import sources


def save(path, width, height, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


def thing(number, image, category, box, **flags):
    about = {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
    return {**about, "iscrowd": 0, "difficult": 0, **flags}


@pytest.fixture
def annotations(tmp_path):
    """Three images of unequal sizes; the second has no object, the third a crowd and a difficult one."""
    save(tmp_path / "pictures/a.png", 40, 30, 10)
    save(tmp_path / "pictures/b.png", 20, 50, 20)
    save(tmp_path / "c.png", 33, 22, 30)
    images = [
        {"id": 4, "key": "4", "file_name": "pictures/a.png", "width": 40, "height": 30},
        {"id": 7, "key": "7", "file_name": "pictures/b.png", "width": 20, "height": 50},
        {"id": 9, "key": "9", "file_name": "c.png", "width": 33, "height": 22},
    ]
    things = [
        thing(1, 9, 2, [1, 2, 3, 4]),
        thing(2, 4, 0, [5.5, 6, 10, 12.25]),
        thing(3, 9, 1, [0, 0, 33, 22], iscrowd=1),
        thing(4, 9, 1, [10, 10, 5, 5], difficult=1),
    ]
    names = [{"id": i, "name": name, "original_id": i} for i, name in enumerate(("cat", "dog", "cow"))]
    return {"images": images, "annotations": things, "categories": names}


def test_boxes_become_corners_and_crowds_are_left_out(annotations, tmp_path):
    source = sources.AnnotatedImages(annotations, tmp_path)
    assert len(source) == 3
    first, second, third = (source[i] for i in range(3))
    assert (first.key, second.key, third.key) == ("4", "7", "9")
    assert first.image.shape == (30, 40, 3) and (first.image == 10).all()
    assert first.boxes_xyxy.tolist() == [[5.5, 6, 15.5, 18.25]] and first.labels.tolist() == [0]
    assert second.boxes_xyxy.shape == (0, 4) and second.labels.shape == (0,)
    assert third.boxes_xyxy.tolist() == [[1, 2, 4, 6], [10, 10, 15, 15]] and third.labels.tolist() == [2, 1]
    for sample in (first, second, third):
        assert sample.boxes_xyxy.dtype == np.float32 and sample.labels.dtype == np.int64


def test_difficult_objects_can_be_left_out(annotations, tmp_path):
    source = sources.AnnotatedImages(annotations, tmp_path, difficult=False)
    assert source[2].labels.tolist() == [2] and source[0].labels.tolist() == [0]


def test_an_image_of_another_size_is_named(annotations, tmp_path):
    save(tmp_path / "pictures/b.png", 50, 20)
    source = sources.AnnotatedImages(annotations, tmp_path)
    assert source[0].key == "4"
    words = r"pictures/b\.png: the image is 50 x 20 pixels, its annotation says 20 x 50"
    with pytest.raises(InputError, match=words):
        source[1]


def test_no_images(annotations, tmp_path):
    with pytest.raises(InputError, match="the annotations list no image"):
        sources.AnnotatedImages({**annotations, "images": []}, tmp_path)
    with pytest.raises(InputError, match=r"no image '.*elsewhere/pictures/a\.png'; is the data set's root right"):
        sources.AnnotatedImages(annotations, tmp_path / "elsewhere")
    (tmp_path / "c.png").unlink()
    with pytest.raises(InputError, match=r"cannot read image '.*c\.png'"):
        sources.AnnotatedImages(annotations, tmp_path)[2]


def test_folders_are_classes(tmp_path):
    for name, value in (("n2/x.png", 1), ("n1/b/y.png", 2), ("n2/a.png", 3), ("n10/z.png", 4)):
        save(tmp_path / "train" / name, 12, 9, value)
    save(tmp_path / "train/stray.png", 12, 9)
    save(tmp_path / "val/n3/other.png", 12, 9)
    (tmp_path / "train/n4").mkdir()
    (tmp_path / "train/n4/notes.txt").write_text("no image")
    source = sources.ClassFolders(tmp_path)
    assert source.classes == ["n1", "n10", "n2"]  # as text, as torchvision's ImageFolder counts
    samples = [source[i] for i in range(len(source))]
    assert [sample.key for sample in samples] == ["n1/b/y.png", "n10/z.png", "n2/a.png", "n2/x.png"]
    assert [sample.labels.tolist() for sample in samples] == [[0], [1], [2], [2]]
    assert [int(sample.image[0, 0, 0]) for sample in samples] == [2, 4, 3, 1]
    assert samples[0].boxes_xyxy.shape == (0, 4) and samples[0].labels.dtype == np.int64


@pytest.mark.parametrize("there", ["nothing", "stray"])
def test_no_class_folders(tmp_path, there):
    if there == "stray":
        save(tmp_path / "train/stray.png", 12, 9)
    with pytest.raises(InputError, match=r"no class folders with images in '.*train'"):
        sources.ClassFolders(tmp_path)


def test_outlines_on_request_of_images_whose_every_object_has_one(annotations, tmp_path):
    triangle = [[1, 2, 4, 2, 4, 6]]
    for number in (0, 1, 2):
        annotations["annotations"][number]["segmentation"] = triangle
    source = sources.AnnotatedImages(annotations, tmp_path, outlines=True)
    assert [[len(polygons) for polygons in source[0].outlines]] == [[1]]
    assert (source[0].outlines[0][0] == [[1, 2], [4, 2], [4, 6]]).all()
    assert source[1].outlines is None  # no object
    assert source[2].outlines is None  # the difficult one has none
    assert len(sources.AnnotatedImages(annotations, tmp_path, outlines=True, difficult=False)[2].outlines) == 1
    assert sources.AnnotatedImages(annotations, tmp_path)[0].outlines is None


def test_key_and_size_are_known_without_the_image(annotations, tmp_path):
    source = sources.AnnotatedImages(annotations, tmp_path)
    for number in range(3):
        sample = source[number]
        assert source.key(number) == sample.key
        assert source.size(number) == (sample.image.shape[1], sample.image.shape[0])
