"""What myMdC knows of a run, asked of a local server, in both ways of asking."""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ctxlib.metadata import FIELDS, Metadata, MetadataError, mymdc

REPOSITORY = Path(__file__).parents[2]
PEER = Path(os.environ.get("RUNTABLE_PEER_PYTHON") or REPOSITORY / ".venv-peer/bin/python")
SECRET = "s3cret-t0ken"
TECHNIQUES = [{"id": 3, "identifier": "PaNET01168", "name": "SFX"}]
ANSWERS = {
    "proposals/by_number/1234/runs/1": {
        "runs": [{"id": 77, "sample_id": 5, "experiment_id": 6}],
    },
    "proposals/by_number/1234/runs/2": {
        "runs": [{"id": 78, "sample_id": None, "experiment_id": 6}],
    },
    "proposals/by_number/1234/runs/3": {"runs": []},
    "proposals/by_number/1234/runs/4": {"runs": [{"id": 80, "sample_id": "5/../6"}]},
    "proposals/by_number/1234/runs/5": ["not", "an", "object"],
    "runs/77": {"id": 77, "techniques": TECHNIQUES},
    "samples/5": {"name": "lysozyme"},
    "experiments/6": {"name": "Sample"},
}


class Server:
    """Answers as myMdC does; `status` and `body` replace its answer, `asked` are the paths."""

    def __init__(self):
        self.asked, self.status, self.body, self.location = [], None, None, None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                path = self.path.removeprefix("/api/mymdc/")
                status, body = 200, ANSWERS.get(path)
                if self.headers["X-API-key"] != SECRET:
                    status, body = 401, {"info": f"no {self.headers['X-API-key']}"}
                elif body is None:
                    status, body = 404, {"info": "not found"}
                body = json.dumps(body).encode() if outer.body is None else outer.body
                self.send_response(outer.status or status)
                if outer.location is not None:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args): ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def proposal(tmp_path, server):
    folder = tmp_path / "SPB" / "202621" / "p001234"
    (folder / "usr").mkdir(parents=True)
    credentials(folder, f"server: {server.url}\ntoken: {SECRET}\n")
    return folder


def credentials(folder, text):
    (folder / mymdc.CREDENTIALS).write_text(text)


def request(folder, run=1):
    return {
        "proposal": 1234,
        "run": run,
        "proposal_path": None if folder is None else str(folder),
    }


def metadata(folder, run=1):
    said = []
    return Metadata.of_run(request(folder, run), said.append), said


def message(folder, run=1, field="run_type"):
    """The error's words, which never have the token in them."""
    with pytest.raises(MetadataError) as caught:
        metadata(folder, run)[0].value("mymdc", field)
    text = str(caught.value)
    chain = repr(caught.value.__cause__) + repr(caught.value.__context__) * (
        not caught.value.__suppress_context__
    )
    assert SECRET not in text + chain
    return text


def test_each_value_is_looked_up_once(proposal, server):
    found, said = metadata(proposal)
    for _ in range(3):
        assert found.value("mymdc", "run_type") == "Sample"
        assert found.value("mymdc", "sample_name") == "lysozyme"
        assert found.value("mymdc", "techniques") == TECHNIQUES
    assert len(server.asked) == 4
    assert len(set(server.asked)) == 4
    assert said == []


def test_nothing_is_asked_before_it_is_needed(proposal, server):
    metadata(proposal)
    assert server.asked == []


def test_a_run_without_a_sample_has_none(proposal):
    assert metadata(proposal, 2)[0].value("mymdc", "sample_name") is None


@pytest.mark.parametrize("run", [3, 99])
def test_an_unknown_run(proposal, run):
    assert message(proposal, run) == f"myMdC does not know run {run} of proposal 1234"


@pytest.mark.parametrize("run", [4, 5])
def test_an_answer_of_another_form(proposal, server, run):
    host = server.url.removeprefix("http://")
    said = f"myMdC at {host} gave an answer that cannot be understood"
    assert message(proposal, run, "sample_name") == said
    server.body = b"<html>"
    assert message(proposal) == said


def test_wrong_credentials(proposal, server):
    credentials(proposal, f"server: {server.url}\ntoken: another-{SECRET}\n")
    file = proposal / "usr" / "mymdc-credentials.yml"
    host = server.url.removeprefix("http://")
    assert message(proposal) == f"myMdC at {host} refuses the credentials in {file}"


def test_a_service_that_is_down_is_asked_once_and_said_once(proposal):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    credentials(proposal, f"server: http://127.0.0.1:{port}\ntoken: {SECRET}\n")
    assert message(proposal) == (
        f"myMdC does not answer at 127.0.0.1:{port} (ConnectionRefusedError)"
    )
    found, said = metadata(proposal)
    errors = []
    for _ in range(2):
        with pytest.raises(MetadataError) as caught:
            found.value("mymdc", "run_type")
        errors.append(caught.value)
    assert errors[0] is errors[1]
    assert said == [f"mymdc#run_type: {errors[0]}"]


def test_a_service_in_trouble_says_its_status(proposal, server):
    server.status = 503
    assert message(proposal).endswith("answers with status 503")


def test_the_token_is_not_taken_elsewhere(proposal, server):
    server.status, server.location = 302, "http://127.0.0.1:9/elsewhere"
    assert message(proposal).endswith("answers with status 302")


