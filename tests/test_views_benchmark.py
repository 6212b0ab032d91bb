import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import views as benchmark
from proseco.data import images as decoding
from proseco.data.sample import Sample
from proseco.data.views import TwoViews
from tests import params_file

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "../shared/data/imagenet/train"
WEAK = {"short_edges": [60, 75], "long_edge": 110, "first_short_edges": [70, 80], "crop_min": 48, "crop_max": 80}
STRONG = {"jitter": [0.4, 0.4, 0.4, 0.1], "jitter_probability": 0.8, "grayscale_probability": 0.2}
STRONG |= {"blur_probability": 0.5, "blur_sigma": [0.1, 2.0]}


def smooth(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """The script pins its process to a core; the tests' process stays as it is."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: None)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_it_ends_with_its_ratio(tmp_path, capsys):
    for i in range(3):
        Image.fromarray(smooth(40 + i, 31, i)).save(tmp_path / f"{i}.jpg")
    benchmark.main(images=str(tmp_path), limit=2, draws=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 images, 2 pairs of views of each")
    for line, name in zip(lines[2:6], benchmark.ROWS, strict=True):
        assert line.startswith(name) and all(float(word) > 0 for word in line.removeprefix(name).split())
    ratio = re.fullmatch(r"views: speedup (\d+\.\d)", lines[-1])
    assert ratio and lines[2].split()[3] == ratio[1] and len(lines) == 7


@pytest.mark.parametrize("pil_blur", [True, False])
def test_the_peer_makes_the_same_views(pil_blur):
    """All of Table 4 one after the other, held against torchvision with the same numbers drawn."""
    transform = TwoViews(WEAK, 30, STRONG)
    means = []
    for seed in range(60):
        image = smooth(64, 92, seed % 5)
        sample = Sample("key", image, np.float32([[0, 0, 92, 64]] * benchmark.BOXES))
        ours = transform(sample, np.random.default_rng(seed)).views
        theirs = benchmark.peer(Image.fromarray(image), np.random.default_rng(seed), transform, pil_blur=pil_blur)
        difference = [np.abs(a.astype(int) - np.asarray(b)) for a, b in zip(ours, theirs, strict=True)]
        assert difference[0].max() <= 3  # resized twice, each within a level or two
        means.append(difference[1].mean())
    assert np.median(means) < 1.5 and max(means) < 4  # of 255; hue is kept in 256 steps by both


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data, the sample of ImageNet")
def test_the_views_of_real_images_at_paper_scale_are_those_of_torchvision():
    views = params_file.parameters()["scales"]["paper"]["views"]
    transform, means = TwoViews(views["weak"], 30, views["strong"]), []
    for seed, path in enumerate(sorted(SAMPLES.glob("*/*.JPEG"))[::33]):
        image = decoding.read(path)
        boxes = np.float32([[0, 0, *image.shape[1::-1]]] * benchmark.BOXES)
        ours = transform(Sample("key", image, boxes), np.random.default_rng(seed)).views
        theirs = benchmark.peer(Image.fromarray(image), np.random.default_rng(seed), transform)
        means.append([np.abs(a.astype(int) - np.asarray(b)).mean() for a, b in zip(ours, theirs, strict=True)])
    assert np.median(means, 0)[0] < 0.4 and np.median(means, 0)[1] < 2  # of 255 levels
    assert np.max(means, 0)[0] < 1 and np.max(means, 0)[1] < 4
