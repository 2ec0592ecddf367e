"""`runtable token`: who may use the web interface, and as what."""

import time

import click

from daemon.cli.folder import database_folder, dir_argument, in_option
from daemon.cli.output import local_time, print_table
from daemon.person import person
from daemon.web.tokens import AGENT, ROLES, TokenError, Tokens


@click.group("token")
def command() -> None:
    """Make, list and revoke tokens for the web interface.

    A viewer looks, an editor also edits comments and values, an operator also does what the
    commands do; an agent fetches jobs and reports on them.
    """


@command.command("add")
@click.argument("role", type=click.Choice(ROLES))
@click.argument("name", required=False)
@in_option
def add(role: str, name: str | None, directory: str | None) -> None:
    """Make a token for ROLE and show it, this once.

    NAME says whom it is for. For an agent it is the agent's id, which the token is bound to.
    """
    if role == AGENT and name is None:
        raise click.UsageError("an agent's token needs its id: token add agent ID")
    folder = database_folder(directory)
    agent = name if role == AGENT else None
    try:
        text = Tokens(folder).add(role, name=name or "", agent=agent, by=person(), now=time.time())
    except TokenError as error:
        raise click.ClickException(str(error)) from error
    click.echo(text)


@command.command("list")
@dir_argument
def show(directory: str | None) -> None:
    """List the tokens: ids, roles, whom they are for; not the tokens themselves."""
    try:
        tokens = Tokens(database_folder(directory)).all()
    except TokenError as error:
        raise click.ClickException(str(error)) from error
    if not tokens:
        click.echo("No tokens so far.")
        return
    print_table(
        ["token", "role", "for", "made", "by"],
        [[token.id, token.role, token.name, local_time(token.made), token.by] for token in tokens],
    )


@command.command("revoke")
@click.argument("tokens", metavar="ID...", nargs=-1, required=True)
@in_option
def revoke(tokens: tuple[str, ...], directory: str | None) -> None:
    """Revoke tokens, by the ids that `token list` shows; that holds at once."""
    store = Tokens(database_folder(directory))
    for number in tokens:
        try:
            gone = store.revoke(number)
        except TokenError as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"{gone.id}  {gone.role} {gone.name}".rstrip() + ": revoked")
