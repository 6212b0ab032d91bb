"""The values that the parameters of the losses may have. No torch here: the plan checks them in a second."""

import math

from proseco.base.errors import InputError, one_of

RELATION_MASKS = ("self", "literal")
#: Lowest and highest value, and whether the lowest itself is allowed.
RANGES = {
    "delta": (0, 1, False),
    "tau": (0, math.inf, False),
    "tau_t": (0, math.inf, False),
    "lambda_sce": (0, 1, True),
}


def check(**values) -> None:
    """Refuse a parameter of a loss that lies outside of its range.

    :raises InputError: the value and the range.
    """
    for name, value in values.items():
        if name == "relation_mask" and value not in RELATION_MASKS:
            raise one_of("relation mask", value, RELATION_MASKS, "loss.relation_mask")
        if name in RANGES:
            low, high, closed = RANGES[name]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not (low < value <= high or (closed and value == low)):
                bracket = "[" if closed else "("
                raise InputError(f"loss.{name} is {value!r}; it must lie in {bracket}{low}, {high}]")
