"""States of a training in progress, to resume from after a kill."""

import os
import re
import sys
from pathlib import Path

import torch

from proseco.base import files
from proseco.base.errors import InputError
from proseco.training import distributed, torch_files

_NAME = re.compile(r"step-(\d{9})-([0-9a-f]{32})\.pt")
#: How many are kept: the newest, and one to fall back on.
_KEPT = 2


class Snapshots:
    """The last two states of a training in a folder of its own (:mod:`proseco.base.scratch`).

    A file appears under its name when it is complete, and the name holds the digest of its content: one that a failing
    disk or machine has altered is passed over for the one before. Only the first process writes.
    """

    def __init__(self, folder: Path, every: int):
        """:param every: steps from one state to the next."""
        self.folder, self.every = folder, every

    def save(self, step: int, state: dict) -> None:
        """Save a state, in place of another of the same step.

        :param state: tensors and plain values, in dictionaries and lists.
        :raises InputError: it cannot be written.
        """
        part = self.folder / ".snapshot.part"
        try:
            torch_files.save(state, part)
            name = f"step-{step:09d}-{files.digest(part)}.pt"
            os.replace(part, self.folder / name)
        except OSError as error:
            where = f"{str(self.folder)!r}: {error.strerror} (PROSECO_SCRATCH)"
            raise InputError(f"cannot write the state of the training to {where}") from None
        for old in self.folder.glob(f"step-{step:09d}-*.pt"):
            if old.name != name:
                old.unlink()
        for old in self._names()[:-_KEPT]:
            (self.folder / old).unlink()

    def load(self) -> dict | None:
        """The newest state that is undamaged, on the CPU, or None. Damaged ones are removed, with a warning.

        :raises InputError: only the first process sees its file.
        """
        chosen = distributed.from_first_process(self._newest() if distributed.rank() == 0 else None)
        if chosen is None:
            return None
        path = self.folder / chosen
        if not path.is_file():  # of another machine, with a folder of its own
            raise InputError(f"no file {str(path)!r}, where the first process has its state (PROSECO_SCRATCH)")
        return torch.load(path, map_location="cpu", weights_only=True)

    def keep(self, name: str, content: dict) -> Path:
        """Keep tensors and plain values beside the states, for whoever looks into a failure.

        :raises OSError: they cannot be written.
        """
        path = self.folder / name
        torch_files.save(content, path)
        return path

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _newest(self) -> str | None:
        for name in reversed(self._names()):
            step, digest = _NAME.fullmatch(name).groups()
            if files.digest(self.folder / name) == digest:
                return name
            print(f"warning: the state of step {int(step)} is damaged, removed: {self.folder / name}", file=sys.stderr)
            (self.folder / name).unlink()
        return None
