"""One URL to bytes, or a Failure that says why and whether it may heal. Whatever the server does, it ends.

Only http and https, only public addresses, a bounded number of redirects, seconds and bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import errno
import ipaddress
import random
import re
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
from yarl import URL

from modiste.errors import StorageError
from modiste.fetching.config import OPTED_OUT, PRIVATE, TOO_LARGE, FetchConfig
from modiste.files import not_written

_IN_MEMORY = 1 << 20  # bytes of a body; the rest goes to disk, so that many large ones at once don't fill the memory
_SMALL = 1 << 16  # bytes of an answer without photo that are worth reading
_HEALS = frozenset({408, 425, 429, 500, 502, 503, 504})  # RFC 9110: may be otherwise later
_IN_PATH = "/:@!$&'()*+,;=-._~%"  # what stands in a path as it is (RFC 3986, section 3.3)
_IN_QUERY = _IN_PATH + "?"
_BARE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_MOVED = frozenset({301, 302, 303, 307, 308})
_OPT_OUT = frozenset({"noai", "noimageai"})  # as DeviantArt and img2dataset write them
_AGENT = "modiste"  # what an X-Robots-Tag calls us
_RULES = frozenset({"max-image-preview", "max-snippet", "max-video-preview", "unavailable_after"})
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
    """A response: its body as an open file, how many bytes that has, its status code, and its URL after redirects."""

    file: IO[bytes]
    size: int
    http: int
    final_url: str


@dataclass
class _Trail:
    """The last response on the way to a photo."""

    http: int = 0
    url: str = ""


@asynccontextmanager
async def session(config: FetchConfig) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections that are kept open between requests, and refuse addresses that are not public."""
    # Names are looked up in the loop's own threads; with the usual handful, dead names would hold up all others.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(min(32, config.workers)))
    _allow_many_files()
    connector = aiohttp.TCPConnector(
        limit=config.workers,
        ttl_dns_cache=300,
        keepalive_timeout=2,  # seconds: of thousands of hosts a second, each leaves an idle connection
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


async def download(opened: aiohttp.ClientSession, address: str, config: FetchConfig, folder: Path) -> Body:
    """Fetch the bytes behind a URL, following redirects; the caller closes the body's file.

    Args:
        opened: from `session`.
        address: the URL.
        config: limits and manners.
        folder: where large bodies lie meanwhile, in files without a name.

    Raises:
        Failure: anything else than a whole response with status 200.
        StorageError: the disk is full.
    """
    trail = _Trail()
    try:
        async with asyncio.timeout(config.total_timeout):
            return await _follow(opened, address, config, folder, trail)
    except (Failure, StorageError) as raised:
        error: Exception = raised
    except TimeoutError:  # aiohttp's own among them
        error = Failure("timeout", "a timeout", heals=True)
    except Exception as raised:  # whatever a server makes aiohttp raise, the other photos go on
        error = _broken(raised)
    if isinstance(error, Failure):
        error.http, error.final_url = trail.http, trail.url
    raise error


def check_url(address: str) -> URL:
    """Refuse what is no web address; path and query stay as they are written, as signed URLs need it.

    Only what no URL may hold is quoted, such as blanks, other letters than ASCII's, and a "%" before no digits.

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
        written = urlsplit(address)
        return URL.build(
            scheme=url.scheme,
            authority=url.raw_authority,
            path=_quoted(written.path, _IN_PATH) or "/",
            query_string=_quoted(written.query, _IN_QUERY),
            encoded=True,
        )
    except ValueError as error:
        raise Failure("bad url", f"a URL that can't be read ({error})") from None


def _quoted(text: str, safe: str) -> str:
    return quote(_BARE_PERCENT.sub("%25", text), safe=safe)


async def _follow(
    opened: aiohttp.ClientSession, address: str, config: FetchConfig, folder: Path, trail: _Trail
) -> Body:
    url = check_url(address)
    for _ in range(config.redirects + 1):
        async with opened.get(url, allow_redirects=False) as response:
            trail.http, trail.url = response.status, str(url)
            if response.status == 200:
                return await _body(response, config, folder, trail)
            if response.content_length is not None and response.content_length <= _SMALL:
                await response.read()  # so that the connection can be used again
            if response.status not in _MOVED:
                raise _refused(response)
            url = _next(url, response.headers.get("Location", ""))
    raise Failure("redirects", f"more than {config.redirects} redirects")


def _next(url: URL, location: str) -> URL:
    try:
        return check_url(urljoin(str(url), location.strip()))
    except ValueError as error:
        raise Failure("bad url", f"a redirect that can't be read ({error})") from None


def _refused(response: aiohttp.ClientResponse) -> Failure:
    got = f"status {response.status} {response.reason or ''}".strip()
    wait = _retry_after(response.headers.get("Retry-After", ""))
    return Failure(f"http {response.status}", got, heals=response.status in _HEALS, wait=wait)


async def _body(response: aiohttp.ClientResponse, config: FetchConfig, folder: Path, trail: _Trail) -> Body:
    if not config.ignore_opt_out and _opted_out(response.headers.getall("X-Robots-Tag", [])):
        raise Failure(OPTED_OUT, "a server that asks not to use it for AI (X-Robots-Tag)")
    too_large = Failure(TOO_LARGE, f"more than {config.max_bytes:,} bytes")
    if (response.content_length or 0) > config.max_bytes:
        raise too_large
    size = 0
    body = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder))  # noqa: SIM115  the caller closes it
    try:
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > config.max_bytes:
                response.close()  # without reading the rest
                raise too_large
            try:
                body.write(chunk)
            except OSError as error:
                raise not_written(folder, error) from error
    except BaseException:
        body.close()
        raise
    return Body(body, size, trail.http, trail.url)  # type: ignore[arg-type]  # it reads like any file


def _opted_out(tags: list[str]) -> bool:
    """Whether an X-Robots-Tag forbids use for AI, to everybody or to us: "noai", "*: noai", "modiste: noai"."""
    for tag in tags:
        agent, colon, rules = tag.lower().partition(":")
        if not colon or "," in agent or agent.strip() in _RULES:  # no agent: the colon belongs to a rule
            rules = tag.lower()
        elif agent.strip() not in ("*", _AGENT):
            continue
        if _OPT_OUT & {rule.strip() for rule in rules.split(",")}:
            return True
    return False


def _retry_after(header: str) -> float | None:
    """Seconds to wait: RFC 9110, section 10.2.3, a number or a date."""
    try:
        if header.strip().isdecimal():
            return float(header)
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _broken(error: Exception) -> Failure:
    why = str(getattr(error, "os_error", None) or error)
    if _PRIVATE in why:
        return Failure(PRIVATE, _PRIVATE)
    for classes, kind, got, heals in _BROKEN:
        if isinstance(error, classes):
            return Failure(kind, got.format(why), heals=heals)
    return Failure("error", f"{type(error).__name__} ({why})")


# The first that fits. ValueError: aiohttp's InvalidURL among them, and host names that IDNA doesn't allow.
_BROKEN: tuple[tuple[tuple[type[Exception], ...], str, str, bool], ...] = (
    ((ValueError,), "bad url", "a URL that can't be read ({})", False),
    (
        (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError),
        "tls",
        "a connection that can't be trusted ({})",
        False,
    ),
    ((aiohttp.ClientConnectorDNSError,), "unknown host", "a host name without an address", True),
    ((aiohttp.ClientPayloadError,), "cut off", "a body that ends too early", True),
    ((aiohttp.ClientError, OSError), "connection", "a broken connection ({})", True),
)


def _allow_many_files() -> None:
    """Raise the number of open files to what the system allows this process: many systems begin with 1024 or fewer."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS refuses more than its kernel's own limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
        if ip not in _GLOBAL:
            return False
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_GLOBAL = ipaddress.IPv6Network("2000::/3")  # RFC 4291: all that has been given out of IPv6


_BACKOFF = 0.5  # seconds before the second attempt; doubled each time


_LONGEST_WORDS = 200  # characters of an error that a server or library words


_FIXES = {PRIVATE: "--allow-private where that is meant"}  # for every command that fetches


def pause(failure: Failure, attempts: int, retries: int) -> float | None:
    """Seconds until the next attempt; None where there is none.

    Args:
        failure: of the last attempt.
        attempts: how many there were.
        retries: how many there may be after the first.
    """
    if not failure.heals or attempts > retries:
        return None
    backoff = _BACKOFF * 2 ** (attempts - 1)
    return (failure.wait or backoff) + random.uniform(0, backoff)  # not all of them at once


def sentence(photo: str, failure: Failure, fix: str) -> str:
    """Why a photo could not be fetched, and what to do: `fix`, unless the kind of failure asks for something else."""
    fix = _FIXES.get(failure.kind, fix)
    return f"Expected {photo} to be a photo, but got {_plain(failure.got)}. Try {fix}."


def _plain(text: str) -> str:
    """What a server or a library said, as a part of one sentence: its first line without control characters."""
    line = text.strip().split("\n", maxsplit=1)[0].encode(errors="replace").decode()
    return "".join(c for c in line if c.isprintable())[:_LONGEST_WORDS]
