"""What a worker needs for a photograph, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, re, sys
import cv2
from pathlib import Path
from proseco.data import images
from proseco.proposals import selective_search
cv2.setNumThreads(1)
image = images.read(Path(sys.argv[1]))
boxes = selective_search.propose(image, seed=0, mode=sys.argv[2])
# Not ru_maxrss, which a process begins with from the one that started it.
kibibytes = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(json.dumps([len(boxes), int(kibibytes) / 2**20]))
"""


def photograph(height, width):
    """Noise whose power falls with its frequency, as that of photographs does, and fine grain."""
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), 128, np.float32)
    for size in (4, 9, 20, 45, 100, 220, 480):
        noise = rng.normal(0, 160 / size**0.5, (size, size * 3 // 2, 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    image += rng.normal(0, 2, (height, width, 1)).astype(np.float32)
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_a_photograph_of_24_megapixels_takes_less_than_1500_megabytes(mode, tmp_path):
    cv2.imwrite(str(tmp_path / "photograph.jpg"), photograph(4000, 6000))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "photograph.jpg"), mode]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    boxes, gibibytes = json.loads(done.stdout)
    assert boxes > 1000 and gibibytes * 2**30 < 1.5e9, (boxes, gibibytes)
