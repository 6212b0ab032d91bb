"""Plug-ins: ``load(root, subset, ...) -> COCO-format dict``, one file per benchmark or layout of labels."""
