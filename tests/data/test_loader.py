import copy
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from proseco.base.errors import InputError
from proseco.data import loader, workers
from proseco.data.batch import Batch, GlobalBatch, _pack, collate
from proseco.data.sample import Sample
from proseco.data.views import Crop, Example, FixedView, TwoViews

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
WEAK = {"short_edges": [20, 25], "long_edge": 60, "first_short_edges": [24, 28], "crop_min": 16, "crop_max": 28}


class Source:
    """Eleven images of unequal sizes; every third has no box."""

    def __len__(self):
        return 11

    def key(self, number):
        return f"key{number}"

    def size(self, number):
        return 40 - 2 * number, 24 + number

    def __getitem__(self, number):
        rng = np.random.default_rng(number)
        width, height = self.size(number)
        boxes = np.zeros((0, 4)) if number % 3 == 2 else np.array([[2, 3, 12, 15], [4, 4, 16, 20]])
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Sample(f"key{number}", image, boxes.astype(np.float32), np.arange(len(boxes)))


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("PROSECO_WORKERS", raising=False)


def training(transform=None, *, batch=3, steps=7, seed=5):
    transform = transform or TwoViews(WEAK, boxes=2)
    return list(loader.training_batches(Source(), transform, batch=batch, steps=steps, seed=seed, device=CPU))


def equal(a, b):
    return (
        a.keys == b.keys
        and a.views.equal(b.views)
        and a.mask.equal(b.mask)
        and a.sizes.equal(b.sizes)
        and all(x.equal(y) for x, y in zip(a.boxes + a.labels, b.boxes + b.labels, strict=True))
    )


def test_collate_pads_at_the_right_and_at_the_bottom():
    rng = np.random.default_rng(0)
    examples = [
        Example(
            f"k{i}",
            [rng.integers(1, 256, (h, w, 3), dtype=np.uint8) for _ in range(2)],
            np.full((i, 4), 0.5, np.float32),
            np.arange(i),
            (w * 10, h * 10),
        )
        for i, (h, w) in enumerate([(5, 9), (7, 4), (6, 6)])
    ]
    batch = collate(examples)
    assert batch.views.shape == (2, 3, 3, 7, 9) and batch.views.dtype == torch.uint8
    assert batch.mask.shape == (3, 7, 9) and batch.mask.dtype == torch.bool
    for i, example in enumerate(examples):
        h, w = example.views[0].shape[:2]
        for y in range(7):
            for x in range(9):
                inside = y < h and x < w
                assert bool(batch.mask[i, y, x]) == (not inside)  # True on padding
                for v in range(2):
                    expected = example.views[v][y, x].tolist() if inside else [0, 0, 0]
                    assert batch.views[v, i, :, y, x].tolist() == expected
    assert batch.keys == ["k0", "k1", "k2"] and len(batch) == 3
    assert [len(b) for b in batch.boxes] == [0, 1, 2] and [c.tolist() for c in batch.labels] == [[], [0], [0, 1]]
    assert batch.sizes.tolist() == [[90, 50], [40, 70], [60, 60]]  # width, height
    targets = batch.targets()
    assert [target["key"] for target in targets] == batch.keys
    assert targets[2]["boxes"].shape == (2, 4) and targets[2]["labels"].tolist() == [0, 1]
    moved = batch.to(torch.device("meta"))
    assert moved.views.device.type == moved.mask.device.type == moved.boxes[0].device.type == "meta"
    assert batch.views.device.type == "cpu" and moved.keys == batch.keys


