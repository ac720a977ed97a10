"""A disk that is read-only, or that fills up at a certain write: a mount that one command sees and no other process.

What `Spawner.run` takes as `before`: it runs in the command's own process, in a mount namespace of its own.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_MOUNTS = """
import ctypes, fnmatch, os, shutil, sys
libc = ctypes.CDLL(None, use_errno=True)
BIND, READ_ONLY, REMOUNT, PRIVATE = 0x1000, 1, 32, 0x44000

def called(failed):
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def mount(source, target, kind="none", flags=0, options=""):
    called(libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()))

user, group = os.geteuid(), os.getegid()
called(libc.unshare(0x20000 | (0x10000000 if user else 0)))
if user:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
mount("none", "/", flags=PRIVATE)
"""

_READ_ONLY = """
mount(ROOT, ROOT, flags=BIND)
mount("none", ROOT, flags=BIND | REMOUNT | READ_ONLY)
os.chdir(ROOT)
"""

_FILL = """
def fill(folder):
    with open(folder + "/ballast", "wb", buffering=0) as ballast:
        for size in (1 << 20, 4096, 1):
            try:
                while ballast.write(bytes(size)):
                    pass
            except OSError:
                pass
"""

_FILLING = """
DISK = STATE + "-disk"
os.makedirs(STATE, exist_ok=True)
os.makedirs(DISK, exist_ok=True)
mount("none", DISK, "tmpfs", options="size=64m")
shutil.copytree(STATE, DISK, dirs_exist_ok=True)
mount(DISK, STATE, flags=BIND)
command = os.fork()
if command:  # what the command leaves on the small disk becomes the state
    code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    called(libc.umount2(STATE.encode(), 0))
    shutil.rmtree(STATE)
    shutil.copytree(DISK, STATE, ignore=shutil.ignore_patterns("ballast"))
    os._exit(code)

waiting = [PLACE]

def watch(event, told):
    if event in ("open", "os.mkdir", "sqlite3.connect") and waiting and fnmatch.fnmatch(str(told[0]), waiting[0]):
        waiting.clear()
        fill(DISK)

sys.addaudithook(watch)
"""


def read_only(root: Path) -> str:
    """The folder `root` is on a read-only disk."""
    return _MOUNTS + f"ROOT = {str(root)!r}\n" + _READ_ONLY


def filling(state: Path, place: str) -> str:
    """The folder `state` is on a small disk that is full once a path like the pattern `place` is opened.

    What the command leaves is in `state` afterwards, with room again.
    """
    return _MOUNTS + _FILL + f"STATE, PLACE = {str(state)!r}, {place!r}\n" + _FILLING


def full(folder: Path) -> str:
    """The folder is a disk without any room."""
    return _MOUNTS + _FILL + f"mount('none', {str(folder)!r}, 'tmpfs', options='size=64k'); fill({str(folder)!r})\n"


def can_mount() -> bool:
    """Whether this machine lets us; a container may not."""
    return not subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode
