"""``python -m proseco <command>``: what a user does by hand. The pipeline itself is run by DVC (``stages/``)."""

from proseco.base import cli
from proseco.commands import cells, check_data, cost, export_split, predict, select, so_far, weights

COMMANDS = {
    "cells": cells.main,
    "check-data": check_data.main,
    "cost": cost.main,
    "export-split": export_split.main,
    "predict": predict.main,
    "select": select.main,
    "so-far": so_far.main,
    "weights": weights.COMMANDS,
}

if __name__ == "__main__":
    cli.run(COMMANDS, program="python -m proseco")
