"""Boxes and sheets: pixels where they belong."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from proseco import pictures
from proseco.base.errors import InputError


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def share(image, color):
    """Part of the pixels that have a colour."""
    rgb = np.round(255 * np.array(matplotlib.colors.to_rgb(color)))
    return (np.abs(image - rgb).max(axis=-1) <= 2).mean()


def test_boxes_lie_where_they_should():
    image = np.full((60, 80, 3), 255, np.uint8)
    kept = image.copy()
    drawn = pictures.draw_boxes(image, [[10, 20, 50, 40]], color="#ff0000", long_edge=240)
    assert drawn.shape == (180, 240, 3)  # three times as large
    assert drawn.dtype == np.uint8
    assert (image == kept).all()
    red = (drawn == [255, 0, 0]).all(axis=-1)
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (59, 120, 29, 150)  # the line's middle is the edge
    assert not red[62:118, 32:148].any()  # a frame, not a plate
    assert (drawn[58, 30:150] == 0x22).all() and (drawn[57, 30:150] == 255).all()  # the dark rim, and nothing beyond


def test_a_box_keeps_its_place_and_its_line_when_its_image_is_shrunk():
    image = np.zeros((500, 900, 3), np.uint8)
    drawn = pictures.draw_boxes(image, [[180, 90, 540, 360]], color="#ff0000", at_most=300)
    assert drawn.shape == (167, 300, 3)
    rows, columns = np.nonzero((drawn == [255, 0, 0]).all(axis=-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (29, 120, 59, 180)
    assert (drawn[75, 50:70] == [255, 0, 0]).all(axis=-1).sum() == 3  # pixels wide, however large the image was
    small = np.zeros((30, 40, 3), np.uint8)
    assert pictures.draw_boxes(small, [], color=[], at_most=300).shape == (225, 300, 3)


def test_boxes_take_colours_in_turn():
    assert pictures.colors(9) == [*pictures.PALETTE, *pictures.PALETTE[:2]] and pictures.colors(0) == []
    assert len(set(pictures.PALETTE)) == 7


def test_large_images_keep_their_size_and_no_box_is_none():
    image = np.full((500, 700, 3), 7, np.uint8)
    assert (pictures.draw_boxes(image, np.zeros((0, 4)), color=pictures.TRUTH, labels=[], scores=[]) == image).all()


def test_the_surest_box_is_on_top_and_names_do_not_leave_the_image():
    image = np.zeros((480, 480, 3), np.uint8)
    boxes = [[100, 100, 300, 300], [100, 100, 300, 300]]
    drawn = pictures.draw_boxes(image, boxes, color=["#ff0000", "#0000ff"], scores=[0.9, 0.2])
    assert drawn[300 - 1, 200].tolist() == [255, 0, 0]
    plain = pictures.draw_boxes(image, [[400, 0, 480, 60]], color="#00ff00")
    named = pictures.draw_boxes(image, [[400, 0, 480, 60]], color="#00ff00", labels=["a longer name"])
    plate = (plain != named).any(axis=-1)
    assert plate[:40].sum() > 1000
    columns = np.nonzero(plate.any(axis=0))[0]
    assert columns.min() < 398  # moved to the left
    assert columns.max() < 479  # until it fits
    assert named.shape == image.shape


def test_a_contact_sheet_holds_every_image(tmp_path):
    red, green, blue = (np.full((*size, 3), 0, np.uint8) for size in ((40, 60), (60, 30), (50, 50)))
    red[..., 0], green[..., 1], blue[..., 2] = 255, 255, 255
    pictures.contact_sheet([[red, green], [blue]], tmp_path / "sheet.png", ["one", "two"])
    sheet = pixels(tmp_path / "sheet.png")
    area = sheet.shape[0] * sheet.shape[1]
    # All fitted into squares of 60: 60 x 40, 30 x 60, 60 x 60.
    assert [round(share(sheet, c) * area) for c in ("#ff0000", "#00ff00", "#0000ff")] == [2400, 1800, 3600]
    bare = tmp_path / "bare.png"
    pictures.contact_sheet([[red, green], [blue]], bare)
    assert pixels(bare).shape[0] == sheet.shape[0] and pixels(bare).shape[1] < sheet.shape[1]


def test_a_wide_sheet_fits_the_page(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (300, 900, 3), dtype=np.uint8)
    pictures.contact_sheet([[image] * 4], tmp_path / "sheet.png")
    assert pixels(tmp_path / "sheet.png").shape[1] == 1700


def test_a_montage_puts_pictures_side_by_side(tmp_path):
    for name, color in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        Image.new("RGB", (300, 400), color).save(tmp_path / f"{name}.png")
    out = tmp_path / "montage.png"
    pictures.montage({"Supervised": tmp_path / "a.png", "ProSeCo": tmp_path / "b.png"}, out)
    sheet = pixels(out)
    red, blue = ((sheet == color).all(axis=-1) for color in ([255, 0, 0], [0, 0, 255]))
    assert (red.sum(), blue.sum()) == (120_000, 120_000)
    assert np.nonzero(red)[1].max() < np.nonzero(blue)[1].min()
    assert np.nonzero(red)[0].min() == np.nonzero(blue)[0].min()
    assert (sheet[: np.nonzero(red)[0].min()] < 100).any()  # the titles
    with pytest.raises(InputError, match=r"no picture .*c\.png"):
        pictures.montage({"c": tmp_path / "c.png"}, out)


def test_a_montage_leaves_no_row_almost_empty():
    def columns(count, aspect):
        return min(range(1, count + 1), key=lambda n: pictures._misfit(n, count, aspect))

    assert [columns(4, 1), columns(2, 0.6), columns(3, 0.5), columns(3, 4)] == [2, 2, 3, 1]
    assert columns(5, 0.6) == 3
