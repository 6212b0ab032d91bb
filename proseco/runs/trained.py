"""A finished detector from a file, with what it takes to run it: its classes, and the size of its images."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.runs import public
from proseco.weights import checkpoint, reading

#: How Deformable DETR and DETReg evaluate, for files that our finetuning did not write; one image at a time.
_PUBLISHED = {"short_edge": 800, "long_edge": 1333, "batch": 1}
#: Parts of the names of class heads: those of Deformable DETR, of R-CNN and of FCOS.
_CLASS_HEADS = ("class_embed.", "box_predictor.", "classification_head.")


@dataclass(frozen=True)
class Trained:
    """A detector that has a class head."""

    model: nn.Module
    #: Name of each class; ``LABEL_<number>`` where the file has none.
    names: list[str]
    #: The data set's own number of each class; where the file has none, the head's, which in COCO's public files it is.
    category_ids: list[int]
    #: ``short_edge``, ``long_edge`` and ``batch`` with which it was scored; empty if a file of ours does not say.
    scored: dict


def load(file: Path, *, network: str | None = None, heads: int | None = None) -> Trained:
    """Build the detector of a file: one that we finetuned, of any kind, or a public Deformable DETR.

    :param network: which of the file's networks; ``heads``: number of attention heads, if the file does not tell.
    :raises InputError: it holds no detector, none with a class head or several, or its header cannot be true.
    """
    tensors, facts = reading.read(file)
    headed = any(part in key for key in tensors for part in _CLASS_HEADS)
    if not headed and any(key.startswith(("student.", "teacher.")) for key in tensors):
        raise _headless(file, "is of a pretraining and ")
    if facts.get("detector", {}).get("name", "deformable_detr") == "deformable_detr":
        content = public.look(file, network=network, heads=heads)
        if content.classes is None:
            raise _headless(file)
        loaded = public.load(file, content)
        model, names, count = loaded.model, loaded.classes, content.classes
    else:  # torchvision's: only files of ours
        names = facts.get("classes") or []
        model, count = _build(file, facts["detector"], len(names)), len(names)
        checkpoint.load_into(model, checkpoint.load(file, network or "detector"), source=str(file), new=(), unused=())
    ids = facts.get("category_ids", list(range(count)))
    scored = facts.get("predict", {} if "benchmark" in facts else _PUBLISHED)
    if not (_are(names, str, count) and _are(ids, int, count) and (scored == {} or _tells_sizes(scored))):
        raise InputError(f"checkpoint {str(file)!r} says of its {count} classes or its images' sizes what cannot be")
    return Trained(model, names, ids, scored)


def _headless(file: Path, what: str = "") -> InputError:
    advice = "stage finetune gives it one, in checkpoints/<scale>/finetune/<row>/<benchmark>/<seed>.safetensors"
    return InputError(f"checkpoint {str(file)!r} {what}has no class head; {advice}")


def _build(file: Path, entry: dict, classes: int) -> nn.Module:
    try:
        return plugins.call("detectors", entry, num_classes=classes, place=str(file))
    except InputError:
        raise
    except Exception as error:  # whatever torchvision raises for nonsense in the header
        raise InputError(f"checkpoint {str(file)!r} says of itself a detector that cannot be built: {error}") from None


def _are(values, kind: type, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(isinstance(value, kind) for value in values)


def _tells_sizes(scored) -> bool:
    known = isinstance(scored, dict) and set(scored) == set(_PUBLISHED)
    return known and all((isinstance(v, int) and v > 0) or (k, v) == ("long_edge", None) for k, v in scored.items())
