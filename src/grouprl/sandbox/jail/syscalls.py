"""System calls that a block is refused, by what they would give it; numbers for x86-64 and ARM64.

From the kernel's ``asm/unistd_64.h`` and ``asm-generic/unistd.h``; a test compares them with a machine's headers.
"""

from __future__ import annotations

LAST_KNOWN = 450
"""The newest call that this table was made with (Linux 5.17). Newer ones do not exist in the sandbox."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Names of machines and the constants of ``linux/audit.h`` by which seccomp knows them, in the order of the numbers."""

NEW_NAMESPACES = 0x7E020000
"""The flags of ``clone`` for new namespaces: mount, cgroup, UTS, IPC, user, PID, network."""

Numbers = tuple[int | None, int | None]

REFUSED: dict[str, dict[str, Numbers]] = {
    "the network, and buffers of any size": {"socket": (41, 198), "setsockopt": (54, 208)},
    "other processes": {
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "kcmp": (312, 272),
        "migrate_pages": (256, 238),
        "move_pages": (279, 239),
        "pidfd_getfd": (438, 438),
        "process_madvise": (440, 440),
        "process_mrelease": (448, 448),
    },
    "other namespaces": {"unshare": (272, 97), "setns": (308, 268)},
    "another file system": {
        "pivot_root": (155, 41),
        "chroot": (161, 51),
        "mount": (165, 40),
        "umount2": (166, 39),
        "open_tree": (428, 428),
        "move_mount": (429, 429),
        "fsopen": (430, 430),
        "fsconfig": (431, 431),
        "fsmount": (432, 432),
        "fspick": (433, 433),
        "mount_setattr": (442, 442),
        "name_to_handle_at": (303, 264),
        "open_by_handle_at": (304, 265),
        "quotactl": (179, 60),
        "quotactl_fd": (443, 443),
    },
    "attributes of files that no program here needs": {
        "setxattr": (188, 5),
        "lsetxattr": (189, 6),
        "fsetxattr": (190, 7),
        "removexattr": (197, 14),
        "lremovexattr": (198, 15),
        "fremovexattr": (199, 16),
    },
    "memory that limits of a process do not count": {
        "shmget": (29, 194),
        "shmat": (30, 196),
        "shmctl": (31, 195),
        "shmdt": (67, 197),
        "semget": (64, 190),
        "semop": (65, 193),
        "semctl": (66, 191),
        "semtimedop": (220, 192),
        "msgget": (68, 186),
        "msgsnd": (69, 189),
        "msgrcv": (70, 188),
        "msgctl": (71, 187),
        "mq_open": (240, 180),
        "mq_unlink": (241, 181),
        "mq_timedsend": (242, 182),
        "mq_timedreceive": (243, 183),
        "mq_notify": (244, 184),
        "mq_getsetattr": (245, 185),
        "memfd_create": (319, 279),
        "memfd_secret": (447, 447),
        "splice": (275, 76),
        "tee": (276, 77),
        "vmsplice": (278, 75),
        "sendfile": (40, 71),
        "io_setup": (206, 0),
        "inotify_init": (253, None),
        "inotify_init1": (294, 26),
        "fanotify_init": (300, 262),
        "landlock_create_ruleset": (444, 444),
        "landlock_add_rule": (445, 445),
        "landlock_restrict_self": (446, 446),
    },
    "wide doors into the kernel": {
        "io_uring_setup": (425, 425),
        "io_uring_enter": (426, 426),
        "io_uring_register": (427, 427),
        "add_key": (248, 217),
        "request_key": (249, 218),
        "keyctl": (250, 219),
        "bpf": (321, 280),
        "perf_event_open": (298, 241),
        "userfaultfd": (323, 282),
        "seccomp": (317, 277),
        "personality": (135, 92),
        "modify_ldt": (154, None),
    },
    "the machine's administration": {
        "syslog": (103, 116),
        "acct": (163, 89),
        "kexec_load": (246, 104),
        "kexec_file_load": (320, 294),
        "init_module": (175, 105),
        "finit_module": (313, 273),
        "delete_module": (176, 106),
        "reboot": (169, 142),
        "swapon": (167, 224),
        "swapoff": (168, 225),
        "sethostname": (170, 161),
        "setdomainname": (171, 162),
        "settimeofday": (164, 170),
        "clock_settime": (227, 112),
        "clock_adjtime": (305, 266),
        "adjtimex": (159, 171),
        "iopl": (172, None),
        "ioperm": (173, None),
        "vhangup": (153, 58),
        "sync": (162, 81),
        "syncfs": (306, 267),
    },
}

UNKNOWN: dict[str, Numbers] = {"clone3": (435, 435)}
"""Calls that answer as on a kernel without them, so that the C library takes the older one, whose flags can be seen."""

HAS, IS, IS_NOT = "has a bit of", "is", "is not"

REFUSED_ARGUMENTS: dict[str, tuple[Numbers, int, str, tuple[int, ...]]] = {
    "clone": ((56, 220), 0, HAS, (NEW_NAMESPACES,)),
    "socketpair": ((53, 199), 0, IS_NOT, (1,)),  # AF_UNIX, which asyncio needs
    "fcntl": ((72, 25), 1, IS, (1024, 1026, 1031)),  # F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ
    "prctl": ((157, 167), 0, IS, (4, 22, 41)),  # PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_THP_DISABLE
}
"""Calls that are refused for what stands in one of their arguments: the argument's place, a test and its values."""


def numbers(machine: str) -> dict[str, int]:
    """The numbers of all calls of this file by name, on a machine; none where it is not known here."""
    if machine not in ARCHITECTURES:
        return {}
    place = list(ARCHITECTURES).index(machine)
    pairs = {name: pair for table in [*REFUSED.values(), UNKNOWN] for name, pair in table.items()}
    pairs |= {name: pair for name, (pair, *_) in REFUSED_ARGUMENTS.items()}
    return {name: number for name, pair in pairs.items() if (number := pair[place]) is not None}
