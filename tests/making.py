"""Shards for tests, made as stage propose makes them."""

import contextlib
import io
import os
from functools import partial
from pathlib import Path
from unittest import mock

from proseco.base.files import list_files
from proseco.data import filters, images, offline, shards
from proseco.data.listing import File
from proseco.proposals import random

EVERYTHING = partial(filters.keep, min_side=None, aspect=None, size=None, limit=None)
PROPOSE = partial(random.propose, count=6)


def listed(root):
    return [File(*found) for found in list_files(root, images.SUFFIXES)]


def write(
    out, where, listing=None, *, workers=1, propose=PROPOSE, keep=EVERYTHING, seed=3, min_side=16, subset=".", **changes
):
    """Write shards of a folder or a tar; without the progress bar."""
    options = {"samples_per_shard": 5, "shard_bytes": None, "max_skipped": 0.5, "work": Path(f"{out}.work"), **changes}
    recipe = shards.Recipe(propose, keep, seed, min_side, subset)
    listing = listed(where) if listing is None else listing
    with (
        contextlib.redirect_stderr(io.StringIO()),
        mock.patch.dict(os.environ, {"PROSECO_WORKERS": str(workers)}),
    ):
        return offline.write(out, where, listing, recipe, **options)


def tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
