"""How many labelled objects the proposals cover, and what they look like."""

from functools import partial
from pathlib import Path

from proseco.base import cli, files, params
from proseco.data import filters
from proseco.evaluation import recall
from proseco.experiment import rows


def main(*, scale: str) -> None:
    """Measure the recall of the proposals on test images of every benchmark, and draw some of them."""
    settings = params.load()
    seed = str(settings["run"]["seeds"][0])  # test images may differ from seed to seed (FSOD); one draw is enough
    benchmarks = {}
    for name in settings["run"]["benchmarks"]:
        test = files.read_json(Path("work", scale, "annotations", name, seed, "test.json"))
        benchmarks[name] = (test, params.root(settings, scale, settings["benchmarks"][name]["root"]))
    with files.replacing(Path("results", scale, "recall")) as out:
        text = recall.run(
            proposals=files.read_json(Path("work", scale, "plan", "propose.json"))["proposals"],
            benchmarks=benchmarks,
            shards=Path("work", scale, "shards", rows.MAIN),
            out=out,
            seed=settings["seed"],
            keep=partial(filters.keep, **params.get(settings, "scales", scale, "propose", "filter")),
            **params.get(settings, "scales", scale, "recall"),
        )
    print(text)


if __name__ == "__main__":
    cli.run(main)
