"""Before any test module is imported."""

import os

from proseco.base import environment

# As many threads as there are cores, over all of pytest-xdist's processes: torch's wait for each other by spinning.
processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if processes > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, environment.cores() // processes)))

import torch  # noqa: E402  it reads the number of threads

# Triton settles when it is imported, which torchvision does, whether programs run on a GPU or in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list) -> None:
    """The longest file first: the other process does the rest meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")
