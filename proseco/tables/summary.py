"""Results of single finetunings -> mean and deviation -> CSV and the DVC metric.

A *result* is one finetuning: a method, benchmark and seed; a *cell* is a method on a benchmark, over its seeds. APs are
percentages, 0..100. The *gain* of a method is taken against the reference (``supervised`` where it was run, else the
first method) seed by seed, because both start from the same labelled images: the deviation of the differences leaves
out what only the choice of images moved.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas

from proseco.base.errors import InputError
from proseco.base.files import read_json
from proseco.tables.paper import METRICS


def collect(
    results_dir: str | Path,
    methods: dict[str, str],
    benchmarks: dict[str, str],
    seeds: Iterable[int],
    *,
    stage: str = "finetune",
) -> pandas.DataFrame:
    """Read ``<results_dir>/finetune/<method>/<benchmark>/<seed>/metrics.json`` of exactly the results asked for.

    :param results_dir: folder of one scale; its name is the scale (``results/demo``).
    :param methods: name -> title, in the order of the rows; ``benchmarks`` likewise, of the columns.
    :param stage: that makes these results.
    :returns: one row per result: method, method_title, benchmark, benchmark_title, seed, labels, test_images, scoring,
        AP, AP50, AP75.
    :raises InputError: a result is missing, is not what its folder says, or differs from the other methods' in the
        labelled or test images or in the rule of scoring.
    """
    results_dir, seeds = Path(results_dir), list(dict.fromkeys(map(int, seeds)))
    rows = []
    for benchmark, benchmark_title in benchmarks.items():
        for seed in seeds:
            for method, method_title in methods.items():
                path = results_dir / "finetune" / method / benchmark / str(seed) / "metrics.json"
                names = {"method": method, "benchmark": benchmark, "seed": seed}
                titles = {"method_title": method_title, "benchmark_title": benchmark_title}
                rows.append({**names, **titles, **read_metrics(path, results_dir.name, names, stage)})
    if not rows:
        raise InputError(f"nothing to tabulate: methods {[*methods]}, benchmarks {[*benchmarks]}, seeds {seeds}")
    frame = pandas.DataFrame(rows)
    check_alike(frame)
    return frame


#: What results of one benchmark and seed must share to be compared, as far as they say it.
_SHARED = {"labels": "number of labelled images", "test_images": "number of test images", "scoring": "rule of scoring"}


def check_alike(frame: pandas.DataFrame) -> None:
    """Refuse rows that are compared and were not finetuned on as many labelled images, or not scored alike."""
    for (benchmark, seed), results in frame.groupby(["benchmark", "seed"], sort=False):
        for key, what in _SHARED.items():
            if results[key].nunique() > 1:
                found = ", ".join(f"{m} {value}" for m, value in zip(results["method"], results[key], strict=True))
                raise InputError(f"{benchmark}, seed {seed}: not the same {what}: {found}")


def read_metrics(path: Path, scale: str, names: dict, stage: str = "finetune") -> dict:
    """The figures of one finetuning: ``labels``, ``test_images``, ``scoring`` and the APs.

    :param names: method, benchmark and seed, as the folder of ``path`` says them.
    :raises InputError: the file is missing, says other names, or lacks a number.
    """
    if not path.is_file():
        item = "-".join(str(part) for part in (scale, *names.values()))
        raise InputError(f"no result {path.as_posix()!r}; `dvc repro {stage}@{item}` makes it")
    record = read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path.as_posix()!r} holds no figures, but {str(record)[:40]!r}")
    for key, value in names.items():
        if (recorded := record.get(key)) != value:
            raise InputError(f"{path.as_posix()!r} says {key} {recorded!r}, but stands in the place of {value!r}")
    for key in ("labels", *METRICS):
        if not isinstance(figure := record.get(key), int | float) or not np.isfinite(figure):
            raise InputError(f"{path.as_posix()!r} has no number under {key!r}, but {figure!r}")
    if wrong := [metric for metric in METRICS if not 0 <= record[metric] <= 100]:
        raise InputError(f"{path.as_posix()!r} has {wrong[0]} {record[wrong[0]]}; expected 0 to 100")
    conditions = {"labels": int(record["labels"]), "test_images": record.get("test_images")}
    conditions["scoring"] = record.get("scoring", "coco")  # of which older results say nothing
    return conditions | {metric: float(record[metric]) for metric in METRICS}


def summarise(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Mean and deviation over seeds.

    :param frame: as from :func:`collect`; order of first appearance is kept.
    :returns: one row per cell: names, titles, ``n``, ``seeds`` and ``labels`` (tuples, by seed); for each
        metric ``AP`` (mean), ``AP_std`` (n-1 in the denominator; NaN for one seed), ``AP_values`` (tuple, by seed),
        ``AP_gain``, ``AP_gain_std`` (differences to the reference, seed by seed; NaN in the reference's own row) and
        ``n_gain``, the number of seeds that both have.
    """
    reference = reference_of(frame)
    partner = frame.loc[frame["method"] == reference, ["benchmark", "seed", *METRICS]]
    frame = frame.merge(partner, on=["benchmark", "seed"], how="left", suffixes=("", "_reference"))
    rows = []
    for (benchmark, method), results in frame.groupby(["benchmark", "method"], sort=False):
        results = results.sort_values("seed")
        row = {
            "method": method,
            "method_title": results["method_title"].iloc[0],
            "benchmark": benchmark,
            "benchmark_title": results["benchmark_title"].iloc[0],
            "n": len(results),
            "seeds": tuple(results["seed"].tolist()),
            "labels": tuple(results["labels"].tolist()),
        }
        for metric in METRICS:
            gains = (results[metric] - results[f"{metric}_reference"]).dropna()
            if method == reference:
                gains = gains[:0]
            row[metric], row[f"{metric}_std"] = mean_std(results[metric])
            row[f"{metric}_values"] = tuple(results[metric].tolist())
            row[f"{metric}_gain"], row[f"{metric}_gain_std"] = mean_std(gains)
            row["n_gain"] = len(gains)
        rows.append(row)
    return pandas.DataFrame(rows)


