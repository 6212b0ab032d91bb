"""Plug-ins: ``propose(image, *, seed, ...) -> boxes_xyxy``, one file a source of region proposals.

``image`` is (H, W, 3) RGB uint8; the result (n, 4) float32, pixels, best first; ``seed`` is derived from the image's
key, so that an image has the same boxes in any process, worker or machine.
"""
