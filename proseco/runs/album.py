"""Pictures of a pretraining while it runs: boxes on a few images, drawn anew as it goes on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from proseco import boxes as box_ops
from proseco import pictures
from proseco.base.randomness import generator
from proseco.data.batch import Batch, collate


def draw_views(method, source, path: Path, *, seed: int, images: int = 4) -> None:
    """A sheet with a column an image and a row a view, for a method that predicts no boxes. Boxes of one region have
    one colour in all crops.

    :param method: has a ``transform``; ``source``, ``path`` and ``images`` as of :class:`Album`.
    """
    batch = _examples(method, source, seed, images)
    none, side = [torch.zeros(0, 4)] * len(batch), pictures.cell_side(len(batch))
    shown = [(view, none) for view in batch.views] + [(crops.images, crops.boxes) for crops in batch.crops]
    rows = [[_drawn(image, b, pictures.colors(len(b)), side) for image, b in zip(*view, strict=True)] for view in shown]
    pictures.contact_sheet(rows, path, row_titles=[f"view {number}" for number in range(1, len(rows) + 1)])


def _examples(method, source, seed: int, images: int) -> Batch:
    """So many images of the source, evenly spaced, as the method sees them."""
    samples = [source[i * len(source) // images] for i in range(min(images, len(source)))]
    return collate([method.transform(s, generator(seed, "album", s.key)) for s in samples])


def _drawn(image: Tensor, boxes_cxcywh: Tensor, colors: Sequence[str], side: int) -> np.ndarray:
    """(3, H, W) with boxes -> a picture of that side."""
    height, width = image.shape[1:]
    corners = box_ops.scale(box_ops.cxcywh_to_xyxy(boxes_cxcywh), torch.tensor([width, height])).numpy()
    picture = image.permute(1, 2, 0).contiguous().numpy()
    return pictures.draw_boxes(picture, corners, color=colors, long_edge=side, at_most=side)


class Album:
    """A sheet with a column an image: the boxes drawn of its proposals, what the student predicts for them at several
    moments, one below the other, and what the teacher, if there is one, predicts for them now.

    A prediction has the colour of the drawn box that it is matched with.
    """

    def __init__(self, method, source, path: Path | None, *, seed: int, device: torch.device, images: int = 4):
        """
        :param method: has a ``transform`` and ``matched_predictions``, as :class:`proseco.methods.proseco.ProSeCo`.
        :param source: of samples; ``images`` of them are taken, evenly spaced.
        :param path: of the PNG, which is replaced at every moment; None where another process writes it.
        """
        self.method, self.path = method, path
        self.batch = _examples(method, source, seed, images)
        self.on_device = self.batch.to(device)
        self.taken: list[tuple[int, dict[str, list]]] = []

    def take(self, step: int) -> None:
        """Remember what is predicted after so many steps, and write the picture."""
        self.taken.append((step, self.method.matched_predictions(self.on_device)))
        if self.path is not None:
            self.write(self.path)

    def write(self, path: Path) -> None:
        """Write the sheet, whole or not at all."""
        rows = {"drawn boxes": [(boxes, range(len(boxes))) for boxes in self.batch.boxes]}
        rows |= {f"student, step {step:,}": found["student"] for step, found in self.taken}
        step, found = self.taken[-1]
        if "teacher" in found:
            rows[f"teacher, step {step:,}"] = found["teacher"]
        pictures.contact_sheet([self._row(boxes) for boxes in rows.values()], path, row_titles=list(rows))

    def _row(self, boxes: Sequence[tuple[Tensor, Sequence[int]]]) -> list[np.ndarray]:
        """Per image boxes (m, 4) cxcywh and numbers (m,) of drawn boxes, on its first view without the padding."""
        drawn, side = [], pictures.cell_side(len(self.batch))
        palette = pictures.colors(max(map(len, self.batch.boxes)))
        for view, mask, (one, numbers) in zip(self.batch.views[0], self.batch.mask, boxes, strict=True):
            height, width = int((~mask[:, 0]).sum()), int((~mask[0]).sum())
            drawn.append(_drawn(view[:, :height, :width], one, [palette[number] for number in numbers], side))
        return drawn

    def state_dict(self) -> dict:
        """The moments so far, to go on from after a kill."""
        return {"taken": list(self.taken)}

    def load_state_dict(self, state: dict) -> None:
        """Take the moments up again, and write their picture: the folder that a kill left may have none."""
        self.taken = list(state["taken"])
        if self.taken and self.path is not None:
            self.write(self.path)
