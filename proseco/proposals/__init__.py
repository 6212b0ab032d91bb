"""Plug-ins: ``propose(image, *, seed, ...) -> boxes_xyxy``, one file per source of region proposals.

``image`` is (H, W, 3) uint8 RGB. The result is (n, 4) float32 in pixels, the best box first. ``seed`` is derived from
the image's key, so that an image has the same boxes whichever process, worker or machine makes them. An argument
``path`` is given the path of the image's file below the root of its data set, and ``root`` the folder of the data set
that the entry names. One that raises :class:`proseco.data.images.BrokenImage` leaves the image out.
"""
