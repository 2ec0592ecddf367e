"""`runtable agent`: fetch jobs from a database's web interface and run them on this host."""

import os
from pathlib import Path

import click

TOKEN = "RUNTABLE_TOKEN"


@click.command("agent")
@click.option(
    "--server", required=True, metavar="URL", help="The web interface, as http://host:port."
)
@click.option("--id", "name", required=True, metavar="NAME", help="What this agent is called.")
@click.option(
    "--max-jobs",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="So many jobs at once at most.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"The file with the agent's token. Default: the environment variable {TOKEN}.",
)
def command(server: str, name: str, max_jobs: int, token_file: Path | None) -> None:
    """Run jobs on this host for a database that is served elsewhere.

    The database's folder must be at the same place here. The token is made with
    `runtable token add agent NAME`. Ends with Ctrl-C or SIGTERM, after its jobs; a second signal
    ends these too.
    """
    if not server.startswith(("http://", "https://")):
        raise click.UsageError(f"{server!r} is no address: give http://host:port")
    from daemon.agent import AgentError, run
    from daemon.backends.agent_hosts import NAME, NAME_IS

    if NAME.fullmatch(name) is None:
        raise click.UsageError(f"an agent cannot be called {name!r}: {NAME_IS}")

    try:
        _token(token_file)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    try:
        run(server.rstrip("/"), name, max_jobs, token=lambda: _token(token_file), say=click.echo)
    except AgentError as error:
        raise click.ClickException(str(error)) from error


def _token(path: Path | None) -> str:
    """The token, read anew each time, as it may be renewed; it never stands on a command line.

    Raises OSError, and ValueError when there is none.
    """
    text = os.environ.get(TOKEN, "") if path is None else path.read_text(encoding="utf-8")
    words = text.split()
    if len(words) != 1:
        place = f"the environment variable {TOKEN}" if path is None else str(path)
        what = "has more than a token in it" if words else "has no token in it"
        raise ValueError(f"{place} {what}: `runtable token add agent NAME` makes one")
    return words[0]
