"""What a training takes, measured by itself: cost.json. Like speed.csv it is not a function of the inputs."""

import csv
import re
import statistics
from collections import Counter
from contextlib import suppress
from pathlib import Path

import torch

from proseco.base import files
from proseco.training import distributed


class Memory:
    """Peak memory of a training in bytes, whether before or after a kill.

    On a GPU what torch had allocated there; on a CPU the memory of the process, which only Linux tells. What is done in
    between, such as a validation, counts.
    """

    def __init__(self, device: torch.device):
        self.device, self.before = device, None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):  # then the peak of what the process did before stays
                Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int | None:
        """In this process, in bytes; None if the system does not tell."""
        peaks = [peak for peak in (self.before, self._now()) if peak is not None]
        return max(peaks, default=None)

    def _now(self) -> int | None:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        with suppress(OSError):  # not ru_maxrss: a process begins with that of the one that started it
            if kibibytes := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
                return 1024 * int(kibibytes[1])
        return None

    def state_dict(self) -> dict:
        return {"peak": self.peak()}

    def load_state_dict(self, state: dict) -> None:
        self.before = state["peak"]


class Machines:
    """On how many processes a training ran, and on what hardware: both may change after a kill."""

    def __init__(self, device: torch.device):
        self.device, self.before = device, []

    def all(self) -> list[tuple[int, str]]:
        """(processes, hardware of the first) in order, each once in a row."""
        now = (distributed.world(), hardware(self.device))
        return self.before if self.before[-1:] == [now] else [*self.before, now]

    def state_dict(self) -> dict:
        return {"all": [list(one) for one in self.all()]}

    def load_state_dict(self, state: dict) -> None:
        self.before = [tuple(one) for one in state["all"]]


def hardware(device: torch.device) -> str:
    """What this process computes on: the name of the GPU, or of the CPU with torch's number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = "CPU"
    with suppress(OSError):
        if match := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            name = match[1].strip()
    threads = torch.get_num_threads()
    return f"{name} ({threads} thread{'s' if threads > 1 else ''})"


def write(
    path: Path, *, steps: int, batch: int, epochs: float, seconds: float, memory: Memory, machines: Machines
) -> None:
    """Write cost.json; called in all processes, the first writes.

    Its keys: ``images``, those of all steps; ``batch`` of a step; ``steps``; ``epochs``; ``seconds`` of training
    without validations, including those before a kill; ``images_per_second``, the median over the intervals of
    speed.csv; ``peak_memory`` in bytes, of the process with most; ``processes``, null where their number or the
    hardware changed on the way; ``hardware``.

    :param path: speed.csv lies beside it.
    """
    reports = distributed.gather_values((memory.peak(), hardware(memory.device)))
    if distributed.rank() > 0:
        return
    with open(path.with_name("speed.csv"), newline="", encoding="utf-8") as file:
        speeds = [float(row["images_per_second"]) for row in csv.DictReader(file)]
    peaks = [peak for peak, _ in reports if peak is not None]
    counts = Counter(name for _, name in reports)
    content = {"images": steps * batch, "batch": batch, "steps": steps, "epochs": round(epochs, 4)}
    content |= {"seconds": round(seconds, 2), "images_per_second": statistics.median(speeds)}
    content |= {"peak_memory": max(peaks, default=None), "processes": len(reports)}
    content["hardware"] = ", ".join(f"{count} x {name}" for name, count in counts.items())
    if len(ran_on := machines.all()) > 1:
        content["processes"] = None
        content["hardware"] = ", then ".join(f"{count} x {name}" for count, name in ran_on)
    files.write_json(path, content)
