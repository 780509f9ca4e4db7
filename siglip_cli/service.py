"""A whole service on one machine: queue, gateway and workers, from start to stop."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from broker import EmbeddedServer
from siglip_cli import exit_codes
from siglip_cli.child import Child, ConfigurationFailed
from siglip_cli.errors import CommandError
from siglip_cli.lifeline import lifeline
from siglip_cli.probe import dialable, serves
from siglip_cli.programs import (
    ADDRESS_FILE,
    PROBE_SOCKET,
    Setup,
    check_workers,
    gateway_program,
    worker_programs,
)
from siglip_cli.queue_keeper import QueueKeeper
from siglip_cli.run_folder import run_folder
from siglip_cli.stop_signals import StopSignals
from siglip_cli.supervisor import NotReady, keep_alive, stop_in_order
from siglip_cli.welcome import welcome
from siglip_model.files import resolve
from siglip_settings import ServeSettings

log = logging.getLogger("siglip.serve")

STOP_MARGIN_S = 5.0
"""What a child may need beyond its own drain timeout."""

Tend = Callable[[], None]


def run_service(settings: ServeSettings) -> int:
    """Runs until told to stop; the exit code. Raises SettingsError, CheckpointError, CommandError."""
    check_workers(settings)
    # Fetched here, once and with progress, so that no start of a child waits for a download.
    commits = tuple(
        resolve(each.model, revision=each.revision, cache_dir=each.cache_dir, progress=_progress()).revision
        for each in settings.each_model
    )
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        folder = _enter_folder(stack, settings)
        redis_url, tend_queue = stack.enter_context(_queue(settings, folder))
        setup = Setup(settings, folder, redis_url, commits)
        return _run_children(setup, signals, tend_queue)


def _run_children(setup: Setup, signals: StopSignals, tend_queue: Tend) -> int:
    with lifeline() as stdin:
        gateway, workers = _children(setup, stdin)
        log.info("starting %s", ", ".join(child.name for child in [gateway, *workers]))
        try:
            code = _keep_alive(setup, gateway, workers, signals, tend_queue)
        finally:
            log.info("stopping")
            timeout_s = setup.settings.drain_timeout_s + STOP_MARGIN_S
            in_order = stop_in_order([[gateway], workers], signals, timeout_s=timeout_s)
    return code if in_order else code or exit_codes.UNAVAILABLE


def _children(setup: Setup, stdin: int) -> tuple[Child, list[Child]]:
    # Workers wait until the gateway listens: it finds errors of model, queue and port in a moment, and
    # tells them once, where workers would first load torch and then tell them again.
    listens = (setup.folder / ADDRESS_FILE).exists
    workers = [Child(program, stdin, after=listens) for program in worker_programs(setup)]
    return Child(gateway_program(setup), stdin), workers


def _keep_alive(
    setup: Setup, gateway: Child, workers: list[Child], signals: StopSignals, tend_queue: Tend
) -> int:
    """Returns once all is to be stopped; the exit code."""
    address_file = setup.folder / ADDRESS_FILE

    def announce() -> None:
        address = address_file.read_text()
        # Started again, it must be found where its clients know it, even if the port was free to choose.
        gateway.program = gateway.program.with_environ(SIGLIP_LISTEN=address)
        names = ", ".join(model.served_name for model in setup.settings.each_model)
        click.echo(welcome(dialable(address), names))

    try:
        keep_alive(
            [gateway, *workers],
            signals,
            is_ready=lambda: address_file.exists() and serves(f"unix:{setup.folder / PROBE_SOCKET}"),
            announce=announce,
            also_tend=tend_queue,
            start_timeout_s=setup.settings.start_timeout_s,
        )
    except ConfigurationFailed as error:
        # The child has said why, in a line of its own.
        return error.exit_code
    except NotReady as error:
        log.error("%s", error)
        return exit_codes.UNAVAILABLE
    return exit_codes.OK


def _enter_folder(stack: ExitStack, settings: ServeSettings) -> Path:
    base = Path(settings.run_dir).expanduser() if settings.run_dir else None
    try:
        return stack.enter_context(run_folder(base))
    except OSError as error:
        message = f"cannot use {error.filename}: {error.strerror}; choose another --run-dir"
        raise CommandError(message) from error


@contextmanager
def _queue(settings: ServeSettings, folder: Path) -> Iterator[tuple[str, Tend]]:
    """The queue's URL, and what keeps an embedded one running."""
    if settings.redis_url:
        yield settings.redis_url, lambda: None
        return
    with EmbeddedServer(folder) as server:
        log.info("the queue is at %s", server.url)
        yield server.url, QueueKeeper(server).tend


def _progress() -> type:
    from tqdm import tqdm

    return tqdm
