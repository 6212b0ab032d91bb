"""Environment variables: what differs between machines and changes no result."""

import os

from proseco.base.errors import InputError


def workers() -> int | None:
    """PROSECO_WORKERS, the number of worker processes; None where it is unset or empty.

    :raises InputError: it is no whole number from 0.
    """
    given = os.environ.get("PROSECO_WORKERS", "")
    if not given:
        return None
    if not (given.isascii() and given.isdigit()):
        raise InputError(f"PROSECO_WORKERS is {given!r}; it must be a whole number from 0 (environment)")
    return int(given)
