"""The only git commands that ask a server. What it sends, how long it takes and where else it leads are bounded.

Trusted is who runs tilth: their gitconfig (credential helpers, proxies, certificates, `insteadOf`) and ssh_config
(keys, users, `known_hosts`) are followed. But no command of theirs replaces ssh, and of the GIT_ variables only those
count that say where the configuration and the certificates are: in a hook the others name another repository.
Not trusted is the server: no redirects, no bundles or packs from elsewhere, no questions to a person, no submodules. It
cannot send more than the limit, even when tilth is killed meanwhile: the kernel holds git to it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from ..core.config import Documents
from ..core.environment import for_children
from ..core.errors import TaxonomyError
from .address import Address

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "http.followRedirects=false",
    "transfer.bundleURI=false",
    "fetch.uriProtocols=",
    "fetch.recurseSubmodules=false",
    "fetch.unpackLimit=1",  # whatever comes is one file, and a file's size can be limited
    "core.bigFileThreshold=1m",  # larger files pass through, whatever size they say they have
    "gc.auto=0",
    "maintenance.auto=false",
    "credential.interactive=false",
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GIT_SSH_VARIANT": "ssh",
    # A server that sends less than 1 kB/s for a minute is as good as dead.
    "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
    "LC_ALL": "C",
}
_KEPT = {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"}

_SSH = "ssh -oBatchMode=yes -oForwardAgent=no -oPermitLocalCommand=no"
_SSH_PINNED = "-oProxyCommand=none -oControlPath=none -oHostName={number} -oHostKeyAlias={alias}"

# 512 bytes a block for a file's size; kilobytes for the memory. Whatever git starts has the same limits.
_LIMITED = 'ulimit -f "$1" && ulimit -v "$2" && shift 2 && exec "$@"'
_MEMORY_MB = 4096
_NOT_FOUND = 127
_MOST_TOLD = 1 << 16  # bytes of a server's complaints that are looked at


class NotOffered(TaxonomyError):
    """The server gives branches and tags, but not a commit by its hash, or not without what came before it."""


def fetch(repository: Path, address: Address, *arguments: str, settings: Documents, lock: IO[str]) -> None:
    """Fetch into the bare `repository`: `arguments` are refspecs and what a `git fetch` may have before them.

    git holds `lock` open, so that nobody else writes there while it runs, even if tilth is killed. Raises NotOffered,
    or TaxonomyError when the server cannot be reached, sends too much, or takes too long.
    """
    options = [argument for argument in arguments if argument.startswith("--")]
    refspecs = [argument for argument in arguments if not argument.startswith("--")]
    command = ("--git-dir=.", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *options)
    _ask(repository, address, (*command, "--", address.url, *refspecs), settings, lock)


def change(repository: Path, *arguments: str) -> None:
    """A git command that writes into a bare repository of ours and asks nobody. Raises TaxonomyError."""
    command = ["git", *(() if arguments[0] == "init" else ("--git-dir=.",)), *arguments]
    try:
        subprocess.run(command, cwd=repository, env=_environment(None), check=True, capture_output=True)
    except FileNotFoundError as error:
        raise TaxonomyError("git is not installed", fix="install git") from error
    except subprocess.CalledProcessError as error:
        raise TaxonomyError(f"git: {error.stderr.decode(errors='replace').strip()}", where=str(repository)) from error


def list_refs(address: Address, settings: Documents) -> dict[str, str]:
    """Name of a ref (`HEAD`, `refs/heads/main`, …) -> hash, as the server has it now. Raises as `fetch` does."""
    told = _ask(Path("/"), address, ("ls-remote", "--quiet", "--", address.url), settings, None)
    rows = (line.partition("\t") for line in told.splitlines())
    return {name: commit for commit, _, name in rows}


def _ask(place: Path, address: Address, command: tuple[str, ...], settings: Documents, lock: IO[str] | None) -> str:
    limits = [str(settings.max_mb * 10**6 // 512 + 1), str((_MEMORY_MB + 2 * settings.max_mb) * 1024)]
    settings_of_git = [part for setting in (*_SETTINGS, *_pin(address)) for part in ("-c", setting)]
    limited = ["/bin/sh", "-c", _LIMITED, "git", *limits, "git", *settings_of_git, *command]
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            limited,
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=complaints,
            cwd=place,
            env=_environment(address),
            pass_fds=(lock.fileno(),) if lock else (),
            start_new_session=True,
        )
        code = _wait(process, address, settings)
        told.seek(0)
        complaints.seek(0)
        if code == _NOT_FOUND:
            raise TaxonomyError("git is not installed", fix="install git")
        if code and _is_full(place, settings):
            what = f"the repository is larger than {settings.max_mb} MB"
            fix = "raise documents.max_mb in tilth.yaml, or copy the documents in"
            raise TaxonomyError(what, where=address.url, fix=fix)
        if code:
            raise _refusal(complaints.read(_MOST_TOLD).decode(errors="replace"), address)
        return told.read().decode(errors="replace")


def _wait(process: subprocess.Popen[bytes], address: Address, settings: Documents) -> int:
    """The exit code. Whatever else ends the waiting, git and what it started end with it."""
    try:
        return process.wait(settings.timeout_s)
    except subprocess.TimeoutExpired as error:
        what = f"the server was not done after {settings.timeout_s:g} seconds"
        raise TaxonomyError(what, where=address.url, fix="raise documents.timeout_s in tilth.yaml") from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_full(repository: Path, settings: Documents) -> bool:
    """Whether git was stopped at the limit of a file's size; it does not say so itself."""
    return any(pack.stat().st_size >= settings.max_mb * 10**6 for pack in repository.glob("objects/pack/tmp_*"))


