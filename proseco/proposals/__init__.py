"""Plug-ins: ``propose(image, *, seed, ...) -> boxes_xyxy``, one file per source of region proposals.

``image`` is (H, W, 3) uint8 RGB. The result is (n, 4) float32 in pixels, the best box first. ``seed`` is derived from
the image's key, so that an image has the same boxes whichever process, worker or machine makes them.
"""
