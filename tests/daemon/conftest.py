"""Fixtures for all tests of the service and the command line."""

from cli_fake import cli, cli_folder, cli_service
from scheduler_bench import bench

__all__ = ["bench", "cli", "cli_folder", "cli_service"]
