"""Plug-ins: ``build(network, *, ...) -> Method`` or ``build(detector, *, ...) -> Method``, one file per method.

The name of the first argument says what a method (:class:`proseco.training.loop.Method`) trains:

- ``network``, a classification ResNet (:class:`proseco.nn.backbone.ResNet`): the method makes a backbone, an entry of
  ``scales.<scale>.backbones``;
- ``detector`` (:mod:`proseco.detectors`): the method is a row of the tables. If it pretrains, it also has
  ``state_dicts()``, the state dicts of ``student`` and ``teacher``, from which finetuning starts; if it takes ``weak``
  as well, ``matched_predictions(batch)``, which the pictures show.

A method that asks for them by name is given ``steps`` (of the whole training) and, over a detector, ``weak`` and
``strong`` (the views' parameters), ``loss`` (a function of :mod:`proseco.losses`) and ``micro_batch``.
"""
