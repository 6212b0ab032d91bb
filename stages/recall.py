"""How many labelled objects the proposals cover, and what they look like."""

from functools import partial
from pathlib import Path

from proseco.base import cli, files, params, plugins
from proseco.data import filters, proposing
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
    sources, shards = {}, {}
    for data, title in rows.proposal_sources(settings, scale).items():
        made = files.read_json(Path("work", scale, "plan", "propose", f"{data}.json"))
        propose = plugins.bind("proposals", params.located(settings, scale, made["proposals"]))
        sources[title] = partial(
            proposing.find, propose=propose, keep=partial(filters.keep, **made["filter"]), seed=settings["seed"]
        )
        shards[data] = Path("work", scale, "shards", data)
    with files.replacing(Path("results", scale, "recall")) as out:
        text = recall.run(
            sources=sources,
            benchmarks=benchmarks,
            shards=shards,
            out=out,
            seed=settings["seed"],
            **params.get(settings, "scales", scale, "recall"),
        )
    print(text)


if __name__ == "__main__":
    cli.run(main)
