"""The service and the command line of Runtable."""

from importlib.metadata import version

__version__: str = version("runtable")
