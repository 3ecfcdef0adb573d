"""libnftables: rules of the calling thread's network namespace, as text in nft(8)'s language.

The library rather than the program: a change takes a tenth of a millisecond
instead of the start of a process. It is a part of Debian's package ``nftables``
(libnftables(3)).
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

from rootless.errors import HostUnsupported, RootlessError

LIBRARY = "libnftables.so.1"


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise HostUnsupported(
            f"bridge networks need {LIBRARY}, which is not installed",
            hint="sudo apt-get install nftables",
        ) from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_output.argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
        function = getattr(library, name)
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_char_p
    return library


def is_installed() -> bool:
    """True when the library is where Debian and others put it; it is not loaded."""
    own = f"/usr/lib/{os.uname().machine}-linux-gnu"
    return any(os.path.exists(f"{at}/{LIBRARY}") for at in (own, "/usr/lib64", "/usr/lib", "/lib"))


def check() -> None:
    """Load the library; HostUnsupported when it is not installed."""
    _library()


class Rules:
    """The rules of the network namespace that the calling thread is in when it is made.

    Kept open where rules are often deleted: the kernel lets who closes such a socket wait
    until deleted rules are nobody's any more, 10 milliseconds and more (``nft_rcv_nl_event``).
    """

    def __init__(self) -> None:
        self._library = library = _library()
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise RootlessError("libnftables has no memory for a context")
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_buffer_output(self._context)

    def run(self, script: str) -> str:
        """Do what ``script`` says, all of it or nothing, and return what it prints.

        RootlessError with nft's own first line about what is wrong.
        """
        library, context = self._library, self._context
        failed = library.nft_run_cmd_from_buffer(context, script.encode()) != 0
        printed: bytes = library.nft_ctx_get_output_buffer(context)
        said: bytes = library.nft_ctx_get_error_buffer(context)
        if failed:
            first = said.decode(errors="replace").strip().partition(chr(10))[0]
            raise RootlessError(f"nftables refused a change: {first}")
        return printed.decode(errors="replace")

    def close(self) -> None:
        """Close it."""
        self._library.nft_ctx_free(self._context)


def run(script: str) -> str:
    """Do what ``script`` says where the calling thread is; see :class:`Rules`."""
    rules = Rules()
    try:
        return rules.run(script)
    finally:
        rules.close()