class Numbers:
    """Samples that are nothing but their number."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return Sample(str(number), np.zeros((2, 3, 3), np.uint8), np.zeros((0, 4), np.float32))


def bare(sample, rng):
    return Example(sample.key, [sample.image], sample.boxes_xyxy, sample.labels, (3, 2))


def stream(count, batch, steps, *, world=1, first_step=0, seed=5):
    """Keys of each step, the shares of all processes one after the other."""
    shares = [
        loader.training_batches(
            Numbers(count),
            bare,
            batch=batch,
            steps=steps,
            seed=seed,
            device=CPU,
            first_step=first_step,
            rank=r,
            world=world,
        )
        for r in range(world)
    ]
    assert {len(share) for share in shares} == {steps - first_step}
    return [[batch.keys for batch in step] for step in zip(*shares, strict=True)]


def flat(steps):
    return [key for shares in steps for keys in shares for key in keys]


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(("count", "batch", "world"), [(11, 3, 1), (11, 4, 3), (12, 4, 2), (7, 7, 3), (10, 9, 4)])
def test_an_epoch_gives_every_sample_exactly_once(monkeypatch, count, batch, world, workers):
    """Over all processes and workers, and where nothing divides anything."""
    monkeypatch.setenv("PROSECO_WORKERS", workers)
    epochs = 3 if workers == "0" else 1
    steps = stream(count, batch, -(-epochs * count // batch), world=world)
    assert all(
        [len(share) for share in shares] == [len(part) for part in np.array_split(range(batch), world)]
        for shares in steps
    )
    keys = flat(steps)
    seen = [keys[i * count : (i + 1) * count] for i in range(epochs)]
    assert all(Counter(epoch) == Counter(map(str, range(count))) for epoch in seen)
    assert len(set(map(tuple, seen))) == epochs  # shuffled anew


def test_the_number_of_processes_changes_nothing():
    alone = stream(11, 5, 9)
    for world in (2, 3, 5):
        joined = [[key for keys in shares for key in keys] for shares in stream(11, 5, 9, world=world)]
        assert joined == [keys for (keys,) in alone]


def test_the_parts_of_several_processes_are_the_batch_of_one():
    """Also in their padding, on which the features at an image's edge depend."""
    made = {"batch": 8, "steps": 2, "seed": 3, "device": CPU}
    for step, whole in enumerate(loader.training_batches(Source(), TwoViews(WEAK, boxes=2), **made)):
        parts = [
            list(loader.training_batches(Source(), TwoViews(WEAK, boxes=2), **made, rank=rank, world=3))[step]
            for rank in range(3)
        ]
        assert len({part.mask.shape[1:] for part in parts}) > 1
        extents = [part.extent() for part in parts]
        parts = [part.within(extents, rank) for rank, part in enumerate(parts)]
        assert [part.global_batch for part in parts] == [
            GlobalBatch((3, 3, 2), sum(map(len, whole.boxes)), first) for first in (0, 3, 6)
        ]
        assert sum(part.share for part in parts) == pytest.approx(1) and parts[2].share == 2 / 8
        assert equal(joined(parts), whole)
        assert whole.global_batch == GlobalBatch((8,), sum(map(len, whole.boxes))) and whole.share == 1
        halves = parts[1].split(2)
        assert [(len(half), half.global_batch.first) for half in halves] == [(2, 3), (1, 5)]
        assert equal(joined(halves), parts[1])


def joined(parts):
    return Batch(
        keys=[key for part in parts for key in part.keys],
        views=torch.cat([part.views for part in parts], 1),
        mask=torch.cat([part.mask for part in parts]),
        boxes=[boxes for part in parts for boxes in part.boxes],
        labels=[labels for part in parts for labels in part.labels],
        sizes=torch.cat([part.sizes for part in parts]),
    )


def test_a_training_is_taken_up_at_the_exact_sample():
    whole = training(batch=4, steps=9)
    for first in (1, 3, 8):
        tail = loader.training_batches(
            Source(), TwoViews(WEAK, boxes=2), batch=4, steps=9, seed=5, device=CPU, first_step=first
        )
        assert len(tail) == 9 - first
        assert all(equal(a, b) for a, b in zip(whole[first:], tail, strict=True))
    assert stream(11, 4, 9, first_step=9) == []


def test_more_processes_than_images_of_a_batch():
    with pytest.raises(InputError, match="a batch of 3 is too small for 4 processes; each needs an image"):
        stream(11, 3, 1, world=4)


class Many(Source):
    """A hundred images; some lie, some stand, and some are twice as large as others."""

    def __len__(self):
        return 100

    def size(self, number):
        width, height = ((40, 30), (30, 44), (52, 26))[number % 3]
        return width * (1 + number % 2), height * (1 + number % 2)


