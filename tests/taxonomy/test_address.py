from __future__ import annotations

import socket
from typing import Any

import pytest
from tilth.core.config import Documents
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.address import Address, allowed_address, pinned

NOT_ALLOWED = r"^here: the repository .* is not allowed; use https"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://Git.X.org/y.git", ("https", "git.x.org", 0)),
        ("https://x.org:8443/y/z@1", ("https", "x.org", 8443)),
        ("https://[2001:db8::1]/y", ("https", "[2001:db8::1]", 0)),
        ("https://x/y", ("https", "x", 0)),
        ("ssh://git@x.org:22/y", ("ssh", "x.org", 22)),
        ("ssh://x.org/~ada/y", ("ssh", "x.org", 0)),
        ("git@x.org:y/z.git", ("ssh", "x.org", 0)),
    ],
)
def test_https_and_ssh_are_allowed(url: str, address: tuple[Any, ...]) -> None:
    assert allowed_address(url, Documents(), where="here") == Address(url, *address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ext::sh -c 'touch /tmp/x'",
        "fd::17",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x",
        "../library",
        "library",
        "http://x.org/y.git",
        "git://x.org/y.git",
        "ftp://x.org/y.git",
        "file://host/y.git",
        "https://",
        "https://x.org",
        "https://[x/y",
        "https://x.org/y z",
        "https://x.org/y\nz",
        "https://x.org/y\0z",
        "https://x.org\\y.org/z",
        "https://x.org:99999/y",
        "https://-x.org/y",
        "https://x_y.org/z",
        "https://\u2179.org/y",
        "HTTPS::x",
        "ssh://-oProxyCommand=x/y",
        "ssh://x.org/-y",
        "git@-x:y",
        "-x@x.org:y",
        "git@x.org:-y",
        "git@x.org::y",
        "x.org:y",
    ],
)
def test_all_else_is_refused(url: str) -> None:
    with pytest.raises(TaxonomyError, match=NOT_ALLOWED) as caught:
        allowed_address(url, Documents(allow_local=True), where="here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://ada:hunter2@x.org/y", "https://ghp_secret@x.org/y", "ssh://ada:hunter2@x/y"])
def test_a_key_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(TaxonomyError, match="holds a user name or a key; remove it") as caught:
        allowed_address(url, Documents(), where="here")
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["/srv/docs", "file:///srv/docs"])
def test_paths_are_allowed_by_the_configuration_alone(url: str) -> None:
    with pytest.raises(TaxonomyError, match=r"not allowed; set `documents: \{allow_local: true\}` in tilth.yaml"):
        allowed_address(url, Documents(), where="here")
    address = allowed_address(url, Documents(allow_local=True), where="here")
    assert (address.transport, str(address.folder)) == ("file", "/srv/docs")


def known_as(monkeypatch: pytest.MonkeyPatch, *numbers: str) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 0)) for number in numbers]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)


ADDRESS = Address("https://x.org/y", "https", "x.org")


@pytest.mark.parametrize(
    "number",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
        "2002:7f00:1::", "2002:a00:1::1", "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    known_as(monkeypatch, "93.184.216.34", number)
    with pytest.raises(TaxonomyError, match=r"^here: the host 'x.org' has the address .*, which is not public; add 'x"):
        pinned(ADDRESS, Documents(), where="here")


@pytest.mark.parametrize(
    "number", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_public_addresses_are_pinned(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    known_as(monkeypatch, number, number)
    assert pinned(ADDRESS, Documents(), where="here").pinned == (number,)


def test_an_allowed_host_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    assert pinned(ADDRESS, Documents(allow_hosts=("X.org",)), where="here") == ADDRESS
    local = Address("https://[::1]/y", "https", "[::1]")
    assert pinned(local, Documents(allow_hosts=("::1",)), where="here") == local
    assert pinned(Address("/srv", "file"), Documents(), where="here") == Address("/srv", "file")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]"])
def test_this_machine_is_known_under_all_its_names(host: str) -> None:
    address = allowed_address(f"https://{host}/y", Documents(), where="here")
    with pytest.raises(TaxonomyError, match="is not public"):
        pinned(address, Documents(), where="here")


def test_a_host_that_nobody_knows_is_told() -> None:
    with pytest.raises(
        TaxonomyError, match=r"^here: the host 'nowhere.invalid' is not known; mend document.repo; or add"
    ):
        pinned(Address("https://nowhere.invalid/y", "https", "nowhere.invalid"), Documents(), where="here")
