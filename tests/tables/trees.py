"""Folders of results, as the stages leave them."""

import json

LABELS = {"few": 24, "many": 1200}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write(root, values, *, commit=COMMIT, **changes):
    """AP50 is AP + 10, AP75 half of AP.

    :param values: (row, benchmark) -> AP by seed.
    :param commit: that the runs name; ``changes`` of ``metrics.json``.
    """
    for (method, benchmark), by_seed in values.items():
        for seed, ap in by_seed.items():
            record = {"method": method, "benchmark": benchmark, "seed": seed, "labels": LABELS.get(benchmark, 5)}
            record |= {
                "AP": ap,
                "AP50": ap + 10,
                "AP75": ap / 2,
                "seconds": 12.5,
                "per_class": {"cat": ap},
                "test_images": 50,
            }
            folder = root / "finetune" / method / benchmark / str(seed)
            put(folder / "metrics.json", record | changes)
            run = {"method": method, "benchmark": benchmark, "seed": seed, "schedule": {"batch": 4}, "device": "cpu"}
            put(folder / "run.json", run | {"commit": commit, "start": "5a" * 16, "annotations": f"{seed:032x}"})
        made = {"plan": {"method": method}, "inputs": {"shards": "ee" * 16, "backbone": "bb" * 16}}
        put(root / "pretrain" / method / "run.json", made | {"commit": commit, "versions": {"torch": "2"}})
    return root


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
