"""Random numbers that depend on what they are for, never on who draws them or in which order."""

import hashlib

import numpy as np


def seed(*parts) -> int:
    """A 63-bit seed made of the parts as text, e.g. ``seed(42, "views", epoch, key)``."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts) -> np.random.Generator:
    """A NumPy generator seeded by :func:`seed`."""
    return np.random.default_rng(seed(*parts))
