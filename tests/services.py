"""Slack and PagerDuty on this machine, the latter behind a certificate of an authority of our own."""

from __future__ import annotations

import ssl

import pytest
import trustme
from tests.outbox.servers import PagerDuty, Slack, running


@pytest.fixture(scope="session", name="authority")
def _authority(tmp_path_factory):
    """The authority, and its certificate's file."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return authority, path


@pytest.fixture(name="tls")
def _tls(authority, monkeypatch):
    """A server's context for 127.0.0.1 that clients of this process trust."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority[0].issue_cert("127.0.0.1").configure_cert(context)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))
    return context


@pytest.fixture(name="services")
def _services(tls):
    """Slack and PagerDuty."""
    with running(Slack()) as slack, running(PagerDuty(tls)) as pagerduty:
        yield slack, pagerduty
