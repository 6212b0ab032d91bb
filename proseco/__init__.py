"""ProSeCo: unsupervised pretraining of object detectors by proposal selection contrast (ICLR 2023)."""

__version__ = "0.1.0"
