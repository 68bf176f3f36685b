# Compute the table of kinds of models, views and engines in docs/your_model.md.
#
#     python tests/model_table.py --write
from __future__ import annotations

import argparse
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from model_kinds import KINDS, Kind

from captum_infomask import ArgumentError, InfoMask, RemoveTokens

PAGE = Path(__file__).parent.parent / "docs" / "your_model.md"
BEGIN, END = "<!-- the table of tests/model_table.py -->", "<!-- the end of the table -->"
IN_PLACE = ("keep", "drop", "chain")
COLUMNS: dict[str, list[dict[str, Any]]] = {
    "default": [{}],
    "`crop`": [{"view": "crop"}],
    "batched": [{"view": view, "engine": "batched"} for view in IN_PLACE],
    "incremental": [{"view": view, "engine": "incremental"} for view in IN_PLACE],
    "tokens removed": [{"view": view, "imputer": RemoveTokens()} for view in IN_PLACE],
    "`features`": [{"view": "features"}],
    "`evidence`": [{"view": "evidence"}],
    "`relay`": [{"view": "relay"}],
}
_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_OF_FEATURES = (None, "evidence", "relay")


def result(kind: Kind, asked: dict[str, Any]) -> tuple[str, str]:
    """What a call does: a word, and the reason or the words of refusal if there are any."""
    options = dict(asked)
    if options.get("view") not in _OF_FEATURES:
        options |= {"sliding_window_shapes": kind.windows, "strides": kind.windows}
    if kind.few:
        options["perturbations_per_eval"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = InfoMask(kind.model, **kind.score).score_regions(
                kind.inputs, target=kind.target, **options
            )
        except ArgumentError as error:
            return "refused", reason(str(error))
    finite = all(bool(part.isfinite().all()) for part in (found.scores, found.total))
    assert finite, asked
    assert float(found.scores.abs().max()) > 0, asked
    assert found.scores.dtype == torch.float32
    if not asked:
        return f"`{found.view}`", ""
    engine, _, why = found.engine.partition(" (")
    if options.get("engine") == "incremental" and engine == "batched":
        return "plain", reason(f"; {why.removesuffix(')')}")
    return "works", ""


# The names of our networks and types, in plain words.
_PLAIN = {
    r"\w+ is none$": "it is no vision transformer that the engine knows",
    r"\w+ is TorchScript$": "it is TorchScript",
    r"torch\.b?float16": "in half precision",
}


def reason(words: str) -> str:
    """What an error expected, or why that is not so, without the advice."""
    words = re.sub(r"\. (Pass|engine=|inputs\.|A |This can ).*", "", words).removesuffix(".")
    expected, _, why = words.rpartition("; ")
    if why.startswith("got"):
        why = f"expected {expected.removeprefix('Expected ')}"
    for form, plain in _PLAIN.items():
        why = re.sub(form, plain, why)
    return why.replace("|", "\\|")


def rows() -> dict[str, dict[str, list[tuple[str, str]]]]:
    """The results of every kind and column."""
    found = {}
    for name, make in KINDS.items():
        kind = make()
        found[name] = {
            column: [result(kind, asked) for asked in calls] for column, calls in COLUMNS.items()
        }
    return found


def table() -> str:
    """The table in Markdown, with its notes."""
    notes: dict[str, int] = {}

    def cell(results: list[tuple[str, str]]) -> str:
        shown = []
        for word, why in results:
            number = notes.setdefault(why, len(notes) + 1) if why else ""
            shown.append(word + str(number).translate(_DIGITS))
        if len(set(shown)) == 1:
            return shown[0]
        return ", ".join(f"`{view}` {one}" for view, one in zip(IN_PLACE, shown, strict=True))

    lines = [
        "| your model | " + " | ".join(COLUMNS) + " |",
        "| -- |" + " -- |" * len(COLUMNS),
    ]
    for name, found in rows().items():
        cells = [cell(results) for results in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    told = [f"- {str(number).translate(_DIGITS)} {why}" for why, number in notes.items()]
    return "\n".join([*lines, "", *told])


def written() -> str:
    """The table that the page has."""
    text = PAGE.read_text(encoding="utf-8")
    return text.split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Compute the table of docs/your_model.md.")
    parser.add_argument("--write", action="store_true", help="write it into the page")
    found = table()
    if parser.parse_args().write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{after}", encoding="utf-8")
    else:
        print(found)


if __name__ == "__main__":
    main()
