"""What EuXFEL's catalogue myMdC knows of a run, asked over HTTP.

The published package extra_proposal asks where it is installed; else this module does, in the same
words, with the credentials that lie in the proposal's folder.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ctxlib.metadata import Catalogue, MetadataError

CREDENTIALS = "usr/mymdc-credentials.yml"
TIMEOUT = 10.0
"""Seconds that one answer may take."""
_LARGEST = 16 << 20
_PIECE = 1 << 16

Json = dict[str, Any]


def open_catalogue(request: Mapping[str, Any]) -> Catalogue:
    """Open myMdC for the run that a job's request names; raises MetadataError."""
    proposal, run = request["proposal"], request["run"]
    if request["proposal_path"] is None:
        raise MetadataError(
            f"the folder of proposal {proposal} is not known: set it with db-config proposal_path"
        )
    folder = Path(request["proposal_path"])
    if importlib.util.find_spec("extra_proposal") is not None:
        from ctxlib.metadata import published

        catalogue = published.open_catalogue(folder, proposal, run)
        if catalogue is not None:
            return catalogue
    return MyMdc(read_credentials(folder / CREDENTIALS), proposal, run)


class Credentials:
    """Where myMdC is, and the token that opens it; neither shows when this is printed."""

    def __init__(self, server: str, token: str, path: Path) -> None:
        """Raises ValueError if `server` is no address of a web server."""
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("server is no http address")
        self.server = server.rstrip("/")
        self.token = token
        self.path = path
        self.host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"


def read_credentials(path: Path) -> Credentials:
    """Read the credentials file of a proposal; raises MetadataError."""
    try:
        import yaml
    except ImportError as error:
        message = f"pyyaml is missing to read {path}: install it for {sys.executable}"
        raise MetadataError(message) from error
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MetadataError(f"there is no credentials file {path}") from error
    except OSError as error:
        raise MetadataError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError):
        # The words and the context of this exception are lines of the file.
        raise MetadataError(f"{path} is no YAML file") from None
    try:
        return Credentials(_text(document, "server"), _text(document, "token"), path)
    except (KeyError, TypeError, ValueError):
        message = f"{path} must have a server (https://...) and a token, each a line of its own"
        raise MetadataError(message) from None


def _text(document: Any, key: str) -> str:
    value = document[key]
    # Anything else in a header would be a second one, or an error that quotes it.
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise TypeError(key)
    return value


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the token would go along."""

    def redirect_request(self, *_args: Any) -> None:
        return None


class MyMdc:
    """Asks myMdC for one run; each answer, and each failure to get one, is kept."""

    def __init__(self, credentials: Credentials, proposal: int, run: int) -> None:
        """Nothing is asked yet."""
        self._credentials = credentials
        self._proposal = proposal
        self._run = run
        self._answers: dict[str, Json | MetadataError] = {}
        self._opener = urllib.request.build_opener(_NoRedirect)

    def look_up(self, field: str) -> object:
        """Give `run_type`, `sample_name` or `techniques`; None if the run has none."""
        run = self._about_run()
        try:
            if field == "techniques":
                return self._get(f"runs/{int(run['id'])}")["techniques"]
            kind = "experiment" if field == "run_type" else "sample"
            number = run[f"{kind}_id"]
            return None if number is None else self._get(f"{kind}s/{int(number)}")["name"]
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreadable() from error

    def _about_run(self) -> Json:
        answer = self._get(f"proposals/by_number/{self._proposal}/runs/{self._run}")
        try:
            runs = answer["runs"]
            first: Json | None = runs[0] if runs else None
        except (KeyError, TypeError) as error:
            raise self._unreadable() from error
        if first is None:
            raise self._unknown()
        return first

    def _get(self, path: str) -> Json:
        if path not in self._answers:
            try:
                self._answers[path] = self._ask(path)
            except MetadataError as error:
                self._answers[path] = error
        answer = self._answers[path]
        if isinstance(answer, MetadataError):
            raise answer
        return answer

    def _ask(self, path: str) -> Json:
        credentials = self._credentials
        request = urllib.request.Request(
            f"{credentials.server}/api/mymdc/{path}",
            headers={"Accept": "application/json; version=1", "X-API-key": credentials.token},
        )
        try:
            answer = json.loads(self._read(request))
        except urllib.error.HTTPError as error:
            error.close()
            raise self._refused(error.code) from None
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            late = isinstance(reason, TimeoutError)
            what = f"within {TIMEOUT:g} s" if late else f"({type(reason).__name__})"
            message = f"myMdC does not answer at {credentials.host} {what}"
            raise MetadataError(message) from None
        except ValueError:
            raise self._unreadable() from None
        if not isinstance(answer, dict):
            raise self._unreadable()
        return answer

    def _read(self, request: urllib.request.Request) -> bytes:
        """Read an answer; a server that sends it drop by drop has no more time than others."""
        deadline = time.monotonic() + TIMEOUT
        found = b""
        with self._opener.open(request, timeout=TIMEOUT) as response:
            while piece := response.read1(_PIECE):
                found += piece
                if time.monotonic() > deadline:
                    raise TimeoutError
                if len(found) > _LARGEST:
                    raise ValueError("no answer is so long")
        return found

    def _refused(self, status: int) -> MetadataError:
        if status in (401, 403):
            return MetadataError(
                f"myMdC at {self._credentials.host} refuses the credentials in "
                f"{self._credentials.path}"
            )
        if status == 404:
            return self._unknown()
        return MetadataError(f"myMdC at {self._credentials.host} answers with status {status}")

    def _unknown(self) -> MetadataError:
        return MetadataError(f"myMdC does not know run {self._run} of proposal {self._proposal}")

    def _unreadable(self) -> MetadataError:
        return MetadataError(
            f"myMdC at {self._credentials.host} gave an answer that cannot be understood"
        )
