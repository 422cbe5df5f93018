"""The little of H.264's syntax that copying needs: NAL units, parameter sets, and the header of an mp4 track (avcC)."""

from collections.abc import Iterator

IDR, SPS, PPS = 5, 7, 8  # NAL unit types, H.264 table 7-1


def nal_length_size(extradata: bytes | None) -> int:
    """Bytes of the length before each NAL unit (ISO/IEC 14496-15, 5.3.3.1), or 0 for start codes (Annex B)."""
    return (extradata[4] & 3) + 1 if extradata and len(extradata) > 4 and extradata[0] == 1 else 0


def nal_units(data: bytes, length_size: int) -> Iterator[tuple[int, bytes]]:
    """The NAL units of a packet as (type, bytes)."""
    if length_size:
        at = 0
        while at + length_size < len(data):
            size = int.from_bytes(data[at : at + length_size], "big")
            unit = data[at + length_size : at + length_size + size]
            if unit:
                yield unit[0] & 31, unit
            at += length_size + size
    else:
        for unit in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1"):
            if unit:
                yield unit[0] & 31, unit


def parameter_sets(extradata: bytes) -> list[tuple[int, bytes]]:
    """The (type, NAL unit) of the SPS and PPS in a source's header, in either form."""
    if not nal_length_size(extradata):
        return [(kind, unit) for kind, unit in nal_units(extradata, 0) if kind in (SPS, PPS)]
    sets, at = [], 5
    for mask in (31, 255):
        count, at = extradata[at] & mask, at + 1
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            unit = extradata[at + 2 : at + 2 + size]
            sets.append((unit[0] & 31, unit))
            at += 2 + size
    return sets


def parameter_set_id(kind: int, unit: bytes) -> int:
    """The number of an SPS (H.264 7.3.2.1.1: after profile, constraints and level) or PPS (7.3.2.2: first), an
    Exp-Golomb code.
    """
    bits = "".join(f"{byte:08b}" for byte in unit[4 if kind == SPS else 1 :][:8])
    zeros = len(bits) - len(bits.lstrip("0"))
    return int(bits[zeros : 2 * zeros + 1] or "1", 2) - 1


def track_header(sets: list[tuple[int, bytes]], length_size: int) -> bytes:
    """The header of a track with these SPS and PPS: avcC (ISO/IEC 14496-15, 5.3.3.1), or start codes where
    `length_size` is 0.
    """
    if not length_size:
        return b"".join(b"\0\0\0\1" + unit for _, unit in sets)
    profile_to_level = next(unit for kind, unit in sets if kind == SPS)[1:4]
    header = bytes([1, *profile_to_level, 0xFC | (length_size - 1)])
    for wanted, mark in ((SPS, 0xE0), (PPS, 0)):
        units = [unit for kind, unit in sets if kind == wanted]
        header += bytes([mark | len(units)]) + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)
    return header
