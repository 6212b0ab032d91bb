"""Reading checkpoint files of any origin. Only tensors, plain values and argparse.Namespace are unpickled."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from proseco.base.errors import InputError

#: Keys of dictionaries that merely wrap a state dict.
_WRAPPERS = ("state_dict", "model", "model_state_dict")


def read(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """All tensors of a file, and facts that it states about itself.

    :returns: name -> tensor on the CPU, where names of wrapping dictionaries are left out; and the facts: the header
        that :func:`proseco.weights.checkpoint.save` writes, or ``{"args": ...}``, the options of the training program,
        which files of the DETR family and our exports hold.
    :raises InputError: the file is missing or unreadable, or holds objects whose code would have to be run to read it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            return _safetensors(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # of rubbish an unpickler raises anything, even KeyError or IndexError
        raise InputError(f"cannot read checkpoint {str(path)!r}: {_reason(error)}") from None
    args = content.get("args") if isinstance(content, dict) else None
    args = vars(args) if isinstance(args, argparse.Namespace) else args
    facts = {"args": dict(args)} if isinstance(args, dict) else {}
    pairs = list(_tensors(content))
    tensors = dict(pairs)
    if len(tensors) < len(pairs):
        raise InputError(f"checkpoint {str(path)!r} holds two networks with the same names; save one of them alone")
    return tensors, facts


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    with safe_open(path, "pt") as file:
        facts = _header((file.metadata() or {}).get("proseco", "{}"), path)
        return {key: file.get_tensor(key) for key in file.keys()}, facts  # noqa: SIM118 (it is no dictionary)


def _header(text: str, path: Path) -> dict:
    """The facts that :func:`proseco.weights.checkpoint.save` wrote; the types of those that are used are checked."""
    try:
        facts = json.loads(text)
        kinds = {"detector": dict, "classes": list | None}
        if isinstance(facts, dict) and all(isinstance(facts[key], kind) for key, kind in kinds.items() if key in facts):
            return facts
    except (ValueError, TypeError, RecursionError):
        pass
    raise InputError(f"checkpoint {str(path)!r} says of itself (header proseco) what no program of ours writes")


def _reason(error: Exception) -> str:
    """The reason in one line, without torch's advice to load unsafely."""
    unsafe = re.search(r"GLOBAL (\S+)", str(error))
    if unsafe:
        return f"it holds {unsafe[1]}; only tensors and plain values are read"
    if isinstance(error, SafetensorError | RuntimeError | OSError):
        return str(error).partition("\n")[0]
    return "it is no file of torch.save"


def _tensors(content, at: str = "") -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all tensors in nested dictionaries."""
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, Tensor):
                yield f"{at}{key}", value
            elif key in _WRAPPERS:
                yield from _tensors(value, at)
            elif isinstance(value, dict):
                yield from _tensors(value, f"{at}{key}.")
