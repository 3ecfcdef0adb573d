"""What an archive may cost, and how its ids become ids on disk."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one archive; whatever exceeds one is refused by the entry's name.

    ``max_ratio`` bounds decompressed bytes per compressed byte, and counts only
    after ``ratio_floor`` bytes: a small archive of zeros is no bomb.
    """

    max_bytes: int = 64 * GIB
    """Bytes of file content in the archive, all entries together."""
    max_file: int = 1 << 40
    """Apparent size of one (sparse) file."""
    max_stream: int = 72 * GIB
    """Bytes of the uncompressed archive, headers and padding included."""
    max_entries: int = 4_000_000
    max_path: int = 4095
    """PATH_MAX without the terminating NUL."""
    max_component: int = 255
    """NAME_MAX."""
    max_header: int = 1 << 20
    """Bytes of one PAX or GNU long-name record block."""
    max_sparse: int = 65_536
    """Data segments of one sparse file."""
    max_xattrs: int = 256
    """Extended attributes of one entry."""
    max_ratio: int = 300
    """Programs and texts reach 3 to 20; gzip's format ends at 1032, zstd's far above."""
    ratio_floor: int = GIB

    @classmethod
    def of_layer(cls, max_bytes: int, max_ratio: int) -> Limits:
        """The bounds for layers and images an administrator sets (daemon.json)."""
        return cls(
            max_bytes=max_bytes, max_stream=max_bytes + max_bytes // 8 + GIB, max_ratio=max_ratio
        )


@dataclass(frozen=True, slots=True)
class IdShift:
    """Image id *i* is stored as engine id *i* + ``offset``.

    Layers use 1: image root becomes engine id 1, a subordinate id, and engine
    id 0, which is the user, owns nothing that came out of an archive.
    """

    offset: int = 1
    inside: bool = False
    """Ids are those of the container's own namespace, in which 0 is not the user."""

    def to_engine(self, image_id: int) -> int:
        """The id on disk, as seen in the engine's user namespace."""
        return image_id + self.offset

    def to_image(self, engine_id: int) -> int:
        """The id in an archive; what lies below the image's ids becomes image root."""
        return max(0, engine_id - self.offset)


LAYER_SHIFT = IdShift(1)
NO_SHIFT = IdShift(0)
DEFAULT_LIMITS = Limits()
