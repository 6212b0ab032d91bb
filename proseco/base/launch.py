"""Several processes of one stage, one per GPU.

DVC hashes a stage's command, so the number of processes is no part of it: the environment gives it (PROSECO_NPROC). The
stage then starts itself that many times, and the first process only waits for the others. Where RANK is set, as by
torchrun, they have been started already.
"""

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from proseco.base import cli, environment, files, scratch

_LIFELINE = "PROSECO_LIFELINE"
#: Seconds for the others to end by themselves once one has failed.
_GRACE = 3.0


def run(main: Callable[..., None], *, alone: Callable[..., bool] | None = None) -> None:
    """As :func:`proseco.base.cli.run`, in as many processes as the environment asks for.

    An error in one of them ends all of them, with one line. SIGTERM is passed on to them, and they end with the process
    that started them, whichever signal ends it.

    :param alone: takes the same options; True where one process will do because there is no work to share.
    """

    @functools.wraps(main)
    def start(**options) -> None:
        count = environment.processes()
        count = 1 if alone is not None and alone(**options) else count or _devices()
        if count == 1:
            main(**options)
        elif code := _start(count):
            raise SystemExit(code)

    grow_memory()
    if "RANK" in os.environ:
        _end_with_parent()
        _run_as_one_of_several(main)
    else:
        cli.run(start)


@contextmanager
def working(
    stage: str, *outputs: Path, code: Iterable[str | Path], inputs: Iterable[Path], planned: dict[str, str], **facts
) -> Iterator[tuple[Path, ...]]:
    """What a training works in: the folder of its states (:func:`scratch.folder`), and for each output a path from
    which it is moved to its place if the block ends well, and nothing changed meanwhile that the result depends on
    (:func:`scratch.watch`).

    :param code, inputs, facts: all that the result depends on; ``planned``: digests of some of the code.
    """
    code, inputs = [*planned, *code], list(inputs)
    check = scratch.watch(code=code, inputs=inputs, planned=planned)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch.folder(stage, code=code, inputs=inputs, **facts))
        yield folder, *(stack.enter_context(replacing(output)) for output in outputs)
        check()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """:func:`proseco.base.files.replacing` in the first process; what the others write is thrown away."""
    if environment.rank() == 0:
        with files.replacing(path) as part:
            yield part
    else:
        with tempfile.TemporaryDirectory(prefix="proseco-") as folder:
            yield Path(folder, Path(path).name)


def grow_memory() -> None:
    """Have torch take a GPU's memory in segments that can grow, unless the environment says otherwise; to be called
    before torch first takes any. Batches differ in size from step to step, which would fragment blocks of fixed size.
    """
    if "PYTORCH_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


def _run_as_one_of_several(main: Callable[..., None]) -> None:
    """:func:`proseco.base.cli.run`, but after an error the process ends at once.

    While the interpreter shuts down, NCCL may wait for processes that still wait for this one.
    """
    try:
        cli.run(main)
        return
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)


def _devices() -> int:
    """The number of CUDA devices that torch sees; 1, for the CPU, where there is none."""
    import torch

    return max(1, torch.cuda.device_count())


def _start(count: int) -> int:
    """Start this program ``count`` times and wait for it; the exit code, 0 only if all of them ended well."""
    command = [sys.executable, "-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]]
    folder = tempfile.mkdtemp(prefix="proseco-")
    read, write = os.pipe()  # children read its end of file once this process is gone
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    shared |= {"OMP_NUM_THREADS": max(1, environment.cores() // count), _LIFELINE: read}
    shared |= {cli.CLAIM: os.path.join(folder, "claimed"), environment.ORPHANED: os.path.join(folder, "orphaned")}
    children: list[subprocess.Popen] = []

    def pass_on(number, frame) -> None:
        for child in children:
            child.terminate()

    previous = signal.signal(signal.SIGTERM, pass_on)
    try:
        for rank in range(count):
            variables = {key: str(value) for key, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()}
            variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", variables["OMP_NUM_THREADS"])
            children.append(subprocess.Popen(command, env=os.environ | variables, pass_fds=(read,)))
        return _wait(children, Path(folder))
    finally:
        for child in children:
            child.kill()
            child.wait()
        signal.signal(signal.SIGTERM, previous)
        os.close(read)
        os.close(write)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(children: list[subprocess.Popen], folder: Path) -> int:
    """The exit code, once all children have ended or one has failed; the others then have ``_GRACE`` seconds.

    :param folder: that they are told of.
    """
    while True:
        if environment.orphaned():
            (folder / "orphaned").touch()
        codes = [child.poll() for child in children]
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed:
            break
        if None not in codes:
            return 0
        time.sleep(0.1)
    if codes[failed[0]] < 0:  # by a signal, so that it could not print why
        signal_name = signal.Signals(-codes[failed[0]]).name
        os.environ[cli.CLAIM] = str(folder / "claimed")
        cli.fail(f"process {failed[0]} of {len(children)} was ended by {signal_name}")
    end = time.monotonic() + _GRACE
    while time.monotonic() < end and any(child.poll() is None for child in children):
        time.sleep(0.1)
    return 130 if codes[failed[0]] == 130 else 1


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _end_with_parent() -> None:
    """End this process when the one that started it ends, even by a signal that cannot be caught."""
    pipe = os.environ.get(_LIFELINE)

    def wait() -> None:
        os.read(int(pipe), 1)
        os._exit(1)

    if pipe:
        threading.Thread(target=wait, daemon=True).start()
