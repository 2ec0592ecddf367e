"""The run table and the run files, in the format that DAMNIT's own tools read."""

from daemon.store.storage import StorageBackend

__all__ = ["StorageBackend"]
