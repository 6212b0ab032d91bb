"""Plug-ins: ``build(network, *, ...) -> Method`` or ``build(detector, *, ...) -> Method``, one file a method.

The name of the first argument says what a method (:class:`proseco.training.loop.Method`) trains. Over a ``network``, a
classification ResNet (:class:`proseco.nn.backbone.ResNet`), it makes a backbone: an entry of
``scales.<scale>.backbones``. Over a ``detector`` it is a row of the tables. To those that ask for them by name, the
stage gives ``steps`` (of the whole training), and over a detector ``weak`` and ``strong`` (the views' parameters),
``loss`` (a function of :mod:`proseco.losses`) and ``micro_batch``.
"""
