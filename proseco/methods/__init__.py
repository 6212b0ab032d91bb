"""Plug-ins: ``build(model, *, ...) -> Method`` (:class:`proseco.training.loop.Method`), one file a method.

``model`` is what is trained: a detector, or a backbone with a classifier. The stage gives ``weak`` and ``strong`` (the
views' parameters) and ``loss`` (a function of :mod:`proseco.losses`) to methods that ask for them by name.
"""
