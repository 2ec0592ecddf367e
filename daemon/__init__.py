"""The service and the command line of Runtable."""


def __getattr__(name: str) -> str:
    """`__version__`, looked up when asked for: that takes longer than many a command."""
    if name == "__version__":
        from importlib.metadata import version

        return version("runtable")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