def reference_of(frame: pandas.DataFrame) -> str:
    """The method that gains are taken against."""
    return "supervised" if "supervised" in set(frame["method"]) else frame["method"].iloc[0]


def mean_std(values: pandas.Series) -> tuple[float, float]:
    """Mean, and deviation with n-1 in the denominator; NaN where too few values are there."""
    mean = float(np.mean(values)) if len(values) else np.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def metrics(summary: pandas.DataFrame) -> dict:
    """``{benchmark: {method: {"AP", "AP_std", "AP50", "AP75"}}, "gain": {benchmark: {method: ...}}}``, two decimals.

    What one seed cannot tell (a deviation) is left out, and so is everything that a rerun would change.
    """
    by_benchmark: dict = {"gain": {}}
    for row in summary.to_dict("records"):
        for place, kind in ((by_benchmark, ""), (by_benchmark["gain"], "_gain")):
            figures = {"AP": row[f"AP{kind}"], "AP_std": row[f"AP{kind}_std"]}
            figures |= {metric: row[f"{metric}{kind}"] for metric in ("AP50", "AP75")}
            figures = {key: round(value, 2) + 0.0 for key, value in figures.items() if not np.isnan(value)}
            if figures:
                place.setdefault(row["benchmark"], {})[row["method"]] = figures
    return by_benchmark


def csv(summary: pandas.DataFrame) -> str:
    """The summary as CSV, four decimals; values of single seeds are separated by blanks, unknown ones are empty."""
    flat = summary.copy()
    for column in ("seeds", "labels"):
        flat[column] = [" ".join(map(str, values)) for values in flat[column]]
    for column in (f"{metric}_values" for metric in METRICS):
        flat[column] = [" ".join(f"{value:.4f}" for value in values) for values in flat[column]]
    return flat.to_csv(index=False, float_format="%.4f", lineterminator="\n")
