"""`python -m daemon.cli`: the command line without its installed script."""

from daemon.cli import main

main()
