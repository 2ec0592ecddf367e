"""The HTTP service of one database folder: a program of its own, which asks the daemon."""