def test_a_service_that_never_answers_is_given_up(proposal, server, monkeypatch):
    monkeypatch.setattr(mymdc, "TIMEOUT", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        credentials(proposal, f"server: http://127.0.0.1:{port}\ntoken: {SECRET}\n")
        assert message(proposal) == f"myMdC does not answer at 127.0.0.1:{port} within 0.1 s"


@contextmanager
def dripping():
    """A server that sends a body of a thousand bytes, one after the other, without end."""
    stop = threading.Event()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not stop.wait(0.02):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return  # the other side has had enough

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        stop.set()
        thread.join()


def test_a_service_that_answers_drop_by_drop_is_given_up(proposal, monkeypatch):
    monkeypatch.setattr(mymdc, "TIMEOUT", 0.2)
    with dripping() as port:
        credentials(proposal, f"server: http://127.0.0.1:{port}\ntoken: {SECRET}\n")
        assert message(proposal) == f"myMdC does not answer at 127.0.0.1:{port} within 0.2 s"


@pytest.mark.parametrize(
    "text",
    [
        f"token: {SECRET}\n",
        f"server: https://in.xfel.eu\ntokn: {SECRET}\n",
        f"server: ftp://in.xfel.eu\ntoken: {SECRET}\n",
        f"server: https://me:{SECRET}@in.xfel.eu\ntoken: {SECRET}\n",
        f"server: [1]\ntoken: {SECRET}\n",
        f'server: https://in.xfel.eu\ntoken: "{SECRET}\\r\\nX: y"\n',
        f"server: https://in.xfel.eu\ntoken: {SECRET}é\n",
        f"server: http://in.xfel.eu:port\ntoken: {SECRET}\n",
        f"- {SECRET}\n",
        SECRET,
        "",
    ],
)
def test_a_credentials_file_of_another_form(proposal, text):
    credentials(proposal, text)
    file = proposal / "usr" / "mymdc-credentials.yml"
    assert message(proposal) == (
        f"{file} must have a server (https://...) and a token, each a line of its own"
    )


@pytest.mark.parametrize(
    "text", [f"token: {{{SECRET}", f"token: '{SECRET}\x00'", f"a: b: {SECRET}"]
)
def test_a_credentials_file_that_is_no_yaml(proposal, text):
    credentials(proposal, text)
    assert message(proposal).endswith("mymdc-credentials.yml is no YAML file")


def test_no_credentials_file_or_no_folder(proposal):
    (proposal / mymdc.CREDENTIALS).unlink()
    assert "there is no credentials file" in message(proposal)
    assert "set it with db-config proposal_path" in message(None)
    (proposal / mymdc.CREDENTIALS).mkdir()
    assert "cannot be read: Is a directory" in message(proposal)


def test_without_yaml_it_says_what_to_install(proposal, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert message(proposal).startswith("pyyaml is missing to read ")
    assert sys.executable in message(proposal)


def test_yaml_is_only_loaded_by_those_who_need_it():
    code = (
        "import sys, ctxlib.context, ctxlib.evaluate, ctxlib.runner, ctxlib.metadata;"
        "print(sorted({'yaml', 'urllib.request', 'extra_proposal'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


ASK_PUBLISHED = """
import json, sys
from ctxlib.metadata import Metadata, MetadataError, mymdc
request = json.loads(sys.argv[1])
catalogue = mymdc.open_catalogue(request)
answer = {"by": type(catalogue).__name__}
found = Metadata(lambda name: catalogue, lambda text: None)
for field in json.loads(sys.argv[2]):
    try:
        answer[field] = found.value("mymdc", field)
    except MetadataError as error:
        answer[field] = f"error: {error}"
print(json.dumps(answer))
"""


def ask_published(folder, root, run=1):
    """Ask in an environment that has the published package, whose proposals are below `root`."""
    arguments = [json.dumps(request(folder, run)), json.dumps(FIELDS["mymdc"])]
    done = subprocess.run(
        [str(PEER), "-c", ASK_PUBLISHED, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "EXTRA_DATA_DATA_ROOT": str(root), "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout
    return json.loads(done.stdout)


@pytest.mark.skipif(
    not PEER.exists(), reason="extra_proposal is missing: make .venv-peer/installed"
)
def test_the_published_package_asks_where_it_is_installed(proposal, tmp_path, server):
    right = {"run_type": "Sample", "sample_name": "lysozyme", "techniques": TECHNIQUES}
    assert ask_published(proposal, tmp_path) == {"by": "Published", **right}
    unknown = ask_published(proposal, tmp_path, 3)
    assert unknown["run_type"] == "error: myMdC does not know run 3"
    # It looks for proposals in one place only; elsewhere we ask ourselves.
    assert ask_published(proposal, tmp_path / "SPB") == {"by": "MyMdc", **right}
    credentials(proposal, f"server: {server.url}\ntoken: wrong\n")
    refused = ask_published(proposal, tmp_path)
    assert refused["run_type"] == "error: myMdC refuses the credentials of this proposal"
    server.close()
    down = ask_published(proposal, tmp_path)
    assert down["sample_name"] == "error: myMdC does not answer (ConnectionError)"
