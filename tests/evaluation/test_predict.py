import csv

import numpy as np
import pytest
import torch

from proseco.base.errors import InputError
from proseco.data.sample import Sample
from proseco.data.views import FixedView
from proseco.evaluation.predict import predict
from tests import tiny


class Source:
    """Five images of noise, as :class:`proseco.data.sources.AnnotatedImages` gives them."""

    records = tuple({"key": f"k{i}", "id": 10 + i} for i in range(5))

    def __len__(self):
        return len(self.records)

    def __getitem__(self, number):
        image = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
        return Sample(f"k{number}", image, np.zeros((0, 4), np.float32))


def test_each_pass_over_the_images_adds_a_line_of_its_speed(tmp_path):
    log = tmp_path / "results/predict.csv"
    given = {"view": FixedView(48, None), "device": torch.device("cpu"), "precision": torch.float32}
    model = tiny.detector()
    found = [predict(model, Source(), batch=batch, log=log, **given) for batch in (2, 3)]
    assert np.array_equal(np.unique(found[0][:, 0]), np.arange(10, 15))
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["images"] for row in rows] == ["5", "5"]
    for row in rows:
        assert float(row["images_per_second"]) == pytest.approx(5 / float(row["seconds"]), rel=0.3)
    without = predict(model, Source(), batch=2, **given)
    assert np.array_equal(without, found[0]) and len(log.read_text().splitlines()) == 3


def test_full_memory_is_one_line(monkeypatch):
    model = tiny.detector()

    def full(*given, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(model, "detect", full)
    given = {"view": FixedView(48, None), "device": torch.device("cpu"), "precision": torch.float32}
    with pytest.raises(InputError, match=r"^test: a batch of 2 images of 72 x 48 is too large .*--batch and --short"):
        predict(model, Source(), batch=2, title="test", **given)
