"""Attacks on the sandbox: blocks that try to get out, to stay, to take more than their share, or to change a machine.

A block prints `BREACH` where it got through. What stands in braces is filled in by `grouprl.sandbox.trial`:
files of the caller, its process id, its sockets, and numbers of system calls.
"""

from __future__ import annotations

from grouprl.sandbox.jail.syscalls import REFUSED

BREACH = "BREACH"
C = "import ctypes, errno, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
GOT = "print('BREACH' if max(got) >= 0 else errno.errorcode[ctypes.get_errno()])"
"""After calls whose results are in ``got``."""
DETACHED = (
    "import ctypes, os, time\n"
    "if os.fork() == 0:\n"
    "    ctypes.CDLL(None).prctl(1, 0)\n"  # PR_SET_PDEATHSIG: no signal when the parent dies
    "    os.setsid()\n"
    "    if os.fork():\n        os._exit(0)\n"
    "    ctypes.CDLL(None).prctl(1, 0)\n"
)
"""The start of a grandchild in a session of its own; what follows, indented, is what it does."""
ALL_REFUSED = (
    "for attempt in attempts:\n    try: attempt()\n    except OSError as error: print(errno.errorcode[error.errno])\n"
    "    else: print('BREACH')\n"
)
FILES = (
    "import errno, os, site\nfiles = [{secret}, {folder}, os.__file__, *site.getsitepackages(), '/', '/dev/null', 0]\n"
)
"""Of the caller, of the interpreter, and of the machine."""

