"""Before any test module is imported."""

import os

import torch

# Triton settles when it is imported, which torchvision does, whether programs run on a GPU or in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
