"""A Jira on this machine: the four answers that attaching needs, with users, limits and faults."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

# What Jira gives at a time is its own to decide.
PAGE_MAX = 50
USER, TOKEN, ISSUE = "ops@marketplace.example", "ATATT-canary-token-0000", "PAY-7"


class JiraServer:
    """
    One issue.

    Args:
        token: Of its one user.

    Attributes:
        faults: What goes wrong next, by method and last word of the path, such as ``POST attachments``: a status, ``drop``
            (before it is taken) or ``lose`` (taken, and the answer lost), or a whole answer of status, headers and text; each once.

        bodies: Everything received.
    """

    def __init__(self, token=TOKEN):
        self._known = {f"Basic {base64.b64encode(f'{USER}:{token}'.encode()).decode()}", f"Bearer {token}"}
        self.attachments, self.comments, self.bodies, self.faults = [], [], [], {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method, path, body, headers):
        """As Jira's REST API, version 2, does."""
        if headers["Authorization"] not in self._known:
            return 401, {"errorMessages": ["Client must be authenticated"]}
        below = path.partition("?")[0].removeprefix(f"/rest/api/2/issue/{ISSUE}")
        if below == path.partition("?")[0]:
            return 404, {"errorMessages": ["Issue does not exist or you do not have permission to see it."]}
        if (method, below) == ("POST", "/attachments"):
            return 200, [self._attach(body, headers)]
        if (method, below) == ("POST", "/comment"):
            self.comments.append({"id": str(100 + len(self.comments)), "body": json.loads(body)["body"]})
            return 201, self.comments[-1]
        if below == "/comment":
            asked = dict(parse_qsl(urlsplit(path).query))
            start = int(asked.get("startAt", 0))
            page = self.comments[start : start + min(PAGE_MAX, int(asked.get("maxResults", PAGE_MAX)))]
            return 200, {"comments": page, "startAt": start, "maxResults": len(page), "total": len(self.comments)}
        return 200, {"id": "1", "key": ISSUE, "self": path, "fields": {"attachment": self.attachments}}

    def _attach(self, body, headers):
        assert headers["X-Atlassian-Token"] == "no-check"
        form = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
        part = form.get_payload()[0]
        data = part.get_payload(decode=True)
        made = {"id": str(10 + len(self.attachments)), "filename": part.get_filename(), "size": len(data)}
        self.attachments.append(made)
        self.bodies.append(data)
        return made

    def _handler(self):  # noqa: C901  # a fault, an answer or both
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._serve("GET")

            def do_POST(self):
                self._serve("POST")

            def _serve(self, method):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.bodies.append(body)
                fault = server.faults.pop(f"{method} {self.path.partition('?')[0].rpartition('/')[2]}", None)
                if fault == "drop":
                    self.close_connection = True
                    return
                if isinstance(fault, int):
                    fault = fault, {}, {"errorMessages": ["no"]}
                if isinstance(fault, tuple):
                    status, more, told = fault
                else:
                    (status, told), more = server.answer(method, self.path, body, self.headers), {}
                if fault == "lose":
                    self.close_connection = True
                    return
                data = (told if isinstance(told, str) else json.dumps(told)).encode()
                self.send_response(status)
                for header in ({"Content-Type": "application/json"} | more).items():
                    self.send_header(*header)
                self.send_header("Content-Length", str(len(data)))
                if status == 429:
                    self.send_header("Retry-After", "17")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                """Say nothing."""

        return Handler


@contextlib.contextmanager
def jira_running():
    """A Jira with one empty issue."""
    server = JiraServer()
    try:
        yield server
    finally:
        server.close()
