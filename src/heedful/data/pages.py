"""What the pages of a Parquet file say of their own sizes, read without decoding them.

A reader takes as much memory as a page's header names before it finds out whether there is so much, whatever the file's
footer says. Headers are `PageHeader` structs of parquet.thrift in Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, NamedTuple

FIRST_READ, LONGEST = 1 << 10, 1 << 20  # bytes of a header, which may hold a page's statistics
DEEPEST = 8  # structs and lists within each other; the format has three
BOTH, STRUCT, LIST, SET, MAP = (1, 2), 12, 9, 10, 11  # types of fields
FIXED = {3: 1, 7: 8}  # a byte, a double: bytes
VARINTS = (4, 5, 6)  # whole numbers of 16, 32 and 64 bits
BINARY = 8


class Page(NamedTuple):
    """Of one page: bytes once unpacked, values, and whether these are a dictionary's."""

    size: int
    values: int
    is_dictionary: bool


def pages(file: IO[bytes], start: int, length: int) -> Iterator[Page]:
    """The pages of a column chunk, which has so many bytes from `start` on. ValueError where they are none."""
    at, end = start, start + length
    while at < end:
        header, size = _header(file, at, end)
        kinds = [header[field] for field in (5, 7, 8) if isinstance(header.get(field), dict)]
        unpacked, packed = header.get(2), header.get(3)
        if (
            not isinstance(unpacked, int)
            or not isinstance(packed, int)
            or min(unpacked, packed) < 0
        ):
            raise ValueError("a page without a size")
        values = max((n for kind in kinds if isinstance(n := kind.get(1), int)), default=0)
        yield Page(unpacked, values, 7 in header)
        at += size + packed


def _header(file: IO[bytes], at: int, end: int) -> tuple[dict[int, Any], int]:
    """The header at a place, by the numbers of its fields, and its bytes."""
    room = FIRST_READ
    while True:
        file.seek(at)
        data = file.read(min(room, end - at))
        reader = _Compact(data)
        try:
            return reader.struct(), reader.at
        except IndexError:
            if room > LONGEST or len(data) < room:
                raise ValueError("a page whose header has no end") from None
            room *= 16


class _Compact:
    """Thrift's compact protocol, as much as is needed to walk over a struct; IndexError at the end of the data."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Whole numbers and structs by field; of others None."""
        fields: dict[int, Any] = {}
        number = 0
        while first := self._byte():
            number = number + (first >> 4) if first >> 4 else self._whole()
            kind = first & 15
            fields[number] = None if kind in BOTH else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError("a header nested too deeply")
        if kind in VARINTS:
            return self._whole()
        if kind == STRUCT:
            return self.struct(depth)
        if kind in FIXED or kind in BOTH:  # a truth in a list takes a byte
            self._skip(FIXED.get(kind, 1))
        elif kind == BINARY:
            self._skip(self._varint())
        elif kind in (LIST, SET):
            first = self._byte()
            number = first >> 4 if first >> 4 < 15 else self._varint()
            for _ in range(number):
                self._value(first & 15, depth + 1)
        elif kind == MAP:
            if number := self._varint():
                kinds = self._byte()
                for _ in range(number):
                    self._value(kinds >> 4, depth + 1)
                    self._value(kinds & 15, depth + 1)
        else:
            raise ValueError(f"a field of the unknown type {kind}")
        return None

    def _byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def _skip(self, number: int) -> None:
        self.at += number
        if self.at > len(self.data):
            raise IndexError

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _whole(self) -> int:
        """Of either sign, as zigzag."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
