"""Plug-ins: ``build(*, num_classes, backbone, ...) -> nn.Module``, one file a detector."""
