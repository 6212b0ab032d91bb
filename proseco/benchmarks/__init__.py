"""Plug-ins: ``load(root, subset) -> COCO-format dict``, one file a benchmark."""
