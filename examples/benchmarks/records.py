# What was measured, in one JSON file per part: a long table can be made in several runs.
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def load(folder: Path, part: str) -> list[Record]:
    """The records of a part so far."""
    file = folder / f"{part}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def add(folder: Path, part: str, record: Record, keys: tuple[str, ...]) -> list[Record]:
    """Write a record down in place of the one with the same keys; return all of the part."""
    kept = [old for old in load(folder, part) if any(old[key] != record[key] for key in keys)]
    records = [*kept, record]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return records
