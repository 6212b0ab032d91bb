"""Environment variables: what differs between machines, which is where and how fast, not what.

Processes, compiling and dividing a batch may change rounding and dropout's masks.
"""

import os
from pathlib import Path

from proseco.base.errors import InputError, one_of

BACKENDS = ("loky", "dask", "ray")
#: Names the file by which :mod:`proseco.base.launch` tells its processes that they are orphaned.
ORPHANED = "PROSECO_ORPHANED"
ATTENTION = ("plain", "triton")


def workers() -> int | None:
    """PROSECO_WORKERS, the number of worker processes; None where it is unset or empty.

    :raises InputError: it is not a whole number from 0.
    """
    return _number("PROSECO_WORKERS", None, least=0)


def processes() -> int | None:
    """PROSECO_NPROC, the number of processes of a training on this machine; 1 where it is unset.

    None for ``auto``, one process per GPU.

    :raises InputError: it is neither ``auto`` nor a whole number from 1.
    """
    if os.environ.get("PROSECO_NPROC") == "auto":
        return None
    return _number("PROSECO_NPROC", 1, least=1, choices=", or auto")


def _starters() -> list[int]:
    """This process's parent; where that is a shell in which ``dvc`` runs a stage's command, its parent too."""
    parent = os.getppid()
    if "DVC_STAGE" not in os.environ or _about(parent)[0] not in _SHELLS:
        return [parent]
    return [parent, _about(parent)[1]]


def _about(process: int) -> tuple[str, int]:
    """Name and parent of a process; nothing where there is no ``/proc``."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", 0
    return text.partition("(")[2].rpartition(")")[0], int(text.rpartition(")")[2].split()[1])


#: Some shells start a command in their own place, ``dash`` (Debian's sh) does not.
_SHELLS = ("sh", "dash", "ash", "busybox", "bash", "zsh", "ksh")
_STARTERS = _starters()


def orphaned() -> bool:
    """Whether the program that started this one, such as ``dvc``, has ended; of several processes of a training, the
    one that started the first.
    """
    parent = os.getppid()
    now = [parent, _about(parent)[1]][: len(_STARTERS)]
    return now != _STARTERS or os.path.exists(os.environ.get(ORPHANED, ""))


def checkpoint_every() -> int:
    """PROSECO_CHECKPOINT_EVERY, the number of steps between resumable states of a training; 500 where it is unset.

    :raises InputError: it is not a whole number from 1.
    """
    return _number("PROSECO_CHECKPOINT_EVERY", 500, least=1)


def attention() -> str:
    """PROSECO_ATTENTION, which code samples for deformable attention on a GPU; ``plain`` where it is unset or empty.

    :raises InputError: no code of that name.
    """
    name = os.environ.get("PROSECO_ATTENTION") or "plain"
    if name not in ATTENTION:
        raise one_of("attention", name, ATTENTION, "PROSECO_ATTENTION, environment")
    return name


def compiles() -> bool:
    """PROSECO_COMPILE, whether torch.compile compiles the encoder's layers; False where it is unset or empty.

    :raises InputError: it is neither 0 nor 1.
    """
    value = os.environ.get("PROSECO_COMPILE") or "0"
    if value not in ("0", "1"):
        raise InputError(f"PROSECO_COMPILE is {value!r}; it must be 0 or 1 (environment)")
    return value == "1"


def micro_pixels() -> int | None:
    """PROSECO_MICRO_PIXELS, the pixels of views whose activations a process holds at a time; None where it is unset.

    :raises InputError: it is no whole number from 1.
    """
    return _number("PROSECO_MICRO_PIXELS", None, least=1)


def cores() -> int:
    """The number of cores that this program may run on.

    Those that taskset, Slurm or a container's cpuset allow; all of the machine's where the system does not tell.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rank() -> int:
    """Rank of this process in its training, set by torchrun or :mod:`proseco.base.launch`; 0 in a single process."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Number of processes of this training."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """Rank of this process among those of its training on this machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world() -> int:
    """Number of processes of this training on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _number(name: str, default: int | None, *, least: int, choices: str = "") -> int | None:
    value = os.environ.get(name, "")
    if not value:
        return default
    if not (value.isascii() and value.isdigit() and int(value) >= least):
        raise InputError(f"{name} is {value!r}; it must be a whole number from {least}{choices} (environment)")
    return int(value)


def backend() -> tuple[str, str]:
    """PROSECO_BACKEND, joblib's backend for offline work (``loky`` where unset), and PROSECO_CLUSTER, its address.

    :raises InputError: no such backend; a cluster without its address, or an address without a cluster.
    """
    name, address = os.environ.get("PROSECO_BACKEND") or "loky", os.environ.get("PROSECO_CLUSTER", "")
    if name not in BACKENDS:
        raise one_of("backend", name, BACKENDS, "PROSECO_BACKEND, environment")
    if name == "loky" and address:
        raise InputError(f"PROSECO_CLUSTER is {address!r}, but PROSECO_BACKEND is not dask or ray (environment)")
    if name != "loky" and not address:
        raise InputError(
            f"PROSECO_BACKEND is {name}; set PROSECO_CLUSTER to the running cluster's address (environment)"
        )
    return name, address


def scratch() -> Path:
    """Folder of unfinished work: PROSECO_SCRATCH, else ``.scratch`` in the repository, as an absolute path.

    An experiment of ``dvc exp run --temp`` or of its queue runs in a copy below ``.dvc/tmp/exps``, which is removed
    afterwards; it uses the folder of the repository that it was copied from.
    """
    value = os.environ.get("PROSECO_SCRATCH")
    if value:
        return Path(value).absolute()
    here = Path.cwd()
    copies = (folder.parents[2] for folder in (here, *here.parents) if folder.parts[-3:] == (".dvc", "tmp", "exps"))
    return next(copies, here) / ".scratch"