def grouped(group, *, steps=27, batch=5, **share):
    made = {"batch": batch, "steps": steps, "seed": 5, "device": CPU, "group": group} | share
    return list(loader.training_batches(Many(), TwoViews(WEAK, boxes=2), **made))


def test_little_of_a_grouped_batch_is_padding_and_views_stay_as_they_were():
    alone, together = grouped(1), grouped(10)
    share = [torch.cat([batch.mask.flatten() for batch in batches]).float().mean() for batches in (alone, together)]
    assert share[1] < 0.6 * share[0]
    assert {len(batch) for batch in together} == {5}
    for epoch in (slice(0, 20), slice(20, 27)):
        views = {key: view(batch, i) for batch in alone[epoch] for i, key in enumerate(batch.keys)}
        found = {key: view(batch, i) for batch in together[epoch] for i, key in enumerate(batch.keys)}
        assert views.keys() == found.keys()
        assert all(torch.equal(views[key], found[key]) for key in views)


def view(batch, i):
    """(2, 3, h, w) of an image, without padding."""
    height, width = (int(side.max()) for side in (~batch.mask[i]).nonzero(as_tuple=True))
    return batch.views[:, i, :, : height + 1, : width + 1]


@pytest.mark.parametrize(
    ("count", "batch", "group"), [(100, 5, 8), (100, 7, 4), (23, 4, 64), (11, 11, 3), (590, 32, 64), (12, 5, 2)]
)
def test_groups_hold_what_their_steps_held_and_begin_and_end_with_an_epoch(count, batch, group):
    steps = 5 * count // batch - 1
    made = {"count": count, "batch": batch, "steps": steps, "seed": 1}
    sizes = np.random.default_rng(0).integers(10, 99, (6, count, 2))
    alone, together = loader.Order(**made), loader.Order(**made, group=group, frame=lambda *sample: sizes[sample])
    position, lengths = 0, {}
    while position < steps:
        begin, end = together._grouped(position)
        assert begin == position and 1 <= end - begin <= group and end <= steps
        assert {together._grouped(step) for step in range(begin, end)} == {(begin, end)}
        epochs = {step * batch // count for step in range(begin, end)}
        assert len(epochs) == 1  # in which its steps begin; the last of an epoch may end in the next
        lengths.setdefault(epochs.pop(), []).append(end - begin)
        before, after = ([order.step(step) for step in range(begin, end)] for order in (alone, together))
        assert sorted(chain(*before)) == sorted(chain(*after))
        if end - begin == 1:
            assert before == after
        position = end
    assert all(max(groups) - min(groups) <= 1 for groups in lengths.values())  # none is short
    again = loader.Order(**made, group=group, frame=lambda *sample: sizes[sample])
    for step in (steps - 1, 0, steps // 2):  # in any order
        assert again.step(step) == together.step(step)
        world = min(3, batch)
        assert list(chain(*(again.step(step, rank, world) for rank in range(world)))) == again.step(step)


def test_the_batch_at_a_seam_of_epochs_is_no_larger_than_others():
    """Drawn by chance it would need the most memory, at a fixed step."""
    count, batch, steps = 1000, 64, 62
    sizes = np.random.default_rng(0).permutation([(1333, 800), (800, 1333)] * (count // 2))

    def areas(group):
        order = loader.Order(count=count, batch=batch, steps=steps, seed=1, group=group, frame=lambda e, n: sizes[n])
        frames = [np.array([sizes[number] for _, number in order.step(step)]) for step in range(steps)]
        return [frame.max(0).prod() for frame in frames]

    seams = [step for step in range(steps) if step * batch // count < ((step + 1) * batch - 1) // count]
    assert seams == [15, 31, 46]
    assert min(areas(1)) == 1333 * 1333
    grouped = areas(8)
    assert sum(area > 1333 * 800 for area in grouped) <= 8  # in each group one batch may hold both
    assert sum(grouped[step] == 1333 * 800 for step in seams) >= 2


def test_frames_are_padded_to_multiples():
    few = grouped(10)
    padded = grouped(10, pad_to=16)
    assert any(side % 16 for batch in few for side in batch.mask.shape[1:])
    for one, other in zip(few, padded, strict=True):
        height, width = one.mask.shape[1:]
        assert other.mask.shape[1:] == (-(-height // 16) * 16, -(-width // 16) * 16)
        assert torch.equal(one.views, other.views[..., :height, :width])
        assert torch.equal(one.mask, other.mask[:, :height, :width])
        outside = other.mask.clone()
        outside[:, :height, :width] = True
        assert outside.all() and not other.views[..., height:, :].any() and not other.views[..., width:].any()


def test_sizes_do_not_rise_in_the_course_of_a_group_or_a_batch():
    batches = grouped(20)[:20]
    areas = [batch.mask[0].numel() for batch in batches]
    assert areas not in (sorted(areas), sorted(areas, reverse=True))
    widths = [(~batch.mask[:, 0]).sum(1).tolist() for batch in batches]
    assert not all(found in (sorted(found), sorted(found, reverse=True)) for found in widths)


def test_the_batches_of_each_group_come_in_an_order_of_its_own():
    """Of images that differ in width alone each batch holds four neighbours: its place among them is told by one."""
    order = loader.Order(count=20, batch=4, steps=15, seed=5, group=5, frame=lambda epoch, number: (number + 1, 1))
    places = [tuple(order.step(step)[0][1] // 4 for step in range(first, first + 5)) for first in (0, 5, 10)]
    assert all(sorted(found) == [0, 1, 2, 3, 4] for found in places)
    assert len({(0, 1, 2, 3, 4), *places}) == 4


def test_grouped_steps_are_a_function_of_seed_and_step():
    whole = grouped(8)
    for first in (1, 8, 25):
        assert all(equal(a, b) for a, b in zip(whole[first:], grouped(8, first_step=first), strict=True))
    shares = [grouped(8, rank=rank, world=2) for rank in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert [key for part in parts for key in part.keys] == batch.keys
    assert not all(equal(a, b) for a, b in zip(whole, grouped(10), strict=True))


def test_views_whose_size_nobody_knows_are_not_grouped():
    with pytest.raises(InputError, match="group_steps is 4, but FixedView does not know the size of its views"):
        loader.training_batches(Many(), FixedView(20, None), batch=5, steps=9, seed=5, device=CPU, group=4)


class Broken(Source):
    def __getitem__(self, number):
        if number == 4:
            raise InputError("shard 'x.tar', sample 'y': image is damaged")
        return super().__getitem__(number)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_damaged_sample_is_one_line_from_a_worker_too(monkeypatch, workers):
    monkeypatch.setenv("PROSECO_WORKERS", workers)
    batches = loader.training_batches(Broken(), FixedView(20, None), batch=11, steps=1, seed=5, device=CPU)
    with pytest.raises(InputError, match=r"^shard 'x\.tar', sample 'y': image is damaged$"):
        list(batches)


FULL = {
    "allocate": "unable to allocate shared memory(shm) for file </torch_7_1_2>: No space left on device (28)",
    "write": "unable to write to file </torch_7_1_2>: No space left on device (28)",
    "other": "unable to open shared memory object </torch_7_1_2> in read-write mode: Too many open files (24)",
}
ROOM = (
    r"for the batches of 1 loader processes: /dev/shm has \d+\.\d\d GB; .*--shm-size\), or .*PROSECO_WORKERS, now 1; 0"
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", FULL)
def test_no_room_in_shared_memory_is_one_line(monkeypatch, kind):
    """Torch asks for it where a worker's batch is handed over. Another error is none of the room."""

    def full(storage, *given):
        raise RuntimeError(FULL[kind])

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    batches = loader.training_batches(Source(), FixedView(20, None), batch=2, steps=3, seed=5, device=CPU)
    if kind == "other":
        with pytest.raises(RuntimeError, match="Too many open files"):
            list(batches)
        return
    with pytest.raises(InputError, match=ROOM) as caught:
        list(batches)
    assert "\n" not in str(caught.value)


class Bus(Source):
    def __getitem__(self, number):
        os.kill(os.getpid(), signal.SIGBUS)


def test_so_is_a_worker_that_had_none_when_it_wrote(monkeypatch):
    """Pages of shared memory may be found missing when they are first touched."""
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    with pytest.raises(InputError, match=ROOM):
        list(loader.training_batches(Bus(), FixedView(20, None), batch=2, steps=3, seed=5, device=CPU))


class Killed(Source):
    """After some samples."""

    def __init__(self, left):
        self.left = left

    def __getitem__(self, number):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(number)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("left", [0, 2])
def test_a_worker_that_was_killed_is_one_line(monkeypatch, left):
    """Whether its batch is awaited when torch notices or, as in a step, something else is done."""
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    line = r"^DataLoader worker \(pid \d+\) is killed by signal: Killed, by hand or .* goes on, .*PROSECO_WORKERS"
    batches = loader.training_batches(Killed(left), FixedView(20, None), batch=2, steps=3, seed=5, device=CPU)
    with pytest.raises(InputError, match=line), workers.explained_ends():
        for _ in batches:
            time.sleep(30)


SMALL = """
import numpy as np, torch
from proseco.data import loader
from proseco.data.sample import Sample
from proseco.data.views import FixedView

class Large:
    def __len__(self):
        return 8

    def key(self, number):
        return str(number)

    def __getitem__(self, number):
        return Sample(str(number), np.zeros((800, 800, 3), np.uint8), np.zeros((0, 4), np.float32))

cpu = torch.device("cpu")
for batch in loader.training_batches(Large(), FixedView(800, None), batch=4, steps=2, seed=5, device=cpu):
    print(len(batch))
"""


@pytest.mark.slow
def test_a_shared_memory_that_is_small():
    """As torch has it, in a namespace with 4 MB of it."""
    mount = "mount -t tmpfs -o size=4m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system")
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", SMALL]
    for processes, expected in (("1", r"/dev/shm has 0\.00 GB"), ("0", "^4\n4\n$")):
        variables = os.environ | {"PROSECO_WORKERS": processes, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120, check=False)
        assert re.search(expected, done.stderr if processes == "1" else done.stdout), done.stderr


def test_each_worker_has_one_batch_ready_and_one_in_the_making(monkeypatch):
    """More would wait in /dev/shm: at paper scale 260 MB each."""
    monkeypatch.setenv("PROSECO_WORKERS", "2")
    made = {"batch": 2, "seed": 5, "device": CPU}
    assert loader.training_batches(Source(), FixedView(20, None), steps=30, **made).prefetch_factor == 2


def test_a_batch_of_all():
    batches = training(batch=11, steps=2)
    assert [sorted(b.keys) for b in batches] == [sorted(f"key{i}" for i in range(11))] * 2
    assert batches[0].keys != batches[1].keys


def test_order_and_views_depend_on_the_seed_alone():
    first = training()
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert all(equal(a, b) for a, b in zip(first, training(), strict=True))
    other = training(seed=6)
    assert [b.keys for b in other] != [b.keys for b in first]


def test_the_order_knows_nothing_of_the_transform_nor_of_the_length():
    first = [b.keys for b in training()]
    assert [b.keys for b in training(FixedView(20, None))] == first
    assert [b.keys for b in training(steps=4)] == first[:4]


def test_the_views_of_an_image_change_from_epoch_to_epoch():
    batches = training(batch=11, steps=3)
    views = []
    for batch in batches:
        row = batch.keys.index("key4")
        views.append((batch.views[:, row][..., : int((~batch.mask[row, 0]).sum())], batch.boxes[row]))
    assert not (views[0][0].shape == views[1][0].shape == views[2][0].shape and views[0][0].equal(views[1][0]))


def test_the_views_of_an_image_do_not_depend_on_its_neighbours():
    """Other batch sizes give other orders, but in its first epoch an image looks the same."""
    seen = {}
    for batch in training(batch=11, steps=1) + training(batch=2, steps=5):
        for row, key in enumerate(batch.keys):
            height, width = int((~batch.mask[row, :, 0]).sum()), int((~batch.mask[row, 0]).sum())
            seen.setdefault(key, []).append(batch.views[:, row, :, :height, :width])
    twice = [views for views in seen.values() if len(views) == 2]
    assert len(twice) == 10 and all(a.equal(b) for a, b in twice)


def test_worker_processes_change_nothing(monkeypatch):
    alone = training()
    monkeypatch.setenv("PROSECO_WORKERS", "2")
    batches = loader.training_batches(Source(), TwoViews(WEAK, boxes=2), batch=3, steps=7, seed=5, device=CPU)
    assert batches.num_workers == 2
    assert all(equal(a, b) for a, b in zip(alone, batches, strict=True))


def test_number_of_workers(monkeypatch):
    assert workers._count(CPU) == 0
    assert 1 <= workers._count(torch.device("cuda")) <= 16
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(5)), raising=False)
    assert workers._count(torch.device("cuda")) == 4  # one of the five that it may use is the training's
    monkeypatch.setenv("PROSECO_WORKERS", "3")
    assert workers._count(CPU) == workers._count(torch.device("cuda")) == 3


def many(count):
    """Examples with up to three boxes in the view and in each of two crops."""
    for number in range(count):
        rng = np.random.default_rng(number)
        image, boxes = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), rng.random((3, number % 4, 4), np.float32)
        crops = [Crop(image[:4, :4], each) for each in boxes[1:]]
        yield Example(f"k{number}", [image], boxes[0], np.arange(number % 4), (8, 6), crops)


@pytest.mark.parametrize("shared", [False, True])
def test_a_batch_crosses_processes_unchanged_and_in_few_files(shared):
    """Each tensor is a file descriptor there, of which a shell often allows 1,024."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 60, limits[1]))
    collated = partial(collate, shared=shared)
    try:
        batches = list(torch.utils.data.DataLoader([*many(300)], 150, collate_fn=collated, num_workers=1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    examples = [*many(300)]
    for found, start in zip(batches, (0, 150), strict=True):
        expected = collate(examples[start : start + 150])
        assert equal(found, expected) and found.global_batch == expected.global_batch
        for mine, theirs in zip(found.crops, expected.crops, strict=True):
            assert mine.images.equal(theirs.images)
            assert all(x.equal(y) for x, y in zip(mine.boxes, theirs.boxes, strict=True))


def test_what_was_pinned_is_what_is_copied():
    """Boxes that are put together anew for the copy would lie in other memory."""
    batch = collate([*many(5)])
    given, made = [], []

    def change(tensor):
        given.append(tensor.untyped_storage().data_ptr())
        made.append(tensor.clone())
        return made[-1]

    pinned = batch._each(change)
    there = [tensor.untyped_storage().data_ptr() for tensor in made]
    given.clear()
    copied = pinned._each(change)
    assert given == there and len(given) == 8  # views, mask, boxes, labels, and of two crops images and boxes
    assert equal(copied, batch) and equal(pinned.split(2)[1], batch.split(2)[1])
    part = pinned.split(2)[1].to(CPU)
    assert all(x.equal(y) for x, y in zip(part.boxes + part.labels, batch.boxes[2:4] + batch.labels[2:4], strict=True))


def test_a_shared_batch_is_one_that_others_can_read():
    batch = collate([*many(5)], shared=True)
    assert equal(batch, collate([*many(5)]))
    tensors = [batch.views, batch.mask, batch.sizes, *batch.boxes, *batch.labels]
    tensors += [tensor for crops in batch.crops for tensor in (crops.images, *crops.boxes)]
    assert all(tensor.is_shared() for tensor in tensors) and not collate([*many(5)]).views.is_shared()


def test_a_batch_of_crops_alone_crosses_processes():
    """Its views and their mask are of no byte."""
    examples = [replace(example, views=[]) for example in many(4)]
    (batch,) = torch.utils.data.DataLoader(examples, 4, collate_fn=partial(collate, shared=True), num_workers=1)
    assert equal(batch, collate(examples)) and batch.crops[1].images.equal(collate(examples).crops[1].images)


def test_a_batch_of_no_image_can_be_copied_too():
    batch = collate([*many(2)])
    empty = Batch(keys=[], views=batch.views[:, :0], mask=batch.mask[:0], boxes=[], labels=[], sizes=batch.sizes)
    assert copy.deepcopy(empty).to(CPU).boxes == []


@pytest.mark.gpu
def test_batches_are_pinned_beside_a_gpu():
    cuda = torch.device("cuda")
    (batch,) = loader.training_batches(Source(), TwoViews(WEAK, boxes=2), batch=3, steps=1, seed=5, device=cuda)
    assert batch.views.is_pinned() and batch.mask.is_pinned() and all(b.is_pinned() for b in batch.boxes)
    assert all(_pack(tensors)[0].is_pinned() for tensors in (batch.boxes, batch.labels))
    assert equal(batch, training(steps=1)[0])


def test_a_batch_larger_than_the_data():
    with pytest.raises(InputError, match="a batch of 12 is larger than the data, 11 images"):
        training(batch=12)


def test_prediction_sees_every_image_once_in_order():
    batches = list(loader.ordered_batches(Source(), FixedView(20, 30), batch=4, device=CPU))
    assert [len(b) for b in batches] == [4, 4, 3]
    assert [key for b in batches for key in b.keys] == [f"key{i}" for i in range(11)]
    assert [size for b in batches for size in b.sizes.tolist()] == [[40 - 2 * i, 24 + i] for i in range(11)]


class Crossed:
    """Two crops of each image, of one size a place, with boxes of their own; the second has one box less."""

    def __call__(self, sample, rng):
        frames = [(0, 10, 12), (1, 7, 5)]
        crops = [Crop(sample.image[:h, :w], sample.boxes_xyxy[less:] / 50) for less, h, w in frames]
        return Example(sample.key, [], np.zeros((0, 4), np.float32), sample.labels, (9, 9), crops)


def test_crops_have_frames_and_boxes_of_their_own():
    batch = training(Crossed(), batch=5, steps=1)[0]
    assert batch.views.shape == (0, 5, 3, 0, 0) and batch.mask.shape == (5, 0, 0)
    assert [crops.images.shape for crops in batch.crops] == [(5, 3, 10, 12), (5, 3, 7, 5)]
    source = Source()
    samples = [source[int(key.removeprefix("key"))] for key in batch.keys]
    for less, crops in enumerate(batch.crops):
        for sample, image, boxes in zip(samples, crops.images, crops.boxes, strict=True):
            assert np.array_equal(image.permute(1, 2, 0), sample.image[: image.shape[1], : image.shape[2]])
            assert np.array_equal(boxes, sample.boxes_xyxy[less:] / np.float32(50))

    parts = batch.within([batch.extent()], 0).split(2)
    for place, crops in enumerate(batch.crops):
        assert torch.equal(torch.cat([part.crops[place].images for part in parts]), crops.images)
        together = [boxes for part in parts for boxes in part.crops[place].boxes]
        assert all(a.equal(b) for a, b in zip(together, crops.boxes, strict=True))
    assert batch.to(CPU).crops[1].images.equal(batch.crops[1].images)


def test_the_content_of_a_batch_is_read_without_pickled_classes(tmp_path):
    batch = training(Crossed(), batch=3, steps=1)[0]
    torch.save(batch.content(), tmp_path / "batch.pt")
    found = torch.load(tmp_path / "batch.pt", weights_only=True)
    assert found["keys"] == batch.keys and found["crops"][1]["images"].equal(batch.crops[1].images)


def test_masks_of_objects_stay_with_their_images():
    masks = [np.zeros((2, 5, 6), np.uint8), None, np.ones((0, 4, 7), np.uint8)]
    examples = [
        Example(f"k{i}", [np.zeros((5, 6, 3), np.uint8)], np.zeros((n, 4), np.float32), np.zeros(n, np.int64), (6, 5))
        for i, n in enumerate((2, 1, 0))
    ]
    for example, own in zip(examples, masks, strict=True):
        example.object_masks = own
    batch = collate(examples).to(torch.device("cpu"))
    assert [target.get("masks") is None for target in batch.targets()] == [False, True, False]
    first, second = batch.split(2)
    assert first.object_masks[0].shape == (2, 5, 6) and first.object_masks[0].dtype == torch.uint8
    assert len(second.object_masks) == 1 and second.object_masks[0].shape == (0, 4, 7)
    for example in examples:
        example.object_masks = None
    assert all("masks" not in target for target in collate(examples).targets())
