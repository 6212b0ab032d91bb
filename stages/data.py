"""Put the data sets in place: draw the demo's, or see that those of the other scales are there."""

from pathlib import Path

from PIL import Image

from proseco.base import cli, files, params
from proseco.data import demo


def main(*, scale: str) -> None:
    """Generate the demo's data sets, or check the roots of the data sets on disk."""
    settings = params.load()
    generate = params.get(settings, "scales", scale, "generate")
    roots = params.get(settings, "scales", scale, "roots")
    with files.replacing(Path("data", scale)) as out:
        if generate is not None:
            demo.write(out, **generate)
            Image.fromarray(demo.contact_sheet(out)).save(out / "scenes.png")
        else:
            given = [name for name, where in roots.items() if where is not None]
            found = {name: str(params.root(settings, scale, name, archive=True)) for name in given}
            files.write_json(out / "roots.json", found)


if __name__ == "__main__":
    cli.run(main)
