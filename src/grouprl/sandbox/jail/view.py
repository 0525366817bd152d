"""A file system of the block's own (``mount_namespaces.7``): the interpreter, read-only, and an empty folder in memory.

Nothing else of the machine is there to be read, written, or have its attributes changed, and what a block leaves in its
folder goes with its last process.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterable

from grouprl.sandbox.jail import kernel
from grouprl.sandbox.jail.limits import FOLDER_BYTES, FOLDER_FILES

FOLDER = "/sandbox"
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/usr/share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
BASE = "/proc"
"""Where the new root is put together: a folder that is surely there, and of no more use then."""
READ_ONLY = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID


def places() -> list[str]:
    """What a block may read: the interpreter, its libraries and packages."""
    found = {sys.executable, os.path.dirname(os.__file__), *site.getsitepackages()}
    found |= {os.path.join(sys.base_prefix, "lib"), os.path.join(sys.prefix, "pyvenv.cfg")}
    return sorted(filter(os.path.exists, found.union(LIBRARIES)))


def enter(shown: list[str], user: int, group: int) -> None:
    """Show some places and the folder, which is that user's, and nothing else."""
    kernel.succeed(kernel.libc.unshare(kernel.CLONE_NEWNS))
    kernel.mount(None, "/", kernel.MS_REC | kernel.MS_PRIVATE)
    links: dict[str, str] = {}
    for path in shown:
        links |= links_on_the_way(path)
    packages = {path: kernel.open_tree(path) for path in outermost(os.path.realpath(path) for path in shown)}
    devices = {path: kernel.open_tree(path) for path in DEVICES}
    kernel.mount(b"tmpfs", BASE, kernel.MS_NOSUID, f"mode=755,size=1m,nr_inodes={FOLDER_FILES}")
    try:
        for path, tree in packages.items():
            attach(tree, path, READ_ONLY | kernel.MOUNT_ATTR_NODEV)
        for path, tree in devices.items():
            attach(tree, path, READ_ONLY)
        for path, target in links.items():
            link(path, target)
        make_folder(f"mode=700,uid={user},gid={group},size={FOLDER_BYTES},nr_inodes={FOLDER_FILES}")
        enter_base()
    except OSError:
        kernel.system_call("umount2", os.fsencode(BASE), kernel.MNT_DETACH)
        raise


def links_on_the_way(path: str) -> dict[str, str]:
    """The symbolic links that lead to where a path really is, each with what it says."""
    found, here, rest = {}, "/", path.split("/")
    while rest:
        name, *rest = rest
        if name == "..":
            here = os.path.dirname(here)
        elif os.path.islink(step := os.path.join(here, name)):
            found[step] = os.readlink(step)
            here = "/" if found[step].startswith("/") else here
            rest = [*found[step].split("/"), *rest]
        elif name not in ("", "."):
            here = step
    return found


def outermost(paths: Iterable[str]) -> list[str]:
    """Paths without those that lie in another of them."""
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if not kept or not path.startswith(f"{kept[-1]}/"):
            kept.append(path)
    return kept


def attach(tree: int, path: str, attributes: int) -> None:
    """Show a copied tree at its path below the new root, with those attributes, and close it."""
    kernel.set_mount(tree, attributes)
    if os.path.isdir(tree):
        os.makedirs(BASE + path)
    else:
        os.makedirs(os.path.dirname(BASE + path), exist_ok=True)
        os.close(os.open(BASE + path, os.O_CREAT | os.O_WRONLY))
    kernel.move_mount(tree, BASE + path)
    os.close(tree)


def link(path: str, target: str) -> None:
    """Make a symbolic link below the new root, unless what was attached there holds it."""
    if not os.path.lexists(BASE + path):
        os.makedirs(os.path.dirname(BASE + path), exist_ok=True)
        os.symlink(target, BASE + path)


def make_folder(options: str) -> None:
    """Make the folder, and the rest of the new root read-only."""
    os.mkdir(BASE + FOLDER)
    kernel.mount(b"tmpfs", BASE + FOLDER, kernel.MS_NOSUID | kernel.MS_NODEV, options)
    root = os.open(BASE, os.O_PATH)
    kernel.set_mount(root, READ_ONLY, below=False)
    os.close(root)


def enter_base() -> None:
    """Take the new root for the root of the file system, and let go of the old one."""
    os.chdir(BASE)
    kernel.system_call("pivot_root", b".", b".")
    kernel.system_call("umount2", b".", kernel.MNT_DETACH)
    os.chdir("/")
