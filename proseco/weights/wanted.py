"""The checkpoint files that a run begins with: whether they are there. Needs no torch."""

from pathlib import Path


def missing(backbones: dict[str, dict], *, scale: str) -> list[str]:
    """A line for each file that is not there, with the key that names it.

    :param backbones: those that the selected rows use, as :func:`proseco.experiment.plan.backbones` resolves them: a
        key of ``scales.<scale>.backbones`` -> its entry; ``<row>@<file>`` -> that of a row whose whole detector is in
        a file.
    """
    lines = []
    for name, entry in backbones.items():
        if "checkpoint" in entry and not Path(entry["checkpoint"]).is_file():
            row, whole, _ = name.partition("@")
            place = f"pretrain.{row}" if whole else f"backbones.{name}"
            lines.append(f"scales.{scale}.{place}.checkpoint: no file {entry['checkpoint']!r} (params.yaml)")
    return lines
