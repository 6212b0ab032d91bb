"""A stage's command line: the signature of its ``main`` is the list of its options."""

import argparse
import inspect
import sys
from collections.abc import Callable

from proseco.base.errors import InputError


def run(main: Callable[..., None]) -> None:
    """Call ``main`` with its keyword-only arguments taken from ``--name value`` options.

    An :class:`InputError`, and a loss that is not finite, end the program with one line on stderr and exit code 1.
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
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
