"""The two views of Table 4: ours, OpenCV on uint8, against torchvision on PIL images.

    python -m benchmarks.views --images DIR [--limit 100] [--draws 3]

One thread on one core, with the settings of paper scale in params.yaml. The peer is what public pipelines are made of:
DETR's flip, resize and random size crop, then SimCLR's colour jitter and grayscale, by the functions of torchvision's
transforms (v1) on PIL images, and the PIL blur of MoCo v2 and SimSiam. Each pair of views is made by both in turn from
equal random numbers, ours first every other time; ours moves boxes as well, the peer has none. A row each:

- views: from the decoded image to two images. The last line has this ratio, the median over the images;
- normalised: and on to float tensors, the peer by ToTensor and Normalize, ours by collating a batch of one and the
  normalisation that the device does, which is the CPU here;
- decoded: both, after the decoding of the file;
- torchvision's blur: views, with torchvision's own GaussianBlur of 23 taps in the place of PIL's.
"""

import io
import os
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import functional as F
from tqdm import tqdm

from proseco.base import cli, files, params
from proseco.base.errors import InputError
from proseco.base.randomness import generator
from proseco.data import images as decoding
from proseco.data.batch import collate
from proseco.data.sample import Sample
from proseco.data.views import TwoViews
from proseco.nn.backbone import MEAN, STD, normalise

BOXES = 443  # of an image: the mean of Selective Search on ImageNet (docs/real-data.md)
TAPS = 23  # of torchvision's blur: SimCLR's at 224 pixels
ROWS = ("views", "normalised", "decoded", "torchvision's blur")


def main(*, images: str, limit: int = 100, draws: int = 3) -> None:
    """Time both on evenly spaced images of a folder, --draws pairs of views of each."""
    for name, value in (("limit", limit), ("draws", draws)):
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    paths = [Path(images, path) for path, _ in files.list_files(Path(images), decoding.SUFFIXES)]
    if not paths:
        raise InputError(f"no images in {images!r}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    chosen = [paths[i * len(paths) // limit] for i in range(limit)] if limit < len(paths) else paths
    section = params.load()["scales"]["paper"]
    views = {name: section["views"][name] for name in ("weak", "strong")}
    transform = TwoViews(**views, boxes=section["pretrain"]["proseco"]["method"]["boxes"])
    report(np.stack([compare(path, transform, draws) for path in tqdm(chosen, unit="image")]), draws)


def compare(path: Path, transform: TwoViews, draws: int) -> np.ndarray:
    """Seconds of one image, mean of the draws: (2, 4), ours and the peer's, of each of ROWS."""
    data, seconds = path.read_bytes(), []
    height, width = decoding.decode(data, str(path)).shape[:2]
    boxes = np.float32([[0, 0, width, height]] * BOXES)  # every crop leaves all of them, so both draw of equally many
    for draw in range(draws):
        found = {}
        for who in (_ours, _peers) if draw % 2 else (_peers, _ours):
            found[who] = who(data, boxes, transform, ("benchmark", path.name, draw))
        seconds.append([found[_ours], found[_peers]])
    return np.mean(seconds, 0)


def _ours(data: bytes, boxes: np.ndarray, transform: TwoViews, seed: tuple) -> list[float]:
    start = time.perf_counter()
    image = decoding.decode(data, "an image")
    decoded = time.perf_counter()
    example = transform(Sample("key", image, boxes), generator(*seed))
    viewed = time.perf_counter()
    batch = collate([example])
    normalise(batch.views.flatten(0, 1), batch.mask.repeat(2, 1, 1))
    done = time.perf_counter()
    return [viewed - decoded, done - decoded, done - start, viewed - decoded]


def _peers(data: bytes, boxes: np.ndarray, transform: TwoViews, seed: tuple) -> list[float]:
    start = time.perf_counter()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    decoded = time.perf_counter()
    pair = peer(image, generator(*seed), transform)
    viewed = time.perf_counter()
    for view in pair:
        F.normalize(F.to_tensor(view), MEAN, STD)
    done = time.perf_counter()
    peer(image, generator(*seed), transform, pil_blur=False)
    again = time.perf_counter()
    return [viewed - decoded, done - decoded, done - start, again - done]


def peer(
    image: Image.Image, rng: np.random.Generator, like: TwoViews, *, pil_blur: bool = True
) -> tuple[Image.Image, Image.Image]:
    """Both views by torchvision, with the numbers that ``like`` draws from an equal generator for BOXES boxes.

    :param pil_blur: False takes torchvision's GaussianBlur.
    """
    weak, strong = like.weak, like.strong
    if rng.random() < 0.5:
        image = F.hflip(image)
    if rng.random() < 0.5:
        image = _resize(image, int(rng.choice(weak["first_short_edges"])), None)
        low, high = weak["crop_min"], weak["crop_max"]
        width, height = (int(rng.integers(min(side, low), min(side, high) + 1)) for side in image.size)
        left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        image = F.crop(image, top, left, height, width)
    first = image = _resize(image, int(rng.choice(weak["short_edges"])), weak["long_edge"])
    rng.choice(BOXES, like.boxes, replace=False)
    if rng.random() < strong["jitter_probability"]:
        *spreads, turn = strong["jitter"]
        amounts = [rng.uniform(1 - j, 1 + j) for j in spreads] + [rng.uniform(-turn, turn)]
        adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
        for which in rng.permutation(4):
            image = adjust[which](image, amounts[which])
    if rng.random() < strong["grayscale_probability"]:
        image = F.rgb_to_grayscale(image, 3)
    if rng.random() < strong["blur_probability"]:
        sigma = rng.uniform(*strong["blur_sigma"])
        image = (
            image.filter(ImageFilter.GaussianBlur(sigma))
            if pil_blur
            else F.gaussian_blur(image, [TAPS] * 2, [sigma] * 2)
        )
    return first, image


def _resize(image: Image.Image, short_edge: int, long_edge: int | None) -> Image.Image:
    factor = short_edge / min(image.size)
    if long_edge and max(image.size) * factor > long_edge:
        factor = long_edge / max(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    return F.resize(image, [height, width])


def report(seconds: np.ndarray, draws: int) -> None:
    """Print a line a row, and the ratio. seconds (images, 2, rows)."""
    ours, peers = 1000 * seconds.mean(0)
    print(f"{len(seconds)} images, {draws} pairs of views of each; ms a pair: mean; ratio: median over the images")
    print(f"{'':20} {'ours':>8} {'peer':>8} {'ratio':>6} {'of means':>9}")
    ratios = np.median(seconds[:, 1] / seconds[:, 0], 0)
    for name, mine, other, ratio in zip(ROWS, ours, peers, ratios, strict=True):
        print(f"{name:20} {mine:8.2f} {other:8.2f} {ratio:6.1f} {other / mine:9.1f}")
    print(f"views: speedup {ratios[0]:.1f}")


if __name__ == "__main__":
    cli.run(main)
