# The commands over whole data sets: run, and the report of a run.
from __future__ import annotations

import argparse
import shlex

from PIL import Image

from captum_infomask._errors import ArgumentError
from captum_infomask._files import output_file
from captum_infomask._messages import printable, utf8
from captum_infomask.cli.commands import classifier_of, open_page
from captum_infomask.cli.option_values import score_of, view_of, windows_of
from captum_infomask.cli.terminal import PROGRAM, check_outputs, complain, say
from captum_infomask.dataset_run.loaded import load_run
from captum_infomask.dataset_run.run import run_dataset
from captum_infomask.dataset_run.summary.evidence_summary import RATE
from captum_infomask.dataset_run.summary.summary_content import run_content
from captum_infomask.masks import MaxFraction
from captum_infomask.models.classifier import resolve_target
from captum_infomask.report.page import run_html
from captum_infomask.results.combined_evidence import CombinedEvidence
from captum_infomask.scores.targets import group_names

_SHOWN = 5  # bad pictures


def run_whole(options: argparse.Namespace) -> bool:
    """Score a data set, or its missing part; return whether all pictures are bad."""
    classifier = classifier_of(options)
    settings = view_of(options)
    score = score_of(options)
    if options.contrast is not None:
        named = group_names(classifier.categories, score.groups)
        is_word = options.contrast == "runner_up"
        settings["contrast"] = "runner_up" if is_word else resolve_target(options.contrast, named)
    if options.window is not None or options.stride is not None:
        seen = classifier.preprocess(Image.new("RGB", (64, 64)))
        settings |= windows_of(options, seen)
    run = run_dataset(
        options.data,
        classifier,
        options.out,
        target=options.target,
        categories=None if options.categories is None else classifier.categories,
        engine=options.engine,
        address=options.address,
        workers=options.workers,
        rule=None if options.fraction is None else MaxFraction(options.fraction),
        batch_size=options.batch_size,
        shard_size=options.shard_size,
        max_errors=options.max_errors,
        extend=options.extend,
        verify=options.verify,
        retry_errors=options.retry_errors,
        device=options.device,
        seed=options.seed,
        show_progress=not options.quiet,
        score=score,
        **settings,
    )
    bad = len(run.errors)
    counts = f"{_pictures(len(run))} scored, {bad} bad"
    if not run.scored:
        counts = f"nothing was left to do; {counts}"
    elif run.scored < len(run.table):
        counts = f"{counts}; {run.scored} of them by this call"
    say(f"{counts}: {printable(str(options.out))}")
    for key, error in list(run.errors.items())[:_SHOWN]:
        complain(f"  {key}: {error}")
    if bad > _SHOWN:
        complain(f"  and {bad - _SHOWN} more: see the report")
    if run.skipped.count:
        more = ", …" * (run.skipped.count > len(run.skipped.first))
        names = printable(", ".join(run.skipped.first))
        files = "1 file" if run.skipped.count == 1 else f"{run.skipped.count} files"
        say(f"{files} skipped, not pictures: {names}{more}")
    if run.has_evidence:
        _say_strongest(run.evidence())
    say(f"summary: {shlex.join([PROGRAM, 'report', printable(str(options.out))])}")
    return not len(run)


def _say_strongest(evidence: CombinedEvidence) -> None:
    """Say which place says a class most clearly, if one is beyond chance."""
    found = evidence.discoveries(RATE)
    if bool(found.any()):
        best = int(evidence.ranked()[0])
        say(
            f"evidence: {int(found.sum())} of {found.numel()} pairs of a class and a place beyond "
            f"chance (rate {RATE}); strongest: {printable(evidence.describe(best))}, e-value "
            f"2^{float(evidence.log2_e_values.max()):.1f}"
        )


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def report_run(options: argparse.Namespace) -> bool:
    """Write the summary of a run, also if it has not ended."""
    run = load_run(options.run_folder, options.data)
    path = options.run_folder / "report.html" if options.out is None else options.out
    # A link to another place may come from the sender of the folder.
    if options.out is None and (path.is_symlink() or (path.exists() and not path.is_file())):
        what = "a link" if path.is_symlink() else "no file"
        raise ArgumentError(
            f"Expected a new or an ordinary file for the page; {path} is {what}. "
            f"Choose another file with `--out`."
        )
    own = (file for file in options.run_folder.iterdir() if file.suffix != ".html")
    check_outputs([("--out", path)], own)
    page = run_html(run_content(run))
    with output_file("--out", path) as beside:
        beside.write_bytes(utf8(page))
    say(f"report: {printable(str(path))}")
    open_page(path, options.open)
    return False
