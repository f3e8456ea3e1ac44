"""The audit never takes silence for innocence: a service that cannot be used is said, or is an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.audit import main, why_silent

ANSWERS = {
    "/speaks": (200, b'{"vulnerabilities": []}'),
    "/mirror": (200, b'{"releases": {}}'),
    "/empty": (200, b""),
}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        code, content = ANSWERS.get(self.path, (404, b""))
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/speaks", None), ("/mirror", "a mirror"), ("/empty", "not JSON"), ("/gone", "404")],
)
def test_only_a_service_that_speaks_of_vulnerabilities_is_asked(url: str, path: str, reason: str | None) -> None:
    said = why_silent(url + path)
    assert said is None if reason is None else reason in str(said)


def test_a_port_where_nobody_listens_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.delenv("RAMPIPE_AUDIT", raising=False)
    assert main(["http://127.0.0.1:9/pypi"]) == 0
    assert "pip-audit did not run: http://127.0.0.1:9/pypi/numpy/" in capsys.readouterr().out
    monkeypatch.setenv("RAMPIPE_AUDIT", "required")
    assert main(["http://127.0.0.1:9/pypi"]) == 1
