"""Tables, the metric and figures of the cells that the run selects."""

from pathlib import Path

from proseco import report
from proseco.base import cli, files, params


def main(*, scale: str) -> None:
    """Write ``tables/<scale>/`` and print the table."""
    settings = params.load()
    run = settings["run"]
    methods = {name: settings["methods"][name]["title"] for name in run["methods"]}
    benchmarks = {name: settings["benchmarks"][name]["title"] for name in run["benchmarks"]}
    pretrained = [n for n in run["methods"] if settings["methods"][n]["name"] in settings["scales"][scale]["pretrain"]]
    with files.replacing(Path("tables", scale)) as out:
        text = report.write(
            out,
            Path("results", scale),
            methods=methods,
            benchmarks=benchmarks,
            seeds=run["seeds"],
            pretrained=pretrained,
            compare_with_paper=scale == "paper",
        )
    print(text)
    print("\n".join(f"tables/{scale}/{name}" for name in sorted(p.name for p in Path("tables", scale).iterdir())))


if __name__ == "__main__":
    cli.run(main)
