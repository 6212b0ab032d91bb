"""Which of the checkpoint files that a run begins with are missing. Needs no torch."""

from pathlib import Path


def missing(backbones: dict[str, dict], *, scale: str) -> list[str]:
    """A line for each missing file, with the key of params.yaml that names it.

    :param backbones: those that the selected rows use, as :func:`proseco.experiment.plan.backbones` resolves them: a
        key of ``scales.<scale>.backbones`` -> its entry; ``<row>@<file>`` -> the entry of a row whose whole detector is
        in a file.
    """
    lines = []
    for name, entry in backbones.items():
        if "checkpoint" in entry and not Path(entry["checkpoint"]).is_file():
            row, whole, _ = name.partition("@")
            place = f"pretrain.{row}" if whole else f"backbones.{name}"
            lines.append(f"scales.{scale}.{place}.checkpoint: no file {entry['checkpoint']!r} (params.yaml)")
    return lines
