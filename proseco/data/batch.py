"""A batch: images of several sizes padded to one, what is known of each, and parts of it."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from proseco.data.views import Crop, Example


@dataclass(frozen=True)
class GlobalBatch:
    """The batch of a step over all processes, which a batch belongs to.

    :param shares: images per process; ``boxes``: number of boxes of all their images.
    :param first: index, among all images, of this part's first one.
    """

    shares: tuple[int, ...]
    boxes: int
    first: int = 0


@dataclass
class Crops:
    """One crop of each of B images: ``images`` (B, 3, h, w) uint8; ``boxes`` per image (n, 4) float32 cxcywh of it."""

    images: Tensor
    boxes: list[Tensor]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Crops":
        return Crops(change(self.images), _in_one(self.boxes, change))

    def __getstate__(self) -> dict:
        return vars(self) | {"boxes": _pack(self.boxes)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ = state | {"boxes": _unpack(*state["boxes"])}


def _pack(tensors: list[Tensor]) -> tuple[Tensor, list[int]]:
    """Concatenate per-image tensors; returns also their lengths.

    One tensor per field instead of one per image, because each tensor sent between processes costs a file descriptor,
    of which a system may allow 1,024, and each copy to a GPU a launch. Tensors that :func:`_unpack` made are views of
    one tensor; that one is returned as it is, since a new concatenation would not be page-locked.
    """
    lengths = [len(tensor) for tensor in tensors]
    packed = tensors[0]._base if tensors else torch.zeros(0)
    if packed is not None and len(packed) == sum(lengths):
        starts = itertools.accumulate(lengths[:-1], initial=0)
        places = zip(tensors, starts, strict=bool(tensors))
        if all(t._base is packed and t.storage_offset() == start * packed.stride(0) for t, start in places):
            return packed, lengths
    return torch.cat(tensors), lengths


def _unpack(packed: Tensor, lengths: list[int]) -> list[Tensor]:
    return list(packed.split(lengths))


def _in_one(tensors: list[Tensor], change: Callable[[Tensor], Tensor]) -> list[Tensor]:
    packed, lengths = _pack(tensors)
    return _unpack(change(packed), lengths)


@dataclass
class Batch:
    """B images, each in V views that share one frame, and in crops, each in its own frame.

    ``views`` (V, B, 3, H, W) uint8, 0 on padding; ``mask`` (B, H, W) bool, True on padding; ``boxes`` per image (n, 4)
    float32 cxcywh relative to the image (not the padding); ``labels`` per image (n,); ``sizes`` (B, 2) width and height
    of the stored images in pixels; ``crops``: one :class:`Crops` per place in the list of crops, or none. V may be 0;
    then H = W = 0. ``object_masks`` per image (n, h, w) uint8 of the image without padding, 1 on the object, or None
    where unknown. ``global_batch`` is the batch itself until :meth:`within` or :meth:`split` make it a part.
    """

    keys: list[str]
    views: Tensor
    mask: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    sizes: Tensor
    crops: list[Crops] = field(default_factory=list)
    global_batch: GlobalBatch | None = None
    object_masks: list[Tensor | None] | None = None

    def __post_init__(self):
        if self.global_batch is None:
            self.global_batch = GlobalBatch((len(self.keys),), sum(map(len, self.boxes)))
        if self.object_masks is None:
            self.object_masks = [None] * len(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def share(self) -> float:
        """Its images over those of the global batch: the weight of a mean over its images in the mean over all."""
        return len(self) / sum(self.global_batch.shares)

    def extent(self) -> list[int]:
        """Images, boxes, height and width, for :meth:`within`."""
        return [len(self), self.global_batch.boxes, *self.mask.shape[1:]]

    def within(self, extents: list[list[int]], rank: int) -> "Batch":
        """The batch as a part of the global one, padded as that is, so that padding does not depend on the processes.

        :param extents: :meth:`extent` of each process, this one's at ``rank``.
        """
        images, boxes, heights, widths = zip(*extents, strict=True)
        height, width = self.mask.shape[1:]
        frame = (0, max(widths) - width, 0, max(heights) - height)
        return replace(
            self,
            views=F.pad(self.views, frame),
            mask=F.pad(self.mask, frame, value=True),
            global_batch=GlobalBatch(images, sum(boxes), sum(images[:rank])),
        )

    def at_a_time(self, limit) -> int:
        """Number of images of a part.

        :param limit: what a process may hold: a number of images, or of their views' pixels
            (:class:`proseco.training.schedules.Pixels`); None: all.
        """
        if limit is None:
            return len(self)
        return min(limit if isinstance(limit, int) else limit.images(*self.mask.shape[1:]), len(self))

    def split(self, limit) -> list["Batch"]:
        """Parts of :meth:`at_a_time` images, the last perhaps smaller; ``[self]`` if that is all of them."""
        size = self.at_a_time(limit)
        if size == len(self):
            return [self]
        return [self._part(slice(start, start + size)) for start in range(0, len(self), size)]

    def _part(self, images: slice) -> "Batch":
        return Batch(
            keys=self.keys[images],
            views=self.views[:, images],
            mask=self.mask[images],
            boxes=self.boxes[images],
            labels=self.labels[images],
            sizes=self.sizes[images],
            crops=[Crops(c.images[images], c.boxes[images]) for c in self.crops],
            global_batch=replace(self.global_batch, first=self.global_batch.first + images.start),
            object_masks=self.object_masks[images],
        )

    def to(self, device: torch.device) -> "Batch":
        """A copy on the device. The host waits for a copy from a GPU, which it reads next, but not for one to a GPU."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=device.type != "cpu"))

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory, which torch's loader asks for beside a GPU: :meth:`to` then need not wait."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            views=change(self.views),
            mask=change(self.mask),
            boxes=_in_one(self.boxes, change),
            labels=_in_one(self.labels, change),
            crops=[crops._each(change) for crops in self.crops],
            object_masks=[masks if masks is None else change(masks) for masks in self.object_masks],
        )

    def __getstate__(self) -> dict:
        return vars(self) | {"boxes": _pack(self.boxes), "labels": _pack(self.labels)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ = state | {key: _unpack(*state[key]) for key in ("boxes", "labels")}

    def content(self) -> dict:
        """Its fields but ``global_batch``, as tensors and plain values in dictionaries and lists."""
        fields = {name: value for name, value in vars(self).items() if name != "global_batch"}
        return fields | {"crops": [vars(crops) for crops in self.crops]}

    def targets(self) -> list[dict]:
        """Per image ``key``, ``boxes``, ``labels`` and, where known, ``masks``, as detectors' losses take them."""
        rows = zip(self.keys, self.boxes, self.labels, strict=True)
        targets = [{"key": key, "boxes": boxes, "labels": labels} for key, boxes, labels in rows]
        for target, masks in zip(targets, self.object_masks, strict=True):
            if masks is not None:
                target["masks"] = masks
        return targets


def collate(examples: list[Example], *, shared: bool = False) -> Batch:
    """Pad to the largest height and width of the batch, at the right and at the bottom.

    :param shared: in memory that other processes can read; images are written there directly.
    :raises RuntimeError: ``shared``, and there is no room for it.
    """
    height = max((view.shape[0] for e in examples for view in e.views[:1]), default=0)
    width = max((view.shape[1] for e in examples for view in e.views[:1]), default=0)
    views = _room((len(examples[0].views), len(examples), height, width, 3), shared)
    pixels, mask = views.numpy(), np.ones((len(examples), height, width), bool)
    for i, example in enumerate(examples):
        for v, view in enumerate(example.views):
            h, w = view.shape[:2]
            mask[i, :h, :w] = False
            pixels[v, i, :h, :w] = view
    batch = Batch(
        keys=[e.key for e in examples],
        views=views.permute(0, 1, 4, 2, 3),
        mask=torch.from_numpy(mask),
        boxes=[torch.from_numpy(e.boxes_cxcywh) for e in examples],
        labels=[torch.from_numpy(e.labels) for e in examples],
        sizes=torch.tensor([e.size for e in examples]),
        crops=[_stack(crops, shared) for crops in zip(*(e.crops for e in examples), strict=True)],
        object_masks=[None if e.object_masks is None else torch.from_numpy(e.object_masks) for e in examples],
    )
    if shared:
        batch.sizes.share_memory_()
        return batch._each(Tensor.share_memory_)
    return batch


def _stack(crops: Sequence[Crop], shared: bool) -> Crops:
    images = _room((len(crops), *crops[0].image.shape), shared)
    np.stack([crop.image for crop in crops], out=images.numpy())
    return Crops(images.permute(0, 3, 1, 2), [torch.from_numpy(crop.boxes_cxcywh) for crop in crops])


def _room(shape: tuple[int, ...], shared: bool) -> Tensor:
    """Zeros, uint8."""
    if not shared or 0 in shape:
        return torch.from_numpy(np.zeros(shape, np.uint8))  # touched where something is written
    storage = torch.UntypedStorage._new_shared(math.prod(shape))  # as torch's own collate takes it
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
