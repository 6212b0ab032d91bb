"""Sizes of the views of batches, drawn as a pretraining draws them; no image is read but for its header."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from proseco.base import files
from proseco.base.errors import InputError
from proseco.base.randomness import generator
from proseco.data import images, loader, views


def sizes_of(folder: Path) -> list[tuple[int, int]]:
    """Width and height of all images of a folder.

    :raises InputError: there is none.
    """
    paths = [folder / path for path, _ in files.list_files(folder, images.SUFFIXES)]
    if not paths:
        raise InputError(f"no images in {str(folder)!r}")
    return [images.header(path)[0] for path in tqdm(paths, unit="image")]


def draw(sizes: list[tuple[int, int]], weak: dict, *, batch: int, steps: int, group: int) -> np.ndarray:
    """(steps, batch, 2): width and height of the views of an epoch of so many steps.

    :param sizes: width and height of the stored images; each stands for as many of its size as fill the batches once.
    :param weak: keywords of T1. :param group: steps that share their images out by size.
    """
    view = views.WeakView(weak)

    def frame(epoch: int, number: int) -> tuple[int, int]:
        return view.frame(*sizes[number % len(sizes)], generator(0, "views", epoch, str(number)))

    order = loader.Order(count=batch * steps, batch=batch, steps=steps, seed=0, group=group, frame=frame)
    return np.array([[frame(*sample) for sample in order.step(step)] for step in range(steps)])
