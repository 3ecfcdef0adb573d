"""libnftables: rules of the calling thread's network namespace, as text in nft(8)'s language.

The library rather than the program: a change takes a tenth of a millisecond
instead of the start of a process. It is a part of Debian's package ``nftables``
(libnftables(3)).
"""

from __future__ import annotations

import ctypes
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


def check() -> None:
    """Load the library; HostUnsupported when it is not installed."""
    _library()


def run(script: str) -> str:
    """Do what ``script`` says, all of it or nothing, and return what it prints.

    RootlessError with nft's own first line about what is wrong.
    """
    library = _library()
    # A context has its netlink socket in the namespace it was made in, so each call has its own.
    context = library.nft_ctx_new(0)
    if not context:
        raise RootlessError("libnftables has no memory for a context")
    try:
        library.nft_ctx_buffer_error(context)
        library.nft_ctx_buffer_output(context)
        if library.nft_run_cmd_from_buffer(context, script.encode()) != 0:
            said = library.nft_ctx_get_error_buffer(context).decode(errors="replace")
            raise RootlessError(f"nftables refused a change: {said.strip().partition(chr(10))[0]}")
        return str(library.nft_ctx_get_output_buffer(context).decode(errors="replace"))
    finally:
        library.nft_ctx_free(context)
