"""Samples dealt out to batches by size."""

import numpy as np
import pytest

from proseco.data import grouping


def frames(count, seed=0):
    """Sizes as photographs have them: upright, lying and square, at any scale."""
    rng = np.random.default_rng(seed)
    aspect = rng.choice([3 / 4, 1, 4 / 3], count) * rng.uniform(0.9, 1.1, count)
    short = rng.integers(40, 90, count)
    return np.stack([short * np.maximum(aspect, 1), short / np.minimum(aspect, 1)], 1).round().astype(int)


def padding(sizes, batches):
    """Share of the pixels of all batches that is no image's."""
    whole = sum(sizes[batch].max(0).prod() * len(batch) for batch in batches)
    return 1 - sizes.prod(1).sum() / whole


@pytest.mark.parametrize(("count", "batch"), [(1, 5), (2, 3), (5, 4), (7, 1), (64, 8)])
def test_each_sample_is_in_one_batch_and_all_have_one_length(count, batch):
    batches = grouping.group_by_size(frames(count * batch), count)
    assert [len(found) for found in batches] == [batch] * count
    assert sorted(np.concatenate(batches)) == list(range(count * batch))


def test_little_of_a_batch_is_padding():
    sizes = frames(64 * 16)
    by_chance = np.array_split(np.random.default_rng(1).permutation(len(sizes)), 64)
    assert padding(sizes, by_chance) > 0.4
    assert padding(sizes, grouping.group_by_size(sizes, 64)) < 0.1


def test_groups_that_differ_in_both_sides_are_found_in_any_order():
    """Four sizes, twelve of each: every batch of four can be of one size, and is."""
    sizes = np.repeat([[30, 40], [40, 30], [60, 80], [80, 60]], 12, axis=0)
    mixed = sizes[np.random.default_rng(2).permutation(len(sizes))]
    assert padding(mixed, grouping.group_by_size(mixed, 12)) == 0


def test_equals_keep_their_order():
    batches = grouping.group_by_size(np.full((12, 2), 50), 3)
    assert np.concatenate(batches).tolist() == list(range(12))
