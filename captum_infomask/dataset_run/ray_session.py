# Starts Ray or connects to it, without text on stderr, and restores its state.
from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from captum_infomask._checks import short_repr
from captum_infomask._errors import ArgumentError, RunStopped
from captum_infomask.dataset_run.data.reading import in_one_line

_PATIENCE = 5.0  # seconds for a cluster to answer
_GREETING = (
    b"\x04"  # fourth byte of HTTP/2's SETTINGS; HTTP/1, such as a dashboard's, waits for a request
)
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray Data's own actors make Ray's core print a false error, once per process.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the future default; the present one warns
}


def import_ray() -> Any:
    """Import Ray with Ray Data, or raise an error that says how to install them."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ArgumentError(
            f'Expected Ray Data for `engine` "ray"; it cannot be imported ({error}). '
            f"pip install 'captum-infomask[ray]' installs it."
        ) from error
    return ray


@contextlib.contextmanager
def ray_session(address: str | None, cpus: int | None) -> Iterator[Any]:
    """Connect to Ray. A Ray that the user started stays; another one ends with the session.

    Args:
        address: A cluster's address. None takes the address in RAY_ADDRESS, or else starts Ray on
            this machine only.
        cpus: The number of CPUs for a Ray on this machine; all if None.
    """
    ray = import_ray()
    if ray.is_initialized():
        with _quiet_data():
            yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    before = signal.getsignal(signal.SIGTERM)
    try:
        _connect(ray, address, cpus)
        with _quiet_data():
            yield ray
    finally:
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has set its own


def _connect(ray: Any, address: str, cpus: int | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {"include_dashboard": False, "num_cpus": cpus}
    elif address != "auto":
        _check_answers(address)
    for tries_left in (2, 1, 0):
        try:
            with _environment(_QUIET), _without_stderr():
                ray.init(address, **options)
            return
        except Exception as error:
            ray.shutdown()
            said = in_one_line(error)
            if address != "local":
                raise ArgumentError(
                    f"Expected `address` to be that of a Ray cluster with this version of Ray and "
                    f"of Python; {short_repr(address)} cannot be joined ({said})."
                ) from error
            # Ray gives each of its processes 15 seconds to start. A busy machine may need longer.
            if not tries_left:
                raise RunStopped(f"Ray does not start on this machine ({said}).") from error


def _check_answers(address: str) -> None:
    """Refuse an address at which no Ray answers; Ray itself would try for minutes."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise ArgumentError(
            f"Expected `address` to be host:port of a Ray cluster, or auto; got "
            f"{short_repr(address)}."
        )
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE) as line:
            encrypted = os.environ.get("RAY_USE_TLS", "0") != "0"
            if not encrypted and line.recv(4)[3:] != _GREETING:
                raise ConnectionError("what is there speaks otherwise")
    except OSError as error:
        raise ArgumentError(
            f"Expected `address` to be that of a Ray cluster, such as host:6379 (not its "
            f"dashboard's); no Ray answers at {short_repr(address)} ({error})."
        ) from error


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """Set variables that the user has not set; new processes inherit them."""
    mine = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop the output of native code on stderr; Ray's prints the level of its log there."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _quiet_data() -> Iterator[None]:
    """Send Ray Data's messages only to its log file."""
    screens = [
        (handler, handler.level)
        for handler in logging.getLogger("ray.data").handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    for handler, _ in screens:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in screens:
            handler.setLevel(level)
