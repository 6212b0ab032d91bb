"""The folder of ``--pictures``."""

from pathlib import Path

from proseco.base.errors import InputError


def refuse_used(folder: Path | None) -> None:
    """Before anything else: the folder must be new, lest pictures of another call stay among those of this one.

    :raises InputError: there is one, or a file of its name.
    """
    if folder and folder.exists():
        raise InputError(f"--pictures {str(folder)!r} is there already; name a new folder, or remove it")
