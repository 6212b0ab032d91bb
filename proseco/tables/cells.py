"""What the runs say of one cell of a table, a row on a benchmark: its figures, seed by seed, and what made them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas

from proseco.base.files import read_json, text_digest
from proseco.tables.paper import METRICS
from proseco.tables.summary import mean_std, read_metrics

#: What ``provenance.record`` and the stages say of a run's surroundings: neither a parameter nor data.
_SURROUNDINGS = {"commit", "dirty", "python", "machine", "versions", "device", "processes", "hardware"}
_SURROUNDINGS |= {"attention", "compiled", "micro_pixels"}
_NAMES = {"method", "benchmark", "seed"}
_DATA = {"inputs", "backbone", "digest", "start", "annotations"}
#: What made a cell, in the order of the columns.
MADE = ("commit", "parameters", "annotations", "start", "pretrain_commit", "pretrain_data")


@dataclass(frozen=True)
class Cell:
    """A row on a benchmark. Tuples are by seed."""

    row: str
    benchmark: str
    seeds: tuple[int, ...]
    labels: tuple[int, ...]
    #: Metric -> APs in percent.
    values: dict[str, tuple[float, ...]]
    #: One of ``MADE`` -> what the runs say of it, each value once, "" where they say nothing.
    made: dict[str, tuple[str, ...]]

    def figure(self, metric: str) -> tuple[float, float]:
        """Mean and deviation over the seeds."""
        return mean_std(pandas.Series(self.values[metric]))

    @property
    def mixed(self) -> bool:
        """Whether its seeds were finetuned, or pretrained, at different commits."""
        return any(len(self.made[key]) > 1 for key in ("commit", "pretrain_commit"))


def read(results: Path, row: str, benchmark: str, seeds: Iterable[int]) -> Cell | None:
    """Read those seeds of a cell that were run; None where none was.

    :param results: folder of one scale, as for :func:`proseco.tables.summary.collect`.
    :raises InputError: a result is not what its folder says, or lacks its ``run.json`` or that of its pretraining.
    """
    folder = results / "finetune" / row / benchmark
    run = [seed for seed in dict.fromkeys(map(int, seeds)) if (folder / str(seed) / "metrics.json").is_file()]
    if not run:
        return None
    names = [{"method": row, "benchmark": benchmark, "seed": seed} for seed in run]
    metrics = [read_metrics(folder / str(n["seed"]) / "metrics.json", results.name, n) for n in names]
    pretrained = read_json(results / "pretrain" / row / "run.json")
    made = [_made(read_json(folder / str(seed) / "run.json"), pretrained) for seed in run]
    return Cell(
        row,
        benchmark,
        tuple(run),
        tuple(entry["labels"] for entry in metrics),
        {metric: tuple(entry[metric] for entry in metrics) for metric in METRICS},
        {key: tuple(dict.fromkeys(entry[key] for entry in made)) for key in MADE},
    )


def _made(finetuned: dict, pretrained: dict) -> dict[str, str]:
    """What two ``run.json`` say together."""
    chosen = [_without(finetuned, _SURROUNDINGS | _NAMES | _DATA), _without(pretrained, _SURROUNDINGS | _DATA)]
    data = {**(pretrained.get("inputs") or {}), **{key: pretrained[key] for key in _DATA & set(pretrained)}}
    data.pop("inputs", None)
    return {
        "commit": finetuned.get("commit") or "",
        "parameters": _digest(chosen),
        "annotations": finetuned.get("annotations") or "",
        "start": finetuned.get("start") or "",
        "pretrain_commit": pretrained.get("commit") or "",
        "pretrain_data": " ".join(f"{name}={data[name]}" for name in sorted(data)),
    }


def _without(record: dict, keys: set[str]) -> dict:
    return {key: value for key, value in record.items() if key not in keys}


def _digest(value) -> str:
    """BLAKE2b of the JSON of a value, 32 hexadecimal digits."""
    return text_digest(json.dumps(value, sort_keys=True))