LEAVING = {
    "leave without a word": "import os; os._exit(3)",
    "a crash in C": "import ctypes; ctypes.string_at(0)",
    "deep recursion": "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "bytes that are no text": "import sys; sys.stdout.buffer.write(bytes(range(256)))",
    "endless output": "while True: print('x' * 10_000)",
    "endless loop": "while True: pass",
    "endless sleep": "import time; time.sleep(1000)",
    "ignored signals": "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(1000)",
    "closed output": "import os, time; os.close(1); os.close(2); time.sleep(1000)",
}
STAYING = {
    "a child that outlives it": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n"
        "    os._exit(0)\nprint('left')"
    ),
    "a child without a death signal": f"{DETACHED}    time.sleep(1000)\nprint('left')",
    "a child that goes on writing": (
        f"{DETACHED}    for n in range(10**9): open(str(n % 99), 'w').write('x')\ntime.sleep(0.1); print('left')"
    ),
    "a child left by a block that is late": f"{DETACHED}    time.sleep(1000)\nwhile True: pass",
    "a child left by endless output": f"{DETACHED}    time.sleep(1000)\nwhile True: print('x' * 10_000)",
    "a child left by a crash": f"{DETACHED}    time.sleep(1000)\nctypes.string_at(0)",
    "a child that takes in orphans": (
        f"{DETACHED}    ctypes.CDLL(None).prctl(36, 1)\n    os.fork()\n    time.sleep(1000)\nprint('left')"
    ),
    "a child under another name": (
        f"{DETACHED}    ctypes.CDLL(None).prctl(15, b'init')\n    time.sleep(1000)\nprint('left')"
    ),
    "killing its parent": (
        "import contextlib, os, time\nfor target in (os.getppid(), 1, -1):\n    for signal in (9, 19, 2, 15, 1, 17):\n"
        "        with contextlib.suppress(OSError): os.kill(target, signal)\ntime.sleep(0.1); print('still there')"
    ),
    "stopping its process group": "import os; os.killpg(0, 19)",
    "an image of its memory": (  # RLIMIT_CORE, PR_GET_DUMPABLE, PR_SET_DUMPABLE
        "import ctypes, os, resource\nprctl = ctypes.CDLL(None).prctl\n"
        "print('BREACH' if resource.getrlimit(4)[1] > 1 or prctl(3) != 0 or prctl(4, 1) == 0 else 'none')"
    ),
    "removing its own folder": "import os, shutil; shutil.rmtree(os.getcwd(), ignore_errors=True); print('gone')",
    "1,500 nested folders": ("import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\nprint('made')"),
    "20,000 nested folders": "import os\nfor _ in range(20_000): os.mkdir('d'); os.chdir('d')\nprint('BREACH')",
    "a folder that may not be entered": (
        "import os\nos.makedirs('a/b'); open('a/b/c', 'w'); os.chmod('a/b', 0); os.chmod('a', 0); os.chmod('.', 0)\n"
        "print('closed')"
    ),
    "odd names": (
        "import os\nfor name in (b'\\xff\\xfe', b'\\n', b' ', b'-rf', b'*', b'x' * 255): os.mkdir(name)\n"
        "os.mkfifo('fifo'); os.symlink('/', 'root'); os.symlink('loop', 'loop'); print('made')"
    ),
}
READING = {
    "reading /etc/passwd": "open('/etc/passwd').read(); print('BREACH')",
    "reading a file of the caller": "open({secret}).read(); print('BREACH')",
    "listing the caller's folders": "import os; os.listdir({folder}); print('BREACH')",
    "a link to a file of the caller": "import os; os.symlink({secret}, 'l'); open('l').read(); print('BREACH')",
    "a hard link to a file of the caller": "import os; os.link({secret}, 'l'); open('l').read(); print('BREACH')",
    "the root of the file system": "import os; os.listdir('/'); print('BREACH')",
    "above the root": "import os; os.chdir('/' + '../' * 64); open('etc/passwd').read(); print('BREACH')",
    "the caller's environment": "print(open('/proc/{pid}/environ').read()); print('BREACH')",
    "its own environment": "import os; print('BREACH' if 'GROUPRL_SECRET' in os.environ else 'not there')",
    "the caller's descriptors": (
        "import os\nfor n in range(3, 4096):\n    try: os.fstat(n)\n    except OSError: continue\n"
        "    print('BREACH', n)\nprint('none')"
    ),
    "standard input": "import sys; print('BREACH' if sys.stdin.read() else 'empty')",
    "a terminal": "open('/dev/tty').read(); print('BREACH')",
    "the kernel's log": (f"{C}got = [libc.klogctl(3, bytes(9), 9)]\n{GOT}"),
    "the machine's name": "import os; print('BREACH' if os.uname().nodename != 'sandbox' else 'sandbox')",
    "the number of its user": "import os; print('BREACH' if os.getresuid() != (1000,) * 3 else os.getresgid())",
    "a shell": "import os; print('BREACH' if os.system('cat /etc/passwd') == 0 else 'refused')",
    "an interpreter of its own": (
        "import subprocess, sys\ncode = 'open(\"/etc/passwd\").read()'\n"
        "done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)\n"
        "print(done.stderr.splitlines()[-1] if done.returncode else 'BREACH')"
    ),
    "looking into another process": f"{C}print('BREACH' if libc.ptrace(16, {{pid}}, 0, 0) == 0 else 'refused')",
    "the memory of its parent": "open('/proc/1/mem', 'rb').read(1); print('BREACH')",
}
WRITING = {
    "a file in the temporary folder": "open({breach}, 'w').write('x'); print('BREACH')",
    "a file beside the caller's": "open({secret} + '.new', 'w').write('x'); print('BREACH')",
    "a file moved out": "import os; open('a', 'w'); os.rename('a', {breach}); print('BREACH')",
    "a file among the packages": "import os; open(os.path.dirname(os.__file__) + '/x.py', 'w'); print('BREACH')",
    "the length of a file": (
        f"{FILES}attempts = [lambda f=f: os.truncate(f, 0) for f in (files[0], files[2])]\n{ALL_REFUSED}"
    ),
    "the mode of a file": f"{FILES}attempts = [lambda f=f: os.chmod(f, 0) for f in files]\n{ALL_REFUSED}",
    "the times of a file": (
        f"{FILES}attempts = [lambda f=f, t=t: os.utime(f, t) for f in files for t in (None, (1, 1))]\n{ALL_REFUSED}"
    ),
    "the owner of a file": f"{FILES}attempts = [lambda f=f: os.chown(f, 1000, 1000) for f in files]\n{ALL_REFUSED}",
    "the attributes of a file": (
        f"{FILES}attempts = [lambda f=f: os.setxattr(f, 'user.a', b'x') for f in [*files, '.']]\n"
        f"attempts += [lambda f=f: os.removexattr(f, 'user.a') for f in [*files, '.']]\n{ALL_REFUSED}"
    ),
    "the flags of a file": (
        "import errno, fcntl, os\nfile = os.open(os.__file__, os.O_RDONLY)\n"
        "attempts = [lambda: fcntl.ioctl(file, 0x40086602, bytes(8))]\n"  # FS_IOC_SETFLAGS
        f"{ALL_REFUSED}"
    ),
    "calls newer than the filter": (  # fchmodat2, setxattrat, removexattrat, open_tree_attr, file_setattr, and on
        f"{C}names = [os.fsencode({{secret}}), os.fsencode(os.__file__), b'.']\n"
        "for number in range(451, 512):\n    for name in names:\n"
        "        got = libc.syscall(number, -100, name, 0, 0, 0, 0)\n"
        "        if got >= 0 or ctypes.get_errno() != errno.ENOSYS: print('BREACH', number)\nprint('ENOSYS')"
    ),
    "a device": "import os, stat; os.mknod('disk', stat.S_IFBLK | 0o666, os.makedev(8, 0)); print('BREACH')",
}
TAKING = {
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "10 GB of memory": "x = bytearray(10 * 2**30); print('BREACH')",
    "memory of many processes": (
        "import os, time\nchildren = 0\n"
        "for _ in range(64):\n    try:\n        if os.fork() == 0: x = bytearray(64 * 2**20); time.sleep(9)\n"
        "        children += 1\n    except OSError: pass\nprint('BREACH' if children > 16 else children)"
    ),
    "memory in anonymous files": "import os; files = [os.memfd_create(str(n)) for n in range(40)]; print('BREACH')",
    "memory in System V segments": (
        f"{C}got = [libc.shmget(0, ctypes.c_size_t(2**26), 0o1666) for _ in range(40)]\n{GOT}"
    ),
    "System V queues and semaphores": (f"{C}got = [libc.msgget(0, 0o1666), libc.semget(0, 32_000, 0o1666)]\n{GOT}"),
    "a POSIX queue": (f"{C}got = [libc.mq_open(b'/queue', 0o102, 0o600, None)]\n{GOT}"),
    "memory in /dev/shm": "open('/dev/shm/x', 'wb').write(bytes(2**20)); print('BREACH')",
    "memory in pipes": (
        "import errno, fcntl, os\nattempts = [lambda: fcntl.fcntl(os.pipe()[1], 1031, 2**20)]\n"  # F_SETPIPE_SZ
        f"{ALL_REFUSED}"
    ),
    "memory given to pipes": (
        f"{C}reading, writing = os.pipe()\npage = ctypes.create_string_buffer(4096)\n"
        f"got = [libc.vmsplice(writing, (ctypes.c_void_p * 2)(ctypes.addressof(page), 4096), 1, 0)]\n{GOT}"
    ),
    "memory in buffers of sockets": (
        "import errno, socket\nends = socket.socketpair()\n"
        "attempts = [lambda: ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**30)]\n"
        f"{ALL_REFUSED}"
    ),
    "memory in corners of huge pages": (
        f"{C}size, huge = 2**22, ctypes.c_size_t(2**21)\nlibc.mmap.restype = ctypes.c_void_p\n"
        "libc.prctl(41, 0, 0, 0, 0)\n"  # PR_SET_THP_DISABLE
        "start = libc.mmap(None, ctypes.c_size_t(size), 3, 0x22, -1, ctypes.c_long(0))\n"
        "start = ctypes.c_void_p(-(-start // 2**21) * 2**21)\n"
        "for advice in (14, 25): libc.madvise(start, huge, advice)\n"  # MADV_HUGEPAGE, MADV_COLLAPSE
        "ctypes.memset(start, 1, 1)\npages = (ctypes.c_char * 512)()\nlibc.mincore(start, huge, pages)\n"
        "print('BREACH' if sum(page[0] for page in pages) > 1 else 'small pages')"
    ),
    "a file of 1 GB": "f = open('big', 'wb')\nfor _ in range(1024): f.write(b'x' * 2**20)\nf.flush(); print('BREACH')",
    "many files of 16 MB": (
        "for n in range(64):\n    with open(str(n), 'wb') as f: f.write(bytes(2**24 - 1))\nprint('BREACH')"
    ),
    "a million files": "for n in range(10**6): open(str(n), 'w').close()\nprint('BREACH')",
    "too many open files": "files = [open('/dev/null') for _ in range(1000)]; print('BREACH')",
    "raising its limits": (
        "import resource as r\n"
        "for kind in (r.RLIMIT_AS, r.RLIMIT_NPROC, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_MEMLOCK, r.RLIMIT_CPU):\n"
        "    try: r.setrlimit(kind, (r.RLIM_INFINITY,) * 2)\n    except ValueError as error: print(error)\n"
        "    else: print('BREACH')"
    ),
    "many timers": (
        f"{C}timer, made = ctypes.c_void_p(), 0\n"
        "while made < 10_000 and libc.timer_create(0, None, ctypes.byref(timer)) == 0: made += 1\n"
        "print('BREACH' if made == 10_000 else errno.errorcode[ctypes.get_errno()])"
    ),
    "watching files": f"{C}got = [libc.inotify_init1(0)]\n{GOT}",
    "memory that is never swapped": (
        f"{C}page = ctypes.create_string_buffer(2**20)\ngot = [libc.mlock(page, ctypes.c_size_t(2**20))]\n{GOT}"
    ),
    "the processor before all others": (
        "import errno, os\nattempts = [lambda: os.nice(-5), lambda: os.sched_setscheduler(0, 1, os.sched_param(1))]\n"
        f"{ALL_REFUSED}"
    ),
}
TALKING = {
    "a TCP connection": "import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('BREACH')",
    "a UDP datagram": (
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})); "
        "print('BREACH')"
    ),
    "a unix socket": "import socket; socket.socket(socket.AF_UNIX).connect({unix}); print('BREACH')",
    "a pair of sockets of another family": (
        "import errno, socket\nattempts = [lambda f=f: socket.socketpair(f) for f in (2, 10, 16, 17, 30, 38)]\n"
        f"{ALL_REFUSED}"
    ),
}
RISING = {
    "becoming root": "import os; os.setuid(0); print('BREACH')",
    "capabilities": (
        f"{C}sets = (ctypes.c_uint32 * 6)()\nlibc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), sets)\n"
        "print('BREACH' if any(sets) else 'none')"
    ),
    "new namespaces": f"{C}got = [libc.unshare(flag) for flag in (0x10000000, 0x20000, 0x40000000)]\n{GOT}",
    "a child in new namespaces": (  # clone; SIGCHLD is 17
        f"{C}got = [libc.syscall({{number of clone}}, ctypes.c_long(flag | 17), 0, 0, 0, 0)\n"
        "       for flag in (0x10000000, 0x20000, 0x40000000, 0x30000000, 0x7E020000)]\n"
        f"if 0 in got: os._exit(0)\n{GOT}"
    ),
    "a child by the newest call": (  # clone3
        f"{C}request = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)\n"
        "got = [libc.syscall({number of clone3}, request, ctypes.c_long(88))]\n"
        f"if 0 in got: os._exit(0)\n{GOT}"
    ),
    "a mount": (
        f"{C}got = [libc.mount(b'none', b'/sandbox', b'tmpfs', 0, None), libc.umount2(b'/sandbox', 2)]\n"
        f"got += [libc.chroot(b'.'), libc.syscall({{number of pivot_root}}, b'.', b'.')]\n{GOT}"
    ),
    "32-bit calls": (  # getpid by int 0x80
        "import ctypes, mmap, platform\n"
        "code = mmap.mmap(-1, 4096, prot=7)\ncode.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n"
        "if platform.machine() != 'x86_64': print('none on this machine')\n"
        "else: print('BREACH', ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())"
    ),
    "calls of the x32 convention": (
        f"{C}got = [libc.syscall(0x40000000 + number, 0, 0, 0) for number in ({{number of socket}}, 39, 521)]\n{GOT}"
    ),
    "a filter of its own": (
        f"{C}got = [libc.prctl(22, 1, 0, 0, 0), libc.syscall({{number of seccomp}}, 0, 0, 0)]\n{GOT}"
    ),
    "a program that runs as root": (
        "import subprocess\nfor path in ('/usr/bin/su', '/usr/bin/sudo', '/bin/mount'):\n"
        "    try: subprocess.run([path]); print('BREACH')\n    except OSError as error: print(error)"
    ),
}


CALLS = {
    f"every call for {group}": (
        f"{C}for name, number in {{calls for {group}}}.items():\n"
        "    got = libc.syscall(number, *[ctypes.c_long(0)] * 6)\n"
        "    if got >= 0 or ctypes.get_errno() != errno.EPERM: print('BREACH', name)\nprint('EPERM')"
    )
    for group in REFUSED
}
ATTACKS = {**LEAVING, **STAYING, **READING, **WRITING, **TAKING, **TALKING, **RISING, **CALLS}
NOT_STOPPED = (
    "a block may use as many processes as `processes` says, each with its own memory limit",
    "what the kernel keeps for a process beside its memory: the contents of its pipes, tables of its mappings",
    "64 MiB of files in memory, while it runs",
    "reading the interpreter's own packages",
    "hiding in timing: how long a block takes can be seen by others",
)
