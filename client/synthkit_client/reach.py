"""Can this site reach its coordinator, through TLS with the pinned authority, and do the clocks agree?

Knows an address and a certificate. Sends one request that carries nothing, and refuses to send more. The
coordinator's proxy passes `/v1/fleet/` alone, so any answer over HTTP counts: what matters is that the server
holds a certificate of the pinned authority, and what time it says it is.
"""

import http.client
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from synthkit.domain.enrolment import check_address
from synthkit.errors import PeerError

TIMEOUT_S = 10.0

MOST_SKEW_S = 300.0
"""Flower's nodes sign their requests with the time; beyond five minutes a SuperLink turns them away."""

POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Reached:
    """An answer. `skew_s` is this machine's clock minus the coordinator's, in seconds; None: not said."""

    skew_s: float | None

    @property
    def is_clock_right(self) -> bool:
        """Whether the clocks agree, as far as is known."""
        return self.skew_s is None or abs(self.skew_s) <= MOST_SKEW_S


def reach(address: str, authority: Path, *, timeout_s: float = TIMEOUT_S) -> Reached:
    """Connect once.

    Args:
        address: host:port.
        authority: The pinned certificate, PEM.
        timeout_s: Seconds to wait for it.

    Raises:
        PeerError: Nobody answers there, or not with a certificate of that authority.
    """
    host, port = check_address(address)
    try:
        context = ssl.create_default_context(cafile=str(authority))
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        try:
            connection.request("GET", "/v1/fleet/")
            date = connection.getresponse().getheader("Date", "")
        finally:
            connection.close()
    except ssl.SSLCertVerificationError:
        raise PeerError(
            "has a certificate of another authority, or for another name, or one that expired",
            where=address,
            fix="ask the coordinator; somebody may stand in between",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise PeerError(
            f"does not answer ({type(error).__name__})",
            where=address,
            fix="is the coordinator running, and may this machine call out to it?",
        ) from None
    return Reached(skew_s=_skew(date))


def wait_for(address: str, authority: Path, *, wait_s: float) -> Reached:
    """Connect until it succeeds, for at most so many seconds; certificates are not tried again.

    Raises:
        PeerError: As `reach`, at the end of that time.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return reach(address, authority, timeout_s=max(1.0, min(TIMEOUT_S, wait_s)))
        except PeerError as error:
            if time.monotonic() + POLL_S > deadline or "certificate" in error.what:
                raise
        time.sleep(POLL_S)


def _skew(date: str) -> float | None:
    try:
        return time.time() - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None