def _pin(address: Address) -> list[str]:
    """The host's checked IP addresses, for curl; a proxy that the user has set looks the host up itself."""
    if address.transport != "https" or not address.pinned or address.host.startswith("["):
        return []
    numbers = ",".join(f"[{number}]" if ":" in number else number for number in address.pinned)
    return [f"http.curloptResolve={address.host}:{address.port or 443}:{numbers}"]


def _environment(address: Address | None) -> Mapping[str, str]:
    kept = {name: value for name, value in for_children().items() if not name.startswith("GIT_") or name in _KEPT}
    ssh = _SSH
    if address and address.pinned:
        alias = f"[{address.host}]:{address.port}" if address.port else address.host
        ssh = f"{_SSH} {_SSH_PINNED.format(number=address.pinned[0], alias=alias)}"
    protocols = _PROTOCOLS[address.transport] if address else ""
    return {**kept, **_ENVIRONMENT, "GIT_SSH_COMMAND": ssh, "GIT_ALLOW_PROTOCOL": protocols}


# `insteadOf` may turn https into ssh and back; a server never can.
_PROTOCOLS = {"https": "https:ssh", "ssh": "https:ssh", "file": "file"}

_NOT_OFFERED = re.compile(r"unadvertised object|want \w+ not valid|shallow capabilities|does not support shallow")


def _refusal(complaints: str, address: Address) -> TaxonomyError:
    """Git's own reason in one line, without keys and without what could steer a terminal."""
    if "not our ref" in complaints:
        fix = "mend document.commit; `git rev-parse` tells a commit's whole hash"
        return TaxonomyError("the repository has no such commit", where=address.url, fix=fix)
    if re.search(r"error: 30\d|from redirection", complaints):
        return TaxonomyError(
            "the server says that the repository has moved", where=address.url, fix="write its new address"
        )
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(fatal|error|ssh): |.*(Permission denied|Host key )", line)]
    reason = "".join(letter for letter in (told or lines or ["failed without a word"])[0] if letter.isprintable())
    reason = re.sub(r"://[^/@\s]*@", "://", reason)[:300]  # `insteadOf` may have put a key into the address
    kind = NotOffered if _NOT_OFFERED.search(complaints) else TaxonomyError
    return kind(f"git: {reason}", where=address.url)
