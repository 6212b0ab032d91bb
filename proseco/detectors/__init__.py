"""Plug-ins: ``build(*, num_classes, backbone, ...) -> nn.Module``, one file per detector.

``num_classes`` is None in a pretraining: there is no class head then. A detector has

- ``losses(images, mask, targets, count, share) -> dict`` of float32 scalars, whose sum is trained on; ``count`` is the
  number of targets of the global batch, ``share`` these images' fraction of its images;
- ``detect(images, mask, sizes, limit)`` -> per image ``boxes_xyxy`` (n, 4) in pixels of ``sizes``, ``scores`` (n,) in
  0..1, highest first, and ``labels`` (n,); n is at most ``limit``;
- with queries also ``features(images, mask)`` and ``decode(features, mask)``, for pretraining
  (:mod:`proseco.detectors.deformable_detr`);
- ``body_prefix`` and ``head_prefixes``: where the state dict holds the backbone, and what finetuning draws anew;
- ``learns_masks``: whether ``losses`` takes the objects' masks.

``images`` (B, 3, H, W) uint8 RGB; ``mask`` (B, H, W) bool, True on padding; ``sizes`` (B, 2) width and height;
``targets`` per image ``boxes`` (n, 4) cxcywh in 0..1 of the image without padding, ``labels`` (n,) int64, and perhaps
``masks`` (n, h, w) uint8.
"""
