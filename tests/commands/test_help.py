import inspect

from proseco.__main__ import COMMANDS
from proseco.base import cli


def functions(commands):
    for command in commands.values():
        yield from functions(command) if isinstance(command, dict) else [command]


def test_every_option_is_explained():
    for main in functions(COMMANDS):
        assert set(cli.meanings(main)) == set(inspect.signature(main).parameters), main.__module__
