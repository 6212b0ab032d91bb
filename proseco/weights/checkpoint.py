"""Our checkpoints: one safetensors file of tensors ``<network>.<parameter>``, with a few facts in its header."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from proseco.base.errors import InputError
from proseco.base.files import replacing

#: Ends of the names of what a network learns.
_LEARNED = ("weight", "bias", "running_mean", "running_var")


def save(path: str | Path, networks: dict[str, dict[str, Tensor]], facts: dict) -> None:
    """Write state dicts as one file; equal weights and facts give equal bytes.

    :param networks: name, e.g. ``student``, -> state dict. Tied parameters are written under each of their names.
    :param facts: JSON values, for the header.
    """
    tensors = {
        f"{name}.{key}": value.detach().cpu().clone().contiguous()
        for name, state in networks.items()
        for key, value in state.items()
    }
    with replacing(path) as part:
        # One metadata key: safetensors writes several in the order of a hash map, which changes from run to run.
        # Not its save_file, whose files only their owner may read.
        part.write_bytes(serialised(tensors, metadata={"proseco": json.dumps(facts, sort_keys=True)}))


def load(path: str | Path, network: str) -> dict[str, Tensor]:
    """The state dict of one network of a file that :func:`save` wrote.

    :raises InputError: no such file, not safetensors, values that are not finite, or no such network in it; the message
        names those in it.
    """
    try:
        with safe_open(path, "pt") as file:
            keys = list(file.keys())
            state = {k.removeprefix(f"{network}."): file.get_tensor(k) for k in keys if k.startswith(f"{network}.")}
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read checkpoint {str(path)!r}: {error}") from None
    if not state:
        networks = sorted({key.split(".")[0] for key in keys})
        raise InputError(f"checkpoint {str(path)!r} holds no {network!r}; it holds {', '.join(networks)}")
    check_values(state, path, ends=_LEARNED)
    return state


def check_values(state: dict[str, Tensor], path: str | Path, *, ends: tuple[str, ...] = ("",)) -> None:
    """Refuse weights that a training would only stumble over later, or never.

    :param ends: of the names that are looked at; buffers of a network may hold anything.
    :raises InputError: a value is not finite, or whole numbers stand where weights do; it names the tensor.
    """
    for name, value in state.items():
        if name.endswith("num_batches_tracked") or not name.endswith(ends):
            continue
        if not value.is_floating_point():
            raise InputError(f"checkpoint {str(path)!r}: {name} is of {value.dtype}; expected floating-point numbers")
        if not value.isfinite().all():
            raise InputError(f"checkpoint {str(path)!r}: {name} holds values that are not finite")


def load_into(
    module: nn.Module, state: dict[str, Tensor], *, source: str, new: tuple[str, ...], unused: tuple[str, ...]
) -> None:
    """Load weights with every key accounted for.

    :param source: the file, for messages.
    :param new: prefixes of names that only the module may have; these parameters keep their initial values.
    :param unused: prefixes of names that only the file may have.
    :raises InputError: another key is missing or unexpected, a shape differs, or copies of a tied parameter differ; the
        message names them.
    """
    state = {key: value for key, value in state.items() if not key.startswith(unused)}
    differences = compare(module, state)
    differences["missing"] = [key for key in differences["missing"] if not key.startswith(new)]
    problems = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in differences.items()
        if keys
    ]
    if problems:
        raise InputError(f"checkpoint {source!r} does not fit the detector: {'; '.join(problems)}")
    module.load_state_dict(state, strict=False)


def load_body(detector: nn.Module, weights: dict[str, Tensor], *, source: str) -> None:
    """Load a backbone's weights, in torchvision's names; the rest of the detector keeps its initial values.

    :raises InputError: as :func:`load_into`.
    """
    prefix = detector.body_prefix
    rest = tuple(key for key in detector.state_dict() if not key.startswith(prefix))
    state = {f"{prefix}{key}": value for key, value in weights.items()}
    load_into(detector, state, source=source, new=rest, unused=(f"{prefix}fc.",))


def compare(module: nn.Module, state: dict[str, Tensor]) -> dict[str, list[str]]:
    """How a state dict differs from that of a module: kind of difference -> names. Meta tensors will do.

    ``untied`` names belong to one parameter of the module and have different values here: loading would keep the last.
    """
    wanted = module.state_dict(keep_vars=True)
    common = [key for key in state if key in wanted]
    first = {id(wanted[key]): key for key in reversed(common)}
    fits = [key for key in common if state[key].shape == wanted[key].shape]
    return {
        "missing": [key for key in wanted if key not in state],
        "unexpected": [key for key in state if key not in wanted],
        "of another shape": [key for key in common if state[key].shape != wanted[key].shape],
        "untied": [key for key in fits if not _equal(state[key], state[first[id(wanted[key])]])],
    }


def _equal(a: Tensor, b: Tensor) -> bool:
    return a is b or torch.equal(a, b)
