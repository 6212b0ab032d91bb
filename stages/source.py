"""Which proposals the pretraining of a row draws from, so that further shards make no other row stale."""

from pathlib import Path

from proseco.base import cli, files


def main(*, scale: str, method: str) -> None:
    """Write the name and the digest of the row's shards; null for a row that is not pretrained here."""
    data = files.read_json(Path("work", scale, "plan", "source", f"{method}.json"))["data"]
    summary = Path("work", scale, "shards", str(data), "summary.json")
    digest = None if data is None else files.digest(summary)
    files.write_json(Path("work", scale, "source", f"{method}.json"), {"data": data, "digest": digest})


if __name__ == "__main__":
    cli.run(main)
