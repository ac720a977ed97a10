"""Which repositories a leaf may name: https and ssh, to hosts that anyone can reach, and what `tilth.yaml` adds.

A contribution names the address, and whoever runs tilth asks it, maybe from inside a company's network. So a host is
looked up before git asks it, every address that it has must be public, and git is made to use these and no others: a
second answer of the same name server does not matter.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Literal, NamedTuple

from ..core.config import Documents
from ..core.errors import TaxonomyError

# So strict that git, curl, ssh and tilth cannot read one address in two ways: no user names, escapes or other letters
# before the path, and nothing that begins with a dash.
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_USER = r"[A-Za-z0-9_][\w.-]*@"
_HTTPS = re.compile(
    rf"https://(?P<host>{_HOST}|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{{1,5}}))?/[^\s\x00-\x1f\x7f\\]*", re.ASCII
)
_SSH = re.compile(
    rf"ssh://({_USER})?(?P<host>{_HOST})(:(?P<port>\d{{1,5}}))?/[^\s\x00-\x1f\x7f:-][^\s\x00-\x1f\x7f]*", re.ASCII
)
_SCP = re.compile(rf"{_USER}(?P<host>{_HOST}):(?P<port>)[^\s\x00-\x1f\x7f:-][^\s\x00-\x1f\x7f]*", re.ASCII)
_LOCAL = re.compile(r"(?:file://)?(/[^\x00-\x1f\x7f]*)")

_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")

Transport = Literal["https", "ssh", "file"]


class Address(NamedTuple):
    """A repository that may be asked."""

    url: str
    transport: Transport
    host: str = ""
    port: int = 0
    """0: the transport's own."""
    pinned: tuple[str, ...] = ()
    """The IP addresses to use and no others; empty: any that the host has."""

    @property
    def folder(self) -> Path | None:
        """Where it is on this machine, if it is."""
        local = _LOCAL.fullmatch(self.url)
        return Path(local[1]) if local else None


def allowed_address(url: str, settings: Documents, *, where: str) -> Address:
    """What `url` names, if it may be asked; nothing is looked up. Raises TaxonomyError, at `where`, if it may not."""
    for transport, pattern in (("https", _HTTPS), ("ssh", _SSH), ("ssh", _SCP)):
        if match := pattern.fullmatch(url):
            port = int(match["port"] or 0)
            if port < 2**16:
                return Address(url, "https" if transport == "https" else "ssh", match["host"].lower(), port)
    if _LOCAL.fullmatch(url):
        if settings.allow_local:
            return Address(url, "file")
        what = "paths of this machine are not allowed"
        raise TaxonomyError(
            what, where=where, fix="set `documents: {allow_local: true}` in tilth.yaml if that is meant"
        )
    if re.match(r"\w+://[^/]*@", url):
        what = "document.repo holds a user name or a key"
        raise TaxonomyError(what, where=where, fix="remove it; git's credential helper is the place for keys")
    what = f"the repository {url!r} is not allowed"
    raise TaxonomyError(what, where=where, fix="use https://…, ssh://… or git@host:path; or copy the documents in")


def pinned(address: Address, settings: Documents, *, where: str) -> Address:
    """`address` with the host looked up. Raises TaxonomyError when one of its IP addresses is not public.

    A host of `documents.allow_hosts` is not looked up: the user vouches for it, and maybe only a proxy knows it.
    """
    if not address.host or address.host.strip("[]") in {host.lower().strip("[]") for host in settings.allow_hosts}:
        return address
    allow = f"add {address.host!r} to documents.allow_hosts in tilth.yaml"
    try:
        found = socket.getaddrinfo(address.host.strip("[]"), address.port or None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        what = f"the host {address.host!r} is not known"
        raise TaxonomyError(what, where=where, fix=f"mend document.repo; or {allow} if a proxy reaches it") from error
    numbers = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    for number in numbers:
        if not _is_public(number):
            what = f"the host {address.host!r} has the address {number}, which is not public"
            raise TaxonomyError(what, where=where, fix=f"{allow} if that is meant")
    return address._replace(pinned=numbers)


def _is_public(number: str) -> bool:
    address = ip_address(number)
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    inside = _carried(address)
    return (inside.is_global and not inside.is_multicast) if inside else address in _UNICAST and address.is_global


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, 6to4, Teredo's client, or NAT64 (RFC 6052)."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
