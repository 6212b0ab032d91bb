"""Pictures of a training while it runs: boxes or views of a few images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from proseco import boxes as box_ops
from proseco import pictures
from proseco.base.randomness import generator
from proseco.data.batch import Batch, collate
from proseco.data.sample import Source, evenly_spaced
from proseco.training.loop import DetectorMethod, Method


def draw_views(method: Method, source: Source, path: Path, *, seed: int, images: int = 4) -> None:
    """Write a sheet with one column per image and one row per view, for a method that predicts no boxes.

    Boxes of one region have the same colour in all crops. ``source``, ``path`` and ``images``: as for :class:`Album`.
    """
    batch = _examples(method, source, seed, images)
    no_boxes, side = [torch.zeros(0, 4)] * len(batch), pictures.cell_side(len(batch))
    shown = [(view, no_boxes) for view in batch.views] + [(crops.images, crops.boxes) for crops in batch.crops]
    rows = [[_drawn(image, b, pictures.colors(len(b)), side) for image, b in zip(*view, strict=True)] for view in shown]
    pictures.contact_sheet(rows, path, row_titles=[f"view {number}" for number in range(1, len(rows) + 1)])


def _examples(method: Method, source: Source, seed: int, images: int) -> Batch:
    """That many images of the source, evenly spaced, as the method sees them."""
    samples = [source[i] for i in evenly_spaced(len(source), images)]
    return collate([method.transform(s, generator(seed, "album", s.key)) for s in samples])


def _drawn(image: Tensor, boxes_cxcywh: Tensor, colors: Sequence[str], side: int) -> np.ndarray:
    """(3, H, W) uint8 and its boxes (n, 4) -> a picture whose longer side has ``side`` pixels."""
    height, width = image.shape[1:]
    corners = box_ops.scale(box_ops.cxcywh_to_xyxy(boxes_cxcywh), torch.tensor([width, height])).numpy()
    picture = image.permute(1, 2, 0).contiguous().numpy()
    return pictures.draw_boxes(picture, corners, color=colors, long_edge=side, at_most=side)


class Album:
    """A sheet with one column per image. From the top: the boxes drawn from its proposals, the student's predictions
    for them at several steps, and the teacher's, if there is one, at the last of these.

    A prediction has the colour of the drawn box that it is matched with.
    """

    def __init__(
        self,
        method: DetectorMethod,
        source: Source,
        path: Path | None,
        *,
        seed: int,
        device: torch.device,
        images: int = 4,
    ):
        """
        :param images: number of samples to show, evenly spaced.
        :param path: of the PNG, which is rewritten each time; None if another process writes it.
        """
        self.method, self.path = method, path
        self.batch = _examples(method, source, seed, images)
        self.on_device = self.batch.to(device)
        self.taken: list[tuple[int, dict[str, list]]] = []

    def take(self, step: int) -> None:
        """Remember what is predicted after that many steps, and write the picture."""
        self.taken.append((step, self.method.matched_predictions(self.on_device)))
        if self.path is not None:
            self.write(self.path)

    def write(self, path: Path) -> None:
        """Write the sheet, whole or not at all."""
        rows = {"drawn boxes": [(boxes, range(len(boxes))) for boxes in self.batch.boxes]}
        rows |= {f"student, step {step:,}": predicted["student"] for step, predicted in self.taken}
        step, predicted = self.taken[-1]
        if "teacher" in predicted:
            rows[f"teacher, step {step:,}"] = predicted["teacher"]
        pictures.contact_sheet([self._row(boxes) for boxes in rows.values()], path, row_titles=list(rows))

    def _row(self, boxes: Sequence[tuple[Tensor, Sequence[int]]]) -> list[np.ndarray]:
        """Pictures of each image's first view, without its padding, with boxes.

        :param boxes: per image (m, 4) cxcywh, and (m,) numbers of the drawn boxes whose colours they have.
        """
        drawn, side = [], pictures.cell_side(len(self.batch))
        palette = pictures.colors(max(map(len, self.batch.boxes)))
        for view, mask, (predicted, numbers) in zip(self.batch.views[0], self.batch.mask, boxes, strict=True):
            height, width = int((~mask[:, 0]).sum()), int((~mask[0]).sum())
            drawn.append(_drawn(view[:, :height, :width], predicted, [palette[number] for number in numbers], side))
        return drawn

    def state_dict(self) -> dict:
        """The predictions so far, to resume from after a kill."""
        return {"taken": list(self.taken)}

    def load_state_dict(self, state: dict) -> None:
        """Restore the predictions and write their picture, which the folder may lack after a kill."""
        self.taken = list(state["taken"])
        if self.taken and self.path is not None:
            self.write(self.path)
