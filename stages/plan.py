"""Check every parameter, and write what each stage depends on."""

from pathlib import Path

from proseco.base import cli, files, params
from proseco.experiment import plan


def main(*, scale: str) -> None:
    """Check params.yaml and resolve it for one scale."""
    chosen = params.load() | {"scale": scale}
    with files.replacing(Path("work", scale, "plan")) as out:
        for name, settings in plan.resolve(chosen).items():
            files.write_json(out / name, settings)


if __name__ == "__main__":
    cli.run(main)
