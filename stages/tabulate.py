"""Tables, the metric and figures of the cells that the run selects."""

from pathlib import Path

from proseco.base import cli, files, params
from proseco.experiment import rows, wording
from proseco.tables import report


def main(*, scale: str) -> None:
    """Write ``tables/<scale>/`` and print the table."""
    settings = params.load()
    run, descriptions = settings["run"], wording.describe_all(settings, scale)
    chosen = {name: rows.row(settings, scale, name) for name in run["methods"]}
    with files.replacing(Path("tables", scale)) as out:
        text = report.write(
            out,
            Path("results", scale),
            run=run,
            rows=descriptions,
            benchmarks={name: entry["title"] for name, entry in settings["benchmarks"].items()},
            alias=wording.alias(settings, scale),
            families=wording.families(settings),
            pretrained=[name for name, row in chosen.items() if row.pretrained_here],
            compare_with_paper=scale == "paper",
            data=wording.data(settings, scale),
            proposals=rows.proposal_sources(settings, scale),
        )
    print(text)
    print("\n".join(f"tables/{scale}/{name}" for name in sorted(p.name for p in Path("tables", scale).iterdir())))


if __name__ == "__main__":
    cli.run(main)
