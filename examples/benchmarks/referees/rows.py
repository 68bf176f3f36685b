# What was measured, a line of JSON each: a run that stopped goes on where it was.
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
KEYS = ("referee", "subject", "case", "method")


class Rows:
    """Rows in a file, each at most once by its keys; the last one counts."""

    def __init__(self, file: Path) -> None:
        self.file = file
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        self._start = "" if not text or text.endswith("\n") else "\n"
        self.rows: dict[tuple[str, ...], Row] = {}
        for line in text.splitlines():
            if line.endswith("}"):  # a killed run may leave half a line
                self._take(json.loads(line))

    def __contains__(self, keys: tuple[str, ...]) -> bool:
        """Whether a referee's subject, case and method were measured."""
        return keys in self.rows

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row down."""
        self._take(dict(row))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"{self._start}{json.dumps(row)}\n")
        self._start = ""

    def of(self, referee: str, subject: str) -> list[Row]:
        """The rows of a referee's subject."""
        return [row for keys, row in self.rows.items() if keys[:2] == (referee, subject)]

    def subjects(self, referee: str) -> list[str]:
        """The subjects of a referee, in the order measured."""
        return list(dict.fromkeys(keys[1] for keys in self.rows if keys[0] == referee))

    def _take(self, row: Row) -> None:
        self.rows[tuple(row[key] for key in KEYS)] = row
