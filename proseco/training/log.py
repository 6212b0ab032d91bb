"""What a training says of itself: log.csv, speed.csv and a progress bar."""

import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from proseco.base import files


class _Table:
    """A CSV file that grows row by row; without a path there is none."""

    def __init__(self, path: Path | None):
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")

    def append(self, row: dict) -> None:
        if self.path is not None:
            files.append_csv(self.path, row)

    def state_dict(self) -> dict:
        return {"text": self.path.read_bytes().decode() if self.path is not None else ""}

    def load_state_dict(self, state: dict) -> None:
        if self.path is not None:
            self.path.write_bytes(state["text"].encode())


class _Clock:
    """Seconds of training."""

    def __init__(self, total: float = 0.0):
        self.total = total
        self.resume()

    def read(self) -> float:
        return self.total + time.perf_counter() - self.since

    def pause(self) -> None:
        self.total = self.read()

    def resume(self) -> None:
        self.since = time.perf_counter()


class Log:
    """Means over each interval of steps in log.csv, its speed in speed.csv.

    log.csv is a function of the inputs, bit by bit, and no other if the training was killed and resumed. speed.csv is
    not: ``step``, ``seconds`` of training until then, ``images_per_second`` of the interval, and ``padding``, the share
    of its pixels that belongs to no image.
    """

    def __init__(self, path: Path, *, title: str, steps: int, batch: int, first_process: bool):
        """
        :param path: of log.csv; speed.csv lies beside it. Of several processes only the first writes.
        :param batch: images per step.
        """
        self.rows = _Table(path if first_process else None)
        self.speed = _Table(path.with_name("speed.csv") if first_process else None)
        self.bar = tqdm(total=steps, desc=title, unit="step", mininterval=1.0, disable=not first_process)
        self.batch, self.clock = batch, _Clock()
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.padded, self.pixels = torch.zeros(()), 0  # since a line was written or a state restored
        self._timed, self.seconds = 0, 0.0  # steps since the clock was last read, and what it said

    def add(self, values: dict[str, Tensor], mask: Tensor) -> None:
        """Add a step's values, scalars, and the mask of its batch (B, H, W), True on padding.

        They are summed on their device, without waiting for it.
        """
        self.padded = self.padded + mask.sum().float()
        self.pixels += mask.numel()
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().float()
        self.count += 1
        self._timed += 1
        self.bar.update()

    def flush(self, **facts) -> None:
        """Write the interval's line, which begins with ``facts`` (``step`` among them), and begin a new interval."""
        means = {name: round(float(total / self.count), 6) for name, total in self.sums.items()}
        self.rows.append(facts | means)
        seconds = self.clock.read()
        speed = round(self._timed * self.batch / (seconds - self.seconds), 2)
        padding = round(float(self.padded) / max(self.pixels, 1), 4)
        how = {"seconds": round(seconds, 2), "images_per_second": speed, "padding": padding}
        self.speed.append({"step": facts["step"], **how})
        self.bar.set_postfix_str(f"loss {means['loss']:.3f}, {speed:.1f} images/s")
        self.sums, self.count, self._timed, self.seconds = {}, 0, 0, seconds
        self.padded, self.pixels = torch.zeros(()), 0

    def close(self) -> None:
        self.bar.close()

    def state_dict(self) -> dict:
        sums = {name: value.cpu() for name, value in self.sums.items()}
        tables = {"rows": self.rows.state_dict(), "speed": self.speed.state_dict()}
        return {"sums": sums, "count": self.count, "seconds": self.clock.read(), **tables}

    def load_state_dict(self, state: dict) -> None:
        self.sums, self.count = state["sums"], state["count"]
        self.clock, self.seconds = _Clock(state["seconds"]), state["seconds"]
        self.rows.load_state_dict(state["rows"])
        self.speed.load_state_dict(state["speed"])
