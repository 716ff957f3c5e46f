"""One URL to bytes, or a Failure that says why and whether it may heal. Whatever the server does, it ends.

Only http and https, only public addresses, a bounded number of redirects, seconds and bytes.
"""

from __future__ import annotations

import asyncio
import email.utils
import errno
import ipaddress
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from modiste.config import FetchConfig

_IN_MEMORY = 1 << 20  # bytes of a body; the rest goes to disk, so that many large ones at once don't fill the memory
_SMALL = 1 << 16  # bytes of an answer without photo that are worth reading
_HEALS = frozenset({408, 425, 429, 500, 502, 503, 504})  # RFC 9110: may be otherwise later
_MOVED = frozenset({301, 302, 303, 307, 308})
_OPT_OUT = frozenset({"noai", "noimageai"})  # as DeviantArt and img2dataset write them
_AGENT = "modiste"  # what an X-Robots-Tag calls us
_PRIVATE = "an address that is not public"


class Failure(Exception):
    """A photo that could not be fetched.

    Attributes:
        kind: a few words to count by, such as "http 404".
        got: what came instead, for "Expected the photo ..., but got {got}".
        heals: whether another attempt may succeed.
        http, final_url: of the last response; 0 and "" where there was none.
        wait: seconds that the server asks to wait.
    """

    def __init__(self, kind: str, got: str, *, heals: bool = False, wait: float | None = None) -> None:
        super().__init__(got)
        self.kind, self.got, self.heals, self.wait = kind, got, heals, wait
        self.http, self.final_url = 0, ""


class Body(NamedTuple):
    """A response: the bytes of its body, its status code, and its URL after redirects."""

    data: bytes
    http: int
    final_url: str


@asynccontextmanager
async def session(config: FetchConfig) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections that are kept open between requests, and refuse addresses that are not public."""
    connector = aiohttp.TCPConnector(
        limit=config.workers,
        ttl_dns_cache=300,
        socket_factory=None if config.allow_private else _public_socket,
    )
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=config.connect_timeout, sock_read=config.read_timeout
    )  # the total is taken over all redirects, below
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers={"User-Agent": config.user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
        auto_decompress=False,  # a body is never larger than what came over the wire
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as opened:
        yield opened


async def download(opened: aiohttp.ClientSession, address: str, config: FetchConfig) -> Body:
    """Fetch the bytes behind a URL, following redirects.

    Raises:
        Failure: anything else than a whole response with status 200.
    """
    try:
        async with asyncio.timeout(config.total_timeout):
            return await _follow(opened, address, config)
    except TimeoutError:
        raise Failure("timeout", "a timeout", heals=True) from None


def check_url(address: str) -> URL:
    """Refuse what is no web address.

    Raises:
        Failure: no URL at all, no host, or another scheme than http and https.
    """
    if not address:
        raise Failure("no url", "no URL")
    try:
        url = URL(address)
        if url.scheme not in ("http", "https"):
            raise Failure("bad url", f"the scheme '{url.scheme[:20]}' instead of http or https")
        if not url.host or not url.host_port_subcomponent:
            raise Failure("bad url", "a URL without a host")
    except ValueError as error:
        raise Failure("bad url", f"a URL that can't be read ({error})") from None
    return url


async def _follow(opened: aiohttp.ClientSession, address: str, config: FetchConfig) -> Body:
    url = check_url(address)
    for _ in range(config.redirects + 1):
        response = None
        try:
            async with opened.get(url, allow_redirects=False) as response:
                if response.status != 200 and 0 <= (response.content_length or 0) <= _SMALL:
                    await response.read()  # so that the connection can be used again
                if response.status not in _MOVED:
                    return await _body(response, config)
                url = check_url(str(url.join(URL(response.headers.get("Location", "")))))
        except Failure as failure:
            failure.http, failure.final_url = (response.status, str(url)) if response else (0, str(url))
            raise
        except ValueError as error:
            raise Failure("bad url", f"a redirect that can't be read ({error})") from None
        except TimeoutError:  # of aiohttp's, a ClientError too
            raise
        except aiohttp.ClientError as error:
            raise _broken(error) from None
    raise Failure("redirects", f"more than {config.redirects} redirects")


async def _body(response: aiohttp.ClientResponse, config: FetchConfig) -> Body:
    status = response.status
    if status != 200:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        raise Failure(
            f"http {status}", f"status {status} {response.reason or ''}".strip(), heals=status in _HEALS, wait=wait
        )
    if not config.ignore_opt_out and _opted_out(response.headers.getall("X-Robots-Tag", [])):
        raise Failure("opted out", "a server that asks not to use it for AI (X-Robots-Tag)")
    too_large = Failure("too large", f"more than {config.max_bytes:,} bytes")
    if (response.content_length or 0) > config.max_bytes:
        raise too_large
    size = 0
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as body:
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > config.max_bytes:
                response.close()  # without reading the rest
                raise too_large
            body.write(chunk)
        body.seek(0)
        return Body(body.read(), status, str(response.url))


def _opted_out(tags: list[str]) -> bool:
    """Whether an X-Robots-Tag forbids use for AI, to everybody or to us: "noai", "*: noai", "modiste: noai"."""
    for tag in tags:
        agent, colon, rules = tag.lower().partition(":")
        if not colon or "," in agent:  # no agent: the colon is of a later rule, "noai, unavailable_after: ..."
            rules = tag.lower()
        elif agent.strip() not in ("*", _AGENT):
            continue
        if _OPT_OUT & {rule.strip() for rule in rules.split(",")}:
            return True
    return False


def _retry_after(header: str) -> float | None:
    """Seconds to wait: RFC 9110, section 10.2.3, a number or a date."""
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _broken(error: aiohttp.ClientError) -> Failure:
    why = str(getattr(error, "os_error", None) or error)
    if _PRIVATE in why:
        return Failure("private address", _PRIVATE)
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return Failure("tls", f"a connection that can't be trusted ({why})")
    if isinstance(error, aiohttp.InvalidURL):
        return Failure("bad url", f"a URL that can't be read ({error})")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failure("unknown host", "a host name without an address", heals=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        return Failure("cut off", "a body that ends too early", heals=True)
    return Failure("connection", f"a broken connection ({why})", heals=True)


def _public_socket(info: tuple[Any, ...]) -> socket.socket:
    """Open a socket to a resolved address: here no name, redirect or spelling of an address gets past."""
    family, kind, protocol, _, address = info
    if not is_public(address[0]):
        raise OSError(errno.EACCES, _PRIVATE)
    return socket.socket(family, kind, protocol)


def is_public(address: str) -> bool:
    """Whether an IPv4 or IPv6 address belongs to the public internet, also where IPv6 wraps an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
