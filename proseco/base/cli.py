"""A command line whose options are a function's signature."""

import argparse
import errno
import inspect
import itertools
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import NoneType
from typing import get_args

from proseco.base.errors import InputError, PeerLost

#: Environment variable: a file that the processes of one training race to create; the winner prints the error line.
CLAIM = "PROSECO_ERROR_CLAIM"
_FULL = errno.ENOSPC, errno.EDQUOT


def run(command: Callable[..., None] | Mapping, *, program: str | None = None) -> None:
    """Call a function with the arguments of the command line.

    Keyword-only arguments become ``--name value``, or ``--name`` alone where the default is False. Others are
    positional, ``*names`` once or more. A mapping of names to functions, or to further mappings, becomes subcommands.
    ``--help`` says what the docstring does in its first line and its ``:param`` fields.

    An :class:`InputError`, a loss that is not finite or a file that cannot be written, for a full disk or a folder that
    is read-only, ends the program with one line on stderr and exit code 1; of several processes
    (:mod:`proseco.base.launch`) the first to fail prints it.
    """
    parser = argparse.ArgumentParser(prog=program)
    _describe(parser, command)
    options = vars(parser.parse_args())
    main = options.pop("_command")
    positional = [p for p in inspect.signature(main).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    arguments = [options.pop(p.name) if p.kind is p.VAR_POSITIONAL else [options.pop(p.name)] for p in positional]
    try:
        main(*itertools.chain(*arguments), **options)
        print(end="", flush=True)  # unlike sys.stdout.flush(), this works where there is no standard output
    except (InputError, FloatingPointError) as error:
        fail(str(error))
        raise SystemExit(1) from None
    except PeerLost as error:
        time.sleep(1)  # for the process that has ended to print the reason first
        fail(f"another process of this training has ended ({error})")
        raise SystemExit(1) from None
    except BrokenPipeError:
        if not _output_is_closed():  # some other pipe, to a child process that has died
            raise
        _discard_output()
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:
        forbidden = error.errno == errno.EACCES and error.filename  # without a file a line would say too little
        if not forbidden and error.errno not in (*_FULL, errno.EFBIG, errno.EROFS):
            raise
        verb = "read or write" if forbidden else "write"
        fail(f"cannot {verb}{f' {error.filename!r}' if error.filename else ''}: {error.strerror}")
        if error.errno in _FULL:  # it may be standard output that is
            _discard_output()
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _output_is_closed() -> bool:
    """Whether standard output is a pipe whose reader has gone, having seen enough (``| head``)."""
    with suppress(OSError, ValueError):  # standard output is no file
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)
        return any(events & select.POLLERR for _, events in output.poll(0))
    return False


def _discard_output() -> None:
    """Send standard output to the null device, lest Python's last flush complain."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> None:
    """Print the line of an error, unless another process of this training has printed one."""
    claim = os.environ.get(CLAIM)
    try:
        if claim:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
    except OSError:  # another process was first, or the one that started both has ended
        return
    print(f"error: {message}", file=sys.stderr)


def _describe(parser: argparse.ArgumentParser, command: Callable | Mapping) -> None:
    if isinstance(command, Mapping):
        group = parser.add_subparsers(required=True, metavar="|".join(command))
        for name, inner in command.items():
            summary = ", ".join(inner) if isinstance(inner, Mapping) else _first_line(inner)
            _describe(group.add_parser(name, help=summary), inner)
        return
    parser.description = _first_line(command)
    parser.set_defaults(_command=command)
    meaning_of = meanings(command)
    for name, parameter in inspect.signature(command).parameters.items():
        option, default, meaning = f"--{name.replace('_', '-')}", parameter.default, meaning_of.get(name, "")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            many = {"nargs": "+"} if parameter.kind is parameter.VAR_POSITIONAL else {}
            parser.add_argument(name, type=_kind(parameter.annotation), help=meaning, **many)
        elif default is False:
            parser.add_argument(option, action="store_true", help=meaning)
        else:
            required = default is inspect.Parameter.empty
            kind, default = _kind(parameter.annotation), None if required else default
            said = "" if default in (None, "") else f" (default: {default})"
            parser.add_argument(option, type=kind, required=required, default=default, help=meaning + said)


def _kind(annotation) -> Callable:
    """The type that parses an option's text: ``int`` for ``int`` and for ``int | None``."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return kinds[0] if kinds else annotation


def meanings(command: Callable) -> dict[str, str]:
    """Name of an argument -> what its ``:param`` field says, as argparse wants it."""
    fields = re.findall(r"^:param (\w+): (.*?)(?=^:|\Z)", inspect.getdoc(command) or "", re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()).replace("``", "").replace("%", "%%") for name, text in fields}


def _first_line(command: Callable) -> str:
    return (inspect.getdoc(command) or "").partition("\n")[0].replace("``", "")
