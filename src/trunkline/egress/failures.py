"""Turn what aiohttp raises into RemoteFailed. Texts name the host and what to do, never what was sent or read."""

import asyncio
import os
import ssl

import aiohttp
from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError

from trunkline.egress.door import Dial
from trunkline.egress.urls import Target
from trunkline.errors import RemoteFailed

FOREIGN = (aiohttp.ClientError, OSError, ValueError)  # TimeoutError is an OSError


def translate(error: Exception, dial: Dial) -> RemoteFailed:
    """Return our error for one of aiohttp's or the system's."""
    if dial.refused is not None:
        return dial.refused
    target = dial.target
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return timed_out(target, "did not accept a connection in time")
    if isinstance(error, asyncio.TimeoutError):
        return timed_out(target, "fell silent for longer than allowed")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
        return _tls(target, error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return RemoteFailed(f"{target.host}:{target.port} {_reason(error)}", kind="connect", retryable=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        return _broken_body(target, error)
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        text = f"{target.host} closed the connection before its answer was complete"
        return RemoteFailed(text, kind="closed", retryable=True)
    return malformed(target, "did not answer in valid HTTP")


def timed_out(target: Target, text: str) -> RemoteFailed:
    return RemoteFailed(f"{target.host} {text}", kind="timeout", retryable=True)


def malformed(target: Target, text: str) -> RemoteFailed:
    return RemoteFailed(f"{target.host} {text}", kind="malformed")


def too_large(target: Target, max_bytes: int) -> RemoteFailed:
    text = f"{target.host} answered with more than {max_bytes:,} bytes"
    return RemoteFailed(text, kind="too_large")


def _tls(target: Target, error: Exception) -> RemoteFailed:
    cause = getattr(error, "certificate_error", None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = (
            f"{target.host} showed a certificate that does not hold ({cause.verify_message}); "
            "an operator can trust its authority with TRUNKLINE_EGRESS_CA_FILE"
        )
    else:
        text = f"{target.host}:{target.port} could not agree on TLS; check that the port speaks https"
    return RemoteFailed(text, kind="tls")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    number = error.os_error.errno
    # Only the number's text: the system's own text may list every address that was tried.
    return "cannot be reached" + (f": {os.strerror(number).lower()}" if number and number > 0 else "")


def _broken_body(target: Target, error: aiohttp.ClientPayloadError) -> RemoteFailed:
    if isinstance(error.__cause__, ContentLengthError | TransferEncodingError | OSError):
        text = f"{target.host} closed the connection before its answer was complete"
        return RemoteFailed(text, kind="closed", retryable=True)
    return malformed(target, "did not answer in valid HTTP")
