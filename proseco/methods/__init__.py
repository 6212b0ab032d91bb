"""Plug-ins: ``build(network or detector, *, ...) -> Method`` (:class:`proseco.training.loop.Method`), one file a method.

The name of the first argument says what a method trains. Over a ``network``, a classification ResNet
(:class:`proseco.nn.backbone.ResNet`), it makes a backbone: an entry of ``scales.<scale>.backbones``. Over a
``detector`` it is a row of the tables. The stage gives ``weak`` and ``strong`` (the views' parameters) and ``loss`` (a
function of :mod:`proseco.losses`) to methods over a detector that ask for them by name.
"""
