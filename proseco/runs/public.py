"""Detectors that others trained: read, compared with the network name by name, and passed on."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from proseco.base import files, plugins, provenance
from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.weights import architecture, checkpoint, detector


def run(plan: dict, out: Path, results: Path) -> None:
    """What stage ``pretrain`` does for a row whose detector comes from a file: student and teacher are this detector.

    :param plan: of :func:`proseco.experiment.plan.pretraining`; ``detector`` (the scale's entry) and ``checkpoint``
        (the row's, with a digest).
    :param out: checkpoint with ``student`` and ``teacher``; ``results`` a folder for metrics.json and run.json.
    :raises InputError: the file is of another model, or of a Deformable DETR that is not the scale's.
    """
    path, entry = plan["checkpoint"]["checkpoint"], plan["detector"]
    found = detector.read(path, network=plan["checkpoint"].get("network"))
    classes = architecture.classes(found.state)
    model = plugins.call("detectors", entry, num_classes=classes, place="detector")
    checkpoint.load_into(model, found.state, source=path, new=(), unused=())
    # Shapes show only the product of heads and points: unless the file says more, the parameters are believed.
    wanted = model.transformer.decoder.layers[0].cross_attn.heads
    believed = None if architecture.says_heads(found.facts) else wanted
    heads = architecture.entry(found.state, found.facts, heads=believed, place=path)["heads"]
    if heads != wanted:
        raise InputError(f"checkpoint {path!r} is of {heads} heads; detector.heads is {wanted} (params.yaml)")
    state = model.state_dict()
    checkpoint.save(out, {"student": state, "teacher": state}, {"method": None, "detector": entry})
    files.write_json(results / "metrics.json", {"steps": 0})
    facts = {"plan": plan, "digest": files.digest(path), "classes": classes, "left": summary(found.other_names)}
    files.write_json(results / "run.json", provenance.record(**facts))


@dataclass(frozen=True)
class Content:
    """What a file holds, compared with the detector that its shapes imply."""

    found: detector.Detector
    #: The entry for ``scales.<scale>.detector``.
    entry: dict
    #: Number of classes of the class head, None without one.
    classes: int | None
    #: Kind of difference -> names, see :func:`proseco.weights.checkpoint.compare`.
    differences: dict[str, list[str]]


def look(path: str | Path, *, network: str | None = None, heads: int | None = None) -> Content:
    """Find out which detector a file holds, with every name accounted for.

    :param network: which of the file's networks; ``heads``: number of attention heads, if the file does not tell.
    :raises InputError: see :func:`proseco.weights.detector.read` and :func:`proseco.weights.architecture.entry`.
    """
    found = detector.read(path, network=network)
    entry = architecture.entry(found.state, found.facts, heads=heads, place=path)
    classes = architecture.classes(found.state)
    with torch.device("meta"):
        model = plugins.call("detectors", entry, num_classes=classes, place=str(path))
    return Content(found, entry, classes, checkpoint.compare(model, found.state))


@dataclass(frozen=True)
class Loaded:
    """A detector with the weights of a file."""

    model: nn.Module
    #: The entry for ``scales.<scale>.detector``.
    entry: dict
    #: Names of the classes, None without a class head.
    classes: list[str] | None
    #: Names in the file that the network does not use, and names in the network that are newly initialised.
    left: list[str]
    new: list[str]


def load(path: str | Path, content: Content, *, classes: int | None = None, new_head: bool = False) -> Loaded:
    """Build the detector of a file.

    :param content: of :func:`look` at it.
    :param classes: number of classes that the class head must have; None: the file's.
    :param new_head: initialise a new class head, whatever the file has.
    :raises InputError: a name is missing, unexpected or of another shape; the class head has another number of classes
        and ``new_head`` is not set; a new one is wanted without ``classes`` and the file has none.
    """
    there, wanted = content.classes, classes or content.classes
    has = f"checkpoint {str(path)!r} has {'no class head' if there is None else f'a class head of {there} classes'}"
    if new_head and wanted is None:
        raise InputError(f"{has}; say with --classes how many classes a new one shall have")
    if wanted != there and not new_head:
        raise InputError(f"{has}, not of {wanted}; --new-head draws one")
    torch.manual_seed(derive_seed("class head", wanted))
    model = plugins.call("detectors", content.entry, num_classes=wanted, place=str(path))
    head = model.head_prefixes if new_head else ()
    checkpoint.load_into(model, content.found.state, source=str(path), new=head, unused=head)
    names = content.found.facts.get("classes")
    if new_head or not names:
        names = None if wanted is None else [f"LABEL_{index}" for index in range(wanted)]
    new = [key for key in model.state_dict() if key.startswith(head)]
    left = [key for key in content.found.state if key.startswith(head)]
    return Loaded(model, content.entry, names, content.found.other_names + left, new)


def summary(names: list[str]) -> str:
    """``optimizer (2), feature_embed (4)``: how many names begin alike."""
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{first} ({count})" for first, count in counts.items())
