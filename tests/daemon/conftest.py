"""Fixtures for all tests of the service and the command line."""

from cli_fake import cli, cli_folder, cli_service

__all__ = ["cli", "cli_folder", "cli_service"]
