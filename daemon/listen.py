"""The daemon's life: take the folder, serve it until told to stop, leave it whole."""

import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from ctxlib.processes import die_with_parent
from daemon import __version__
from daemon.control import ControlClient, Endpoint, ServiceError
from daemon.database import ReplacedError, SchemaError
from daemon.jobs.trouble import is_passing
from daemon.listener import is_listener
from daemon.listener.service import Listener
from daemon.lock import FolderLock, Holder
from daemon.log import log_to
from daemon.service import LOG, Service
from daemon.settings import Settings

RETRY_SECONDS = 0.2
ANEW_SECONDS = 5.0
"""After how long a daemon that could not serve for a reason that may pass tries again."""
KEEP_SECONDS = 1.0
"""How often to look whether the lock is still the one at its path."""


class AlreadyServedError(Exception):
    """Another daemon serves the folder; str() names it."""


def run(folder: Path, *, patient: bool | None = None, debug: bool = False) -> None:
    """Serve `folder` until SIGTERM or SIGINT; with `debug` the terminal gets the debug log.

    While the disk is full, or the folder read-only, a patient daemon tries again now and then; it
    begins anew when somebody deletes its database.

    When another daemon holds the folder, a `patient` one waits for it to end (under Supervisor it
    is patient by itself, and ends when that does); the other raises AlreadyServedError. A command
    that holds it is asked to hand over. Raises ServiceError or SchemaError when the folder cannot
    be served.
    """
    if patient is None:
        patient = "SUPERVISOR_ENABLED" in os.environ
        if patient:
            # When Supervisor is killed: it could not start another one while this one stays.
            die_with_parent(os.getppid(), signal.SIGTERM)
    try:
        _run(folder, patient=patient, debug=debug)
    except ReplacedError:
        if not patient:
            raise
        _begin_anew(0.0)
    except (OSError, sqlite3.Error) as error:
        if not (patient and is_passing(error)):
            raise
        # The log may be what cannot be written.
        print(f"{error}; trying again in {ANEW_SECONDS:g} s", file=sys.stderr, flush=True)
        _begin_anew(ANEW_SECONDS)


def _run(folder: Path, *, patient: bool, debug: bool) -> None:
    os.umask(Settings().umask)  # for the log; the folder's own setting is known a little later
    log_to(folder, terminal="SUPERVISOR_ENABLED" not in os.environ, debug=debug)
    lock = FolderLock(folder)
    _take(lock, folder, patient)
    holder = lock.held
    assert holder is not None
    try:
        LOG.info("runtable %s serves %s as %s", __version__, folder, holder)
        asyncio.run(_serve(folder, holder, lock))
        LOG.info("ended")
    except (ServiceError, SchemaError) as error:
        LOG.error("%s", error)
        raise
    except Exception:
        LOG.exception("ended by an error")
        raise
    finally:
        lock.release()


def _begin_anew(pause: float) -> NoReturn:
    """Be a new process of this id: Supervisor gives up on what ends soon, again and again."""
    time.sleep(pause)
    os.execv(sys.executable, sys.orig_argv)


def _take(lock: FolderLock, folder: Path, patient: bool) -> None:
    """Take the lock, waiting for whom there is reason to wait."""
    named: Holder | None = None
    while not lock.acquire("daemon", time.time()):
        holder = lock.holder()
        if holder is None:
            pass  # it is just starting or ending
        elif holder.role == "daemon" and not patient:
            raise AlreadyServedError(f"{folder} is served already, by {holder}")
        elif holder != named:
            LOG.info("waiting for %s, which holds %s", holder, folder)
            named = holder
        if holder is not None and holder.role == "command":
            _ask_for_handover(folder, holder)
        time.sleep(RETRY_SECONDS)
        if not lock.exists():
            time.sleep(2 * KEEP_SECONDS)  # somebody deleted it: its holder makes it again


def _ask_for_handover(folder: Path, holder: Holder) -> None:
    endpoint = Endpoint.read(folder)
    if endpoint is None or endpoint.pid != holder.pid:
        return  # a command that holds the folder for a moment only
    client = ControlClient(endpoint, silence=2.0)
    try:
        client.call("handover")
    except ServiceError as error:
        LOG.info("%s does not hand over yet: %s", holder, error)
    finally:
        client.close()


async def _serve(folder: Path, holder: Holder, lock: FolderLock) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stopper(stop, number))
    serve = Listener if is_listener(folder) else Service
    service = serve(folder, daemon=holder)
    await service.open()
    try:
        await service.start_work()
        await service.start_sources()
        await _until(stop, service.until, lock)
    finally:
        await service.close()


async def _until(
    stop: asyncio.Event, serve: Callable[[asyncio.Event], Awaitable[None]], lock: FolderLock
) -> None:
    """Serve until `stop`, or until another daemon has the folder. Raises AlreadyServedError."""
    keeping = asyncio.create_task(_keep(lock, stop))
    try:
        await serve(stop)
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
    if not keeping.cancelled():
        raise AlreadyServedError(
            f"daemon.lock was deleted, and the folder is served by {lock.holder()} now"
        )


async def _keep(lock: FolderLock, stop: asyncio.Event) -> None:
    """End when the lock is lost, and have the service end then."""
    while await asyncio.to_thread(lock.keep):
        await asyncio.sleep(KEEP_SECONDS)
    stop.set()


def _stopper(stop: asyncio.Event, number: signal.Signals) -> Callable[[], None]:
    def told() -> None:
        LOG.info("told to stop by %s", number.name)
        stop.set()

    return told
