"""Why a service cannot be reached: what stands between it and this machine, and what to do about each."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

_NO_BUNDLE = re.compile(r"CA certificate bundle|TLS certificate file|invalid path", re.IGNORECASE)

_BUNDLE = (
    "the file of certificates that it would be checked by is not there",
    "Correct or unset REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE and SSL_CERT_FILE; if none is set, run `make install` again.",
)

# OpenSSL's numbers (x509_vfy.h): expired or not valid yet, and another host's.
_OUT_OF_DATE = frozenset({9, 10})
_OTHER_HOST = frozenset({62, 64})


def explain_connection(
    error: BaseException, service: str, *, proxied: bool = False, by_system: bool = False
) -> tuple[str, str] | None:
    """
    Say why a connection failed, and what to do; None where the error shows no particular cause.

    Args:
        error: As a client raised it, with its causes.

        service: Who was to be reached, such as ``Stripe``.

        proxied: Whether the client went by the machine's proxy, which its error need not say.

        by_system: Whether it checks certificates by what OpenSSL finds on this machine, where a file that is missing is no error.

    Returns:
        The cause as a clause, and the remedy as a sentence.
    """
    chain = list(_causes(error))
    service = service.replace("The ", "the ", 1)
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _BUNDLE if by_system and _bundle_is_missing() else _certificate(cause, service)
    # A proxy's own name can be unknown too: that it is the proxy comes first.
    if any(type(cause).__name__ == "ProxyError" or (proxied and _is_proxys(cause)) for cause in chain):
        return (
            "the proxy that this machine is told to use does not let it through",
            "Correct or unset HTTPS_PROXY, or have whoever runs the proxy let it through; then run the same command again.",
        )
    if any(isinstance(cause, socket.gaierror) for cause in chain):
        return (
            "this machine cannot find the address of its name",
            "Check the network, its DNS or VPN, and the address that is configured; then run the same command again.",
        )
    if any(isinstance(cause, OSError) and _NO_BUNDLE.search(str(cause)) for cause in chain):
        return _BUNDLE
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return (
            "what answers there does not speak TLS as it should",
            f"Correct the port and the encryption that are configured; else ask whoever runs the network what stands before {service}.",
        )
    return None


def _bundle_is_missing() -> bool:
    return any(
        os.environ.get(name) and not Path(os.environ[name]).exists() for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")
    )


def _is_proxys(cause: BaseException) -> bool:
    # What was refused or not found is the proxy, which alone was asked; and what it refused has seen no message.
    return isinstance(cause, ConnectionRefusedError | socket.gaierror) or tunnel_refused(cause)


def tunnel_refused(cause: BaseException) -> bool:
    """Whether *cause* says that a proxy let no connection through."""
    return type(cause).__name__ == "ProxyError" or str(cause).startswith("Tunnel connection failed")


def _certificate(error: ssl.SSLCertVerificationError, service: str) -> tuple[str, str]:
    if error.verify_code in _OUT_OF_DATE:
        return (
            "the certificate that was shown is out of date by this machine's clock",
            f"Set this machine's clock; if it is right, tell whoever runs {service}.",
        )
    if error.verify_code in _OTHER_HOST:
        return (
            "the certificate that was shown is another host's",
            "Correct the address that is configured, or use a network that has no sign-in page.",
        )
    return (
        f"the certificate that was shown is not one that vouches for {service}: something in between opens the encryption",
        f"Use a network that lets {service} through unopened, or have whoever runs this one do so; then run the same command again.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    # Libraries wrap what the socket said several times over, and one error is often both cause and context.
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [one for one in inner if isinstance(one, BaseException)]
