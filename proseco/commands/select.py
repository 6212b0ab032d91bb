"""Put one of the lists of rows, benchmarks and seeds that ``selections`` of params.yaml holds into ``run``."""

from proseco.base import params
from proseco.experiment import schema, selection


def main(name: str) -> None:
    """Change ``run`` in params.yaml to a selection; comments and all else stay. Git shows and undoes the change.

    :param name: a key of ``selections``.
    """
    settings = params.load()
    chosen = selection.names(settings, name)
    schema.check(settings | {"run": chosen})
    params.replace("run", chosen)
    lists = ", ".join(f"{key.replace('_', ' ')}: {len(values)}" for key, values in chosen.items())
    print(f"params.yaml: run is selection {name} ({lists}); `dvc repro` runs it, `git checkout params.yaml` undoes it")
