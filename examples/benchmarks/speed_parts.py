# The parts of the measurement: what each runs, and what it writes down.
from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Mapping

import torch
from contenders import ENGINES, Contender, contenders
from exactness import exactness
from machine import machine
from measure import Effort, Settings, best_settings, measure, milliseconds_per_pass
from networks import network
from peaks import in_own_process, network_bytes, peak
from records import Record, add
from subjects import Subject

# Windows that are timed where forward passes are all that a method costs.
TILES = {"cpu": 16, "cuda": 256}
# Views in a forward pass of a method that cannot choose, where memory is measured.
VIEWS = 16
KEYS = ("network", "picture", "window", "stride", "windows", "drawn", "device", "threads")


def speed(options: Namespace) -> None:
    for name in options.models:
        settings: Settings | None = None
        for windows in options.windows:
            subject = made(options, name, windows)
            settings = settings or tuned(options, subject)
            keep(options, subject, contenders=timed(options, subject, settings))


def growth(options: Namespace) -> None:
    windows = options.windows[0]
    for name in options.models:
        for side in options.sides:
            subject = made(options, name, windows, side=side)
            settings = tuned(options, subject)
            keep(options, subject, drawn=False, contenders=timed(options, subject, settings))
        settings = tuned(options, made(options, name, windows))
        for count in options.counts:
            subject = made(options, name, windows, count=count)
            keep(options, subject, drawn=True, contenders=timed(options, subject, settings))


def linear(options: Namespace) -> None:
    for name in options.models:
        subject = made(options, name, options.windows[0])
        settings = tuned(options, subject)
        methods = milliseconds_per_pass(
            subject, chosen(options, subject), settings, effort(options)
        )
        keep(options, subject, methods=methods)


def memory(options: Namespace) -> None:
    window, stride = options.windows[0]
    shared = f"--windows {window}/{stride} --side {options.side} --device {options.device}".split()
    shared += f"--threads {options.threads} --budget {options.budget}".split()
    for name in options.models:
        subject = made(options, name, (window, stride), calibrate=False)
        peaks = {
            contender: in_own_process(["--models", name, "--contenders", contender, *shared])
            for contender in chosen(options, subject)
        }
        keep(options, subject, contenders=peaks, **network_bytes(subject))


def one_peak(options: Namespace) -> None:
    """Part `peak`, what :func:`memory` runs in a process of its own."""
    subject = made(options, options.models[0], options.windows[0], calibrate=False)
    (contender,) = chosen(options, subject).values()
    print(json.dumps(peak(subject, contender, VIEWS, effort(options))))


def exact(options: Namespace) -> None:
    torch.backends.cudnn.allow_tf32 = False
    for name in options.models:
        subject = made(options, name, options.windows[0])
        names = chosen(options, subject)
        engines = {name: ENGINES[name] for name in names if name in ENGINES and name != "auto"}
        keep(options, subject, **exactness(subject, engines, count=12))


def gradcam(options: Namespace) -> None:
    from cams import cam_table

    for name in options.models:
        subject = made(options, name, options.windows[0])
        methods = cam_table(subject, options.settings, options.rounds, options.clock)
        keep(options, subject, methods=methods)


def made(
    options: Namespace,
    name: str,
    windows: tuple[int, int],
    *,
    side: int | None = None,
    count: int | None = None,
    calibrate: bool = True,
) -> Subject:
    """A network and a random picture on the device."""
    side = side or options.side
    built = network(name, side, calibrate=calibrate).to(options.device)
    picture = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    return Subject(name, built, picture.to(options.device), *windows, count)


def chosen(options: Namespace, subject: Subject) -> Mapping[str, Contender]:
    """The contenders that were asked for and suit the subject."""
    return {name: each for name, each in asked(options).items() if each.suits(subject)}


def asked(options: Namespace) -> dict[str, Contender]:
    every = contenders(options.settings)
    return {name: every[name] for name in options.contenders}


def tuned(options: Namespace, subject: Subject) -> Settings:
    return best_settings(subject, asked(options), effort(options))


def timed(options: Namespace, subject: Subject, settings: Settings) -> Record:
    return measure(subject, chosen(options, subject), settings, effort(options))


def effort(options: Namespace) -> Effort:
    return Effort(options.rounds, options.clock, TILES[options.device], options.budget)


def keep(
    options: Namespace, subject: Subject, *, drawn: bool | None = None, **found: object
) -> None:
    """Add what was found to the part's file."""
    record = {
        "network": subject.name,
        "picture": subject.picture.shape[2],
        "window": subject.window,
        "stride": subject.stride,
        "windows": len(subject.windows),
        "drawn": drawn,
        "device": options.device,
        "threads": options.threads,
        "clock": options.clock,
        "machine": machine(options.device),
        **found,
    }
    add(options.json, options.part, record, KEYS)
    done = f"{subject.name}, {record['picture']}², {record['windows']} windows"
    print(f"Measured: {done}", file=sys.stderr)
