"""The two augmentations of Table 4, and what other methods' views are made of, with OpenCV on uint8.

The weak one (T1) carries all geometry and moves the boxes; the strong one (T2) changes colours and sharpness alone, so
both views of an image share one frame. Images are (H, W, 3) RGB uint8, boxes (n, 4) float32 xyxy in pixels.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

_GRAY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as torchvision and PIL
#: Range of width over height of the windows of methods that crop as torchvision does: SwAV, SCRL, SoCo.
ASPECT = (3 / 4, 4 / 3)


def flip(image: np.ndarray, boxes_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left and right."""
    width = image.shape[1]
    mirrored = boxes_xyxy[:, [2, 1, 0, 3]] * np.float32([-1, 1, -1, 1]) + np.float32([width, 0, width, 0])
    return cv2.flip(image, 1), mirrored


def resize(
    image: np.ndarray, boxes_xyxy: np.ndarray, short_edge: int, long_edge: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Scale so that the short edge has ``short_edge`` pixels, but the long one at most ``long_edge``.

    Enlarging is bilinear, shrinking a mean over areas: OpenCV's nearest to torchvision's antialiased resize.
    """
    return resize_to(image, boxes_xyxy, *resized_size(image.shape[1], image.shape[0], short_edge, long_edge))


def resized_size(width: int, height: int, short_edge: int, long_edge: int | None) -> tuple[int, int]:
    """Width and height that :func:`resize` scales to."""
    factor = short_edge / min(width, height)
    if long_edge and max(width, height) * factor > long_edge:
        factor = long_edge / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def resize_to(image: np.ndarray, boxes_xyxy: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale to ``width`` x ``height`` pixels, whatever the aspect; interpolated as :func:`resize`."""
    h, w = image.shape[:2]
    if (width, height) == (w, h):
        return image, boxes_xyxy
    how = cv2.INTER_AREA if width * height < w * h else cv2.INTER_LINEAR
    scale = np.float32([width / w, height / h, width / w, height / h])
    return cv2.resize(image, (width, height), interpolation=how), boxes_xyxy * scale


def crop(
    image: np.ndarray, boxes_xyxy: np.ndarray, left: int, top: int, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut out a window, without a copy. Boxes are moved, and may reach beyond it: see :func:`clip`."""
    return image[top : top + height, left : left + width], boxes_xyxy - np.float32([left, top, left, top])


def clip(boxes_xyxy: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to the image. -> clipped boxes (n, 4), and (n,) bool: which have an area left."""
    clipped = boxes_xyxy.clip(0, np.float32([width, height, width, height]))
    return clipped, (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])


def resized_crop_window(
    width: int, height: int, rng: np.random.Generator, area: tuple[float, float]
) -> tuple[int, int, int, int]:
    """A window for :func:`crop`: left, top, width, height, drawn as torchvision's RandomResizedCrop draws it.

    Ten tries at a share of the image's area and at an aspect within :data:`ASPECT`, uniform in its logarithm; if none
    lies within the image, the largest central window of an allowed aspect.
    """
    for _ in range(10):
        pixels, ratio = width * height * rng.uniform(*area), math.exp(rng.uniform(*np.log(ASPECT)))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    ratio = min(max(width / height, ASPECT[0]), ASPECT[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (width - w) // 2, (height - h) // 2, w, h


def resized_crop(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    rng: np.random.Generator,
    *,
    side: int,
    area: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """A random window of the image, resized to a square, mirrored half of the time: the geometry of SwAV.

    :param side: pixels of the square.
    :param area: range of the window's share of the image.
    :returns: image, and all the boxes, moved; they may reach beyond it, see :func:`clip`.
    """
    window = resized_crop_window(image.shape[1], image.shape[0], rng, area)
    return resized_window(image, boxes_xyxy, rng, window, side=side)


def resized_window(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    rng: np.random.Generator,
    window: tuple[int, int, int, int],
    *,
    side: int,
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`resized_crop` of a window (left, top, width, height) that was drawn before."""
    image, boxes_xyxy = resize_to(*crop(image, boxes_xyxy, *window), side, side)
    return flip(image, boxes_xyxy) if rng.random() < 0.5 else (image, boxes_xyxy)


class Geometry(NamedTuple):
    """What T1 does to an image. Sizes are width and height.

    ``enlarged``: the size before the crop; ``window``: its left, top, width and height. Both None without a crop.
    """

    flipped: bool
    enlarged: tuple[int, int] | None
    window: tuple[int, int, int, int] | None
    size: tuple[int, int]


def weak_geometry(
    width: int,
    height: int,
    rng: np.random.Generator,
    *,
    short_edges: list[int],
    long_edge: int | None,
    first_short_edges: list[int],
    crop_min: int,
    crop_max: int,
    flip_probability: float = 0.5,
    crop_probability: float = 0.5,
) -> Geometry:
    """Draw T1 of Table 4, as DETR's supervised training: flip, then resize, or resize - crop - resize.

    It depends on the image's size alone, so that a view's size can be known before its image is read.

    :param first_short_edges: short edges before the crop.
    :param crop_min: smallest side of the crop in pixels, ``crop_max`` the largest; each side is drawn independently.
    """
    flipped, enlarged, window = rng.random() < flip_probability, None, None
    if rng.random() < crop_probability:
        enlarged = w, h = resized_size(width, height, int(rng.choice(first_short_edges)), None)
        width = int(rng.integers(min(w, crop_min), min(w, crop_max) + 1))
        height = int(rng.integers(min(h, crop_min), min(h, crop_max) + 1))
        window = int(rng.integers(w - width + 1)), int(rng.integers(h - height + 1)), width, height
    return Geometry(flipped, enlarged, window, resized_size(width, height, int(rng.choice(short_edges)), long_edge))


def weak(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    rng: np.random.Generator,
    points: np.ndarray | None = None,
    **options,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T1 of Table 4, as :func:`weak_geometry` draws it.

    :param points: (P, 2) float x and y in pixels, corners of outlines: moved with the image, in place, not clipped.
    :param options: keywords of :func:`weak_geometry`.
    :returns: image, the boxes that have an area left, and (n,) bool: which of ``boxes_xyxy`` these are.
    """
    points = np.zeros((0, 2), np.float32) if points is None else points
    drawn = weak_geometry(image.shape[1], image.shape[0], rng, **options)
    if drawn.flipped:
        image, boxes_xyxy = flip(image, boxes_xyxy)
        points[:, 0] = image.shape[1] - points[:, 0]
    if drawn.window:
        before = image.shape
        image, boxes_xyxy = resize_to(image, boxes_xyxy, *drawn.enlarged)
        points *= (image.shape[1] / before[1], image.shape[0] / before[0])
        image, boxes_xyxy = crop(image, boxes_xyxy, *drawn.window)
        points -= drawn.window[:2]
    boxes_xyxy, kept = clip(boxes_xyxy, image.shape[1], image.shape[0])
    before = image.shape
    image, boxes_xyxy = resize_to(image, boxes_xyxy, *drawn.size)
    points *= (image.shape[1] / before[1], image.shape[0] / before[0])
    return image, boxes_xyxy[kept], kept


def grayscale(image: np.ndarray) -> np.ndarray:
    """Luminance in all three channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with black."""
    return cv2.convertScaleAbs(image, alpha=factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the mean luminance of the image."""
    shift = (1 - factor) * float(np.float32(cv2.mean(image)[:3]) @ _GRAY)
    return cv2.transform(image, np.c_[factor * np.eye(3), [shift] * 3])  # exact, at half the time of LUT


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the grayscale image."""
    return cv2.transform(image, factor * np.eye(3) + (1 - factor) * _GRAY)


def hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn the hue by a share of the circle, -.5 to .5."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue in 0..255: adding wraps around in uint8
    step = np.zeros((image.shape[1], 3), np.uint8)  # of a whole row: NumPy adds it four times as fast as hue alone
    step[:, 0] = round(turn * 256) % 256
    hsv += step
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, dst=hsv)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; sigma in pixels.

    The kernel reaches three sigmas to each side (3 to 13 taps at sigmas .1 to 2). Public pipelines give torchvision a
    fixed one of about 23 taps, whose outer taps are all but zero: the same image to 2 of 255 levels.
    """
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def solarise(image: np.ndarray, threshold: int = 128) -> np.ndarray:
    """Invert the values from the threshold on."""
    return np.where(image < threshold, image, 255 - image)


def strong(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    jitter_probability: float = 0.8,
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
    grayscale_probability: float = 0.2,
    blur_probability: float = 0.5,
    blur_sigma: tuple[float, float] = (0.1, 2.0),
    solarise_probability: float = 0.0,
) -> np.ndarray:
    """T2 of Table 4: colour jitter in random order, grayscale, Gaussian blur. And solarisation, as BYOL's views have.

    :param jitter: brightness, contrast and saturation are multiplied by 1 - j .. 1 + j; hue turns by -j .. j.
    :param blur_sigma: range of sigma in pixels.
    """
    if rng.random() < jitter_probability:
        amounts = [rng.uniform(max(0, 1 - j), 1 + j) for j in jitter[:3]] + [rng.uniform(-jitter[3], jitter[3])]
        for which in rng.permutation(4):
            image = (brightness, contrast, saturation, hue)[which](image, amounts[which])
    if rng.random() < grayscale_probability:
        image = grayscale(image)
    if rng.random() < blur_probability:
        image = blur(image, rng.uniform(*blur_sigma))
    if rng.random() < solarise_probability:
        image = solarise(image)
    return image
