"""`runtable backends test`: a tiny job through a backend, and what each step of it came to."""

import sys

import click

from daemon.cli.chosen_backend import chosen_backend
from daemon.cli.folder import connect, database_folder, in_option

MARKS = {"ok": "ok", "note": "note", "failed": "FAILED"}


@click.command("test")
@click.argument("backend", metavar="NAME|FILE")
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    metavar="S",
    help="How long the job may take to begin, and then to end, in seconds.",
)
@in_option
def test(backend: str, seconds: float, directory: str | None) -> None:
    """Submit a tiny job through a backend, and say what works and what does not.

    The daemon does so if one runs, as its jobs would be. Nothing of it stays. Exits with 1 when
    something does not work, with 2 when the configuration cannot be used.
    """
    from daemon.control import BAD_CONFIGURATION, ServiceError

    asked = chosen_backend(backend)
    failed = False
    with connect(database_folder(directory)) as service:
        where = "in this command" if service.daemon is None else f"by {service.daemon}"
        click.echo(f"tested {where}", err=True)
        try:
            for step in service.stream("backend-test", seconds=seconds, **asked):
                mark, indented = MARKS[step["state"]], "\n  ".join(step["words"].splitlines())
                click.echo(f"{mark:6}  {step['name']}: {indented}")
                failed = failed or step["state"] == "failed"
        except ServiceError as error:
            if error.code != BAD_CONFIGURATION:
                raise
            click.echo(f"FAILED  configuration: {error}")
            sys.exit(2)
    click.echo(f"{backend} does not work yet" if failed else f"{backend} works")
    if failed:
        sys.exit(1)
