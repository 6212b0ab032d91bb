"""The one exception that a user is meant to read."""


class InputError(Exception):
    """A mistake in parameters, files or data, in one line: the value, the choices and the place.

    Stages print it without a traceback and exit with 1; anything else that escapes is a bug of ours.
    """


class PeerLost(Exception):
    """Another process of this training has ended. That process, or the one that started both, says why."""


def one_of(what: str, value: object, choices, place: str = "") -> InputError:
    """The error for a name that does not exist: ``one_of("scale", "dmeo", ["demo", "paper"], "params.yaml")``."""
    where = f" ({place})" if place else ""
    return InputError(f"no {what} named {value!r}; there is {', '.join(sorted(map(str, choices)))}{where}")
