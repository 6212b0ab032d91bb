"""A stage's command line: the signature of its ``main`` is the list of its options."""

import argparse
import inspect
import os
import sys
import time
from collections.abc import Callable

from proseco.base.errors import InputError, PeerLost

#: Environment variable: a file that the processes of one training race to create; the winner prints the error line.
CLAIM = "PROSECO_ERROR_CLAIM"


def run(main: Callable[..., None]) -> None:
    """Call ``main`` with its keyword-only arguments taken from ``--name value`` options.

    An :class:`InputError`, and a loss that is not finite, end the program with one line on stderr and exit code 1; of
    several processes (:mod:`proseco.base.launch`) the first to fail prints it.
    """
    parser = argparse.ArgumentParser(description=(inspect.getdoc(main) or "").partition("\n")[0])
    for name, parameter in inspect.signature(main).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        kind = parameter.annotation if callable(parameter.annotation) else str
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, required=required, default=None if required else parameter.default
        )
    options = vars(parser.parse_args())
    try:
        main(**options)
    except (InputError, FloatingPointError) as error:
        fail(str(error))
        raise SystemExit(1) from None
    except PeerLost as error:
        time.sleep(1)  # who ended is first to say why
        fail(f"another process of this training has ended ({error})")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def fail(message: str) -> None:
    """Print the one line of an error, unless another process of this training has printed one."""
    claim = os.environ.get(CLAIM)
    try:
        if claim:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
    except OSError:  # another was first, or the one that waited for both has ended
        return
    print(f"error: {message}", file=sys.stderr)
