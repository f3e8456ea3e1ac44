"""Who can reach a cluster: whoever reaches a Ray dashboard can run code there, unless it asks for a token."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from rampipe.errors import ClusterError


def refuse_exposed(address: str, *, has_token: bool) -> None:
    """Raise ClusterError for a dashboard that others than this machine reach and that asks for no token.

    address: host, host:port or URL. has_token: whether Ray's token authentication is on.
    """
    host = urlsplit(address if "://" in address else f"http://{address}").hostname or ""
    if has_token or is_loopback(host):
        return
    raise ClusterError(
        f"the Ray dashboard at {address} can be reached by others, and token authentication is off: whoever reaches it "
        "can run code there. Start the cluster with RAY_AUTH_MODE=token, or its dashboard with "
        "--dashboard-host=127.0.0.1 behind a tunnel, and set RAY_AUTH_MODE=token here."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host. A name other than localhost may be anybody's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
