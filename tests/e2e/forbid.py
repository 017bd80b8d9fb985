"""forbid.py CALL kill|ERRNO PROGRAM ARGUMENT...: runs a program that a sandbox keeps from one system call."""
import ctypes
import os
import platform
import struct
import sys

NUMBERS = {"sendfile": {"x86_64": 40, "aarch64": 71}}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7fff0000


class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def forbid(call, how):
    number = NUMBERS[call][platform.machine()]
    action = KILL if how == "kill" else ERRNO | int(how)
    code = b"".join(struct.pack("HBBI", *i) for i in (
        (LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, action), (RETURN, 0, 0, ALLOW)))
    text = ctypes.create_string_buffer(code, len(code))
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code) // 8, ctypes.addressof(text))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "prctl")


def wrapper(folder, binary, call, how):
    """A program that is binary without call."""
    path = folder / ("without-" + call)
    path.write_text('#!/bin/sh\nexec "%s" "%s" %s %s "%s" "$@"\n' % (
        sys.executable, os.path.abspath(__file__), call, how, binary))
    path.chmod(0o755)
    return str(path)


if __name__ == "__main__":
    forbid(sys.argv[1], sys.argv[2])
    os.execv(sys.argv[3], sys.argv[3:])
