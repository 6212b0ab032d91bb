"""The sheet of a pretraining: what is on it, and that it is there while the training runs."""

import numpy as np
import pytest
import torch
from PIL import Image

from proseco import pictures
from proseco.data.sample import Sample
from proseco.data.views import Example
from proseco.runs.album import Album

CPU = torch.device("cpu")


class Method:
    """Predicts the drawn boxes in reverse order, the teacher all but one."""

    def transform(self, sample, rng):
        boxes = np.float32([[0.2 + 0.3 * i, 0.5, 0.2, 0.4] for i in range(int(sample.key) + 1)])
        views = [sample.image, np.zeros_like(sample.image)]
        return Example(sample.key, views, boxes, np.zeros(len(boxes), np.int64), (9, 9))

    def matched_predictions(self, batch):
        student = [(boxes.flip(0), list(range(len(boxes)))[::-1]) for boxes in batch.boxes]
        return {"student": student, "teacher": [(boxes[:-1], numbers[:-1]) for boxes, numbers in student]}


@pytest.fixture
def source():
    """Grey images of unequal sizes, the n-th with n + 1 boxes."""
    return [Sample(str(n), np.full((60 + 20 * n, 120, 3), 128, np.uint8), np.zeros((0, 4))) for n in range(3)]


def cells(path, rows, columns=3):
    """Pixels of the sheet's cells, less the margins of titles."""
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(int)
    left = sheet.shape[1] - columns * (pictures.cell_side(columns) + 8)
    heights = np.array_split(np.arange(sheet.shape[0]), rows)
    widths = np.array_split(np.arange(left, sheet.shape[1]), columns)
    return [[sheet[h[0] : h[-1] + 1, w[0] : w[-1] + 1] for w in widths] for h in heights]


def has(cell, color):
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(cell - rgb).max(-1) < 2).any())


def test_the_sheet_is_there_after_every_moment(tmp_path, source):
    path = tmp_path / "boxes.png"
    album = Album(Method(), source, path, seed=0, device=CPU, images=3)
    heights = []
    for step in (0, 1200):
        album.take(step)
        heights.append(Image.open(path).height)
    assert heights[1] > heights[0] and [p.name for p in tmp_path.iterdir()] == ["boxes.png"]
    drawn, early, late, teacher = cells(path, 4)
    for number, cell in enumerate(drawn):
        assert [has(cell, color) for color in pictures.PALETTE[:4]] == [i <= number for i in range(4)]
        assert (cell == early[number]).all() and (cell == late[number]).all()  # each box in its own colour
        assert [has(teacher[number], color) for color in pictures.PALETTE[:4]] == [0 < i <= number for i in range(4)]


def test_a_method_without_a_teacher_has_no_row_of_it(tmp_path, source):
    class Alone(Method):
        def matched_predictions(self, batch):
            return {"student": super().matched_predictions(batch)["student"]}

    heights = []
    for method, name in ((Method(), "two.png"), (Alone(), "one.png")):
        album = Album(method, source, tmp_path / name, seed=0, device=CPU, images=3)
        album.take(0)
        heights.append(Image.open(tmp_path / name).height)
    assert heights[1] * 3 == pytest.approx(heights[0] * 2, rel=0.05)


def test_another_process_writes_nothing_and_a_saved_album_goes_on(tmp_path, source):
    whole, silent = (Album(Method(), source, path, seed=0, device=CPU) for path in (tmp_path / "a.png", None))
    whole.take(0)
    silent.take(0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    again = Album(Method(), source, tmp_path / "b.png", seed=0, device=CPU)
    torch.save(silent.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for album in (whole, again):
        album.take(7)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
