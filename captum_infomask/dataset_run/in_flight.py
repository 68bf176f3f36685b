# Handles pictures that end the process that decodes or scores them. A note on the disk names them,
# a separate process tries them, and they become bad rows.
from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_infomask._process import quiet
from captum_infomask.dataset_run.data.data_pictures import DataPictures, Decoded, decode_picture
from captum_infomask.dataset_run.data.reading import regular

_NO_MEMORY = 77  # the exit code for too little memory
_TOO_LITTLE = "there was too little memory for it"
_DIGITS = 20  # digits of a place in a note


class InFlight:
    """Decodes a batch, and keeps a note on the disk of the picture that is being decoded.

    The note survives the process. The next process that decodes the batch reads in it which
    pictures were being decoded when a process ended. It decodes these in separate processes. A
    picture that ends its separate process too is bad. If a process ended for another reason, such
    as a killed run, its picture is still good.

    Args:
        folder: The run's folder.
        first: The place of the batch's first picture.
        pictures: The data set.
        preprocess: From a picture to its tensor.
        shape: (C, H, W) of every tensor.
    """

    def __init__(
        self,
        folder: Path,
        first: int,
        pictures: DataPictures,
        preprocess: Callable[[Any], Tensor],
        shape: tuple[int, ...],
    ) -> None:
        self._note = folder / f".decoding-{first}"
        self._pictures = pictures
        self._how = (preprocess, shape)

    @contextmanager
    def noted(self, *, all_apart: bool) -> Iterator[Callable[[int], Decoded]]:
        """Give a function that decodes a picture by its place and writes the note."""
        suspects = _places(self._note)
        known = b"".join(b"%*d\n" % (_DIGITS, k) for k in sorted(suspects))
        note = _opened(self._note)

        def decoded(k: int) -> Decoded:
            if note is not None:
                with suppress(OSError):  # without space there is no note
                    os.pwrite(note, b"%*d\n" % (_DIGITS, k), len(known))
            if k not in suspects and not all_apart:
                with suppress(MemoryError):
                    return decode_picture(self._pictures, k, *self._how)
            return decode_apart(self._pictures, k, *self._how)

        try:
            if note is not None:
                with suppress(OSError):
                    os.pwrite(note, known, 0)
            yield decoded
        finally:  # a killed process does not reach this
            if note is not None:
                with suppress(OSError):
                    os.ftruncate(note, len(known))
                os.close(note)
                if not suspects:
                    self._note.unlink(missing_ok=True)


def _places(note: Path) -> set[int]:
    """The places in a note; empty if there is no readable note."""
    try:
        return {int(line) for line in Path(regular(str(note))).read_bytes().split()}
    except (OSError, ValueError):
        return set()


@contextmanager
def in_network(folder: Path, first: int) -> Iterator[int]:
    """Give the number of processes that ended with this batch in the network, and count this one.

    Args:
        folder: The run's folder.
        first: The place of the batch's first picture.
    """
    note, deaths = folder / f".scoring-{first}", 0
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(OSError), os.fdopen(os.open(note, flags, 0o644), "ab") as begun:
        begun.write(b".")
        deaths = begun.tell() - 1
    try:
        yield deaths
    finally:  # a killed process does not reach this
        with suppress(OSError):
            note.unlink()


def ends_process(call: Callable[[], object]) -> str:
    """Say how a call ends a separate process; empty if it does not, even if it raises an error."""

    def tried() -> None:
        with suppress(Exception):
            call()

    return apart(tried)[1]


def _opened(note: Path) -> int | None:
    """An empty note; None if none can be made."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(note, flags, 0o644)
    except OSError:
        return None


def decode_apart(
    pictures: DataPictures,
    k: int,
    preprocess: Callable[[Any], Tensor],
    shape: tuple[int, ...],
) -> Decoded:
    """Like ``decode``, but in a separate process, whose end becomes the picture's error."""
    found, why = apart(lambda: decode_picture(pictures, k, preprocess, shape))
    return Decoded(k, None, None, f"It could not be decoded: twice {why}.") if why else found


def apart(call: Callable[[], Any]) -> tuple[Any, str]:
    """The result of a call in a separate process, and the reason if there is none."""
    here, there = os.pipe()
    try:
        with quiet("This process .* is multi-threaded"):  # the child does not use other threads
            child = os.fork()
    except OSError:
        os.close(here)
        os.close(there)
        return None, _TOO_LITTLE
    if child == 0:
        _send(there, call)
    os.close(there)
    try:
        with os.fdopen(here, "rb") as pipe:
            answer = pipe.read()
    except BaseException:  # an interrupt, which the child may not have received
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0 and answer:
        return pickle.loads(answer), ""
    if code == _NO_MEMORY:
        return None, _TOO_LITTLE
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return None, f"the process that tried ended ({how}), as it does where memory is short"


def _send(there: int, call: Callable[[], Any]) -> None:
    """In the child: write the result and end."""
    code = 1
    try:
        torch.set_num_threads(1)  # a fork has no other threads
        with suppress(OSError):  # if memory is short, the system should end this process first
            Path("/proc/self/oom_score_adj").write_text("1000")
        try:
            answer = pickle.dumps(call())
        except MemoryError:
            code = _NO_MEMORY
        else:
            with os.fdopen(there, "wb") as pipe:
                pipe.write(answer)
            code = 0
    finally:
        os._exit(code)
