# docs/results/referees.md from the rows: what is lost first, then a section per referee.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speed_tables import markdown

from .cost_figure import draw_costs
from .measures import LOCALISATION
from .rows import Row, Rows
from .tables import by_method, cost, difference, mean, paired, table

_NAMED = 3  # of what is better than the reference
_AIM = 15  # forward passes
_FEWEST = 5  # cases of what is named beside the reference


@dataclass(frozen=True)
class Section:
    """How a referee's rows become a part of the page.

    Attributes:
        referee: Its key in the rows.
        title: Its heading.
        about: What is asked, where it comes from, and what the columns are.
        measures: The columns; the first decides.
        lower: The measures of which less is better.
        plotted: Whether quality is drawn against cost.
        together: The heading of one table for all its networks; a table each if empty.
    """

    referee: str
    title: str
    about: str
    measures: Mapping[str, str] = field(default_factory=lambda: LOCALISATION)
    lower: tuple[str, ...] = ()
    plotted: bool = True
    together: str = ""


def page(
    rows: Rows, sections: Sequence[Section], reference: str, machine: str, folder: Path
) -> str:
    """The page; its figures go to the folder."""
    present = [section for section in sections if rows.subjects(section.referee)]
    parts = [_HEAD.format(machine=machine, reference=reference), _lost(rows, present, reference)]
    parts.append(_glance(rows, present, reference))
    for section in present:
        parts += _part(rows, section, reference, folder)
    return "\n\n".join(parts) + "\n"


_HEAD = """# Referees: quality and cost of all methods

```
python examples/benchmarks/run_referees.py --mnist data
```

We used every second case of a referee to choose settings. **All numbers here are from the other
half.** They are means over its cases. Differences are from *{reference}*, on the cases that both
methods saw; they are paired, with 95% bootstrap intervals. *(n cases)* means that the method saw
only the first n cases. `--cases`, `--dear` and `--methods` set this number, and a later run adds
measurements. *seconds* is the median processor time of one thread for one map. *forward passes'
time* is the same in forward passes of that network on that picture, timed beside every map. We
compare times, not the number of calls: backward passes and steps that a method runs again, as in
`relay`, take time but are not calls. Controls do not see the network. {machine}."""


def _lost(rows: Rows, sections: Sequence[Section], reference: str) -> str:
    """Where a method beats the reference by more than its interval."""
    lines, dear = [], []
    for section in sections:
        for subject, asked in _asked(rows, section).items():
            found = by_method(asked)
            if reference not in found:
                continue
            if "pass" in next(iter(found[reference].values())) and cost(found[reference]) > _AIM:
                dear.append(f"{section.title}, {subject} ({cost(found[reference]):.0f})")
            for measure, words in section.measures.items():
                better = _better(found, reference, measure, measure in section.lower)
                if better:
                    own = mean(found[reference], measure)
                    where = f"{section.title}, {subject}, {words} ({own:.3f})"
                    lines.append(f"- {where}: {better}")
    if dear:
        lines.append(f"- The time is above our aim of {_AIM} forward passes: {', '.join(dear)}")
    if not lines:
        return (
            "**Where the reference loses:** no method is better by more than the paired interval."
        )
    said = "**Where the reference loses** by more than the paired interval:"
    return "\n".join([said, "", *lines])


def _better(found: dict[str, dict[str, Row]], reference: str, measure: str, lower: bool) -> str:
    """The methods that are, the best three by name."""
    better = []
    for name, own in found.items():
        if name == reference:
            continue
        gap = paired(own, found[reference], measure)
        if gap.low is None or gap.high is None:
            continue
        if gap.high < 0 if lower else gap.low > 0:
            level = mean(own, measure)
            few = _fewer(own, found[reference])
            better.append(
                (gap.mean if lower else -gap.mean, f"{name} ({level:.3f}, {gap.mean:+.3f}{few})")
            )
    named = [words for _, words in sorted(better)[:_NAMED]]
    more = len(better) - len(named)
    return ", ".join(named) + (f", and {more} more" if more else "")


def _glance(rows: Rows, sections: Sequence[Section], reference: str) -> str:
    """The reference beside the nearest of the others, by each section's first measure."""
    head = ["referee", "network", "measure", "cases", reference, "best of InfoMask's other rows"]
    head += ["best of others", "difference from it"]
    lines = []
    for section in sections:
        measure, words = next(iter(section.measures.items()))
        for subject in rows.subjects(section.referee):
            found = by_method(reported(rows.of(section.referee, subject)))
            own = found.pop(reference, None)
            if own is None:
                continue
            sign = 1 if measure in section.lower else -1
            gaps = {
                name: paired(each, own, measure).mean
                for name, each in found.items()
                if len(each) >= _FEWEST
            }
            order = sorted(gaps, key=lambda name: sign * gaps[name])
            ours = [name for name in order if name.startswith("InfoMask")]
            theirs = [name for name in order if name not in ours]
            cells = [section.title, subject, words, str(len(own)), f"{mean(own, measure):.3f}"]
            for names in (ours, theirs):
                cells.append(_level(names[0], found[names[0]], own, measure) if names else "")
            cells.append(difference(own, found[theirs[0]], measure) if theirs else "")
            lines.append(cells)
    return markdown(head, lines)


def _level(name: str, own: Mapping[str, Row], whole: Mapping[str, Row], measure: str) -> str:
    return f"{name.removeprefix('InfoMask ')}: {mean(own, measure):.3f}{_fewer(own, whole)}"


def _fewer(own: Mapping[str, Row], whole: Mapping[str, Row]) -> str:
    """How many cases a method saw, where it saw fewer."""
    return f", {len(own)} cases" if len(own) < len(whole) else ""


def _part(rows: Rows, section: Section, reference: str, folder: Path) -> list[str]:
    parts = [f"## {section.title}", section.about]
    subjects = _asked(rows, section)
    if section.plotted:
        measure, words = next(iter(section.measures.items()))
        file = folder / f"referees_{section.referee}.png"
        draw_costs(subjects, measure, words, file)
        parts.append(f"![{section.title}: {words} against cost]({file.name})")
    for name, own in subjects.items():
        count = max(len(cases) for cases in by_method(own).values())
        made = table(own, section.measures, reference=reference, lower=section.lower)
        parts.append(f"### {name}, {count} cases\n\n{made}")
    return parts


def _asked(rows: Rows, section: Section) -> dict[str, list[Row]]:
    """The reported rows of each table, by its heading."""
    tables: dict[str, list[Row]] = {}
    for name in rows.subjects(section.referee):
        for row in reported(rows.of(section.referee, name)):
            case = f"{name}: {row['case']}" if section.together else row["case"]
            tables.setdefault(section.together or name, []).append(row | {"case": case})
    return tables


def reported(rows: Sequence[Row]) -> list[Row]:
    """The half that settings were not chosen on."""
    return [row for row in rows if row["number"] % 2 == 1]


def chosen_on(rows: Sequence[Row]) -> list[Row]:
    """The half that settings are chosen on."""
    return [row for row in rows if row["number"] % 2 == 0]
