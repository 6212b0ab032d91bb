"""The tables as far as they are filled: a look in between, for which stage ``tabulate`` waits until all cells are."""

from pathlib import Path

from proseco.base import files, params
from proseco.base.errors import InputError
from proseco.experiment import schema, wording
from proseco.tables import formats, page, published


def main(*, page_file: Path | None = None) -> None:
    """Print what of the run is done so far.

    :param page_file: an .html to write all tables into.
    """
    settings = params.load()
    schema.check(settings)
    if page_file is not None and page_file.suffix != ".html":
        raise InputError(f"--page-file is {str(page_file)!r}; it must end in .html")
    scale, rows = settings["scale"], wording.describe_all(settings, settings["scale"])
    tables = published.tables(
        Path("results", scale),
        run=settings["run"],
        rows=rows,
        benchmarks={name: entry["title"] for name, entry in settings["benchmarks"].items()},
        alias=wording.alias(settings, scale),
        compare_with_paper=scale == "paper",
        data=wording.data(settings, scale),
    )
    print(formats.markdown(tables[0]))
    done = sum(len(cell.seeds) for cell in tables[0].cells)
    wanted = len(published.selected(settings["run"])) * len(settings["run"]["seeds"])
    progress = f"{done} of {wanted} finetunings have a result; dvc status says whether it is of today's settings."
    print(progress)
    if page_file is not None:
        content = {
            "scale": scale,
            "lead": [progress],
            "pictures": {},
            "rows": rows,
            "compare_with_paper": scale == "paper",
        }
        files.write_text(page_file, page.render(tables, **content, alone=True))
        print(f"wrote {page_file}")
