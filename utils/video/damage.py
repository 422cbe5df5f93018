"""Damage that a decoder conceals: it raises no error and fills in what it could not decode.

A decoder tells of it by a flag on the frame (`AVFrame.flags` and `decode_error_flags`, PyAV's `is_corrupt`), or only in
its log. Frames that are predicted from such a frame carry no flag and are as wrong, so damage lasts until a frame that
needs none before it.
"""

import av
from av.video.frame import PictureType

from utils.errors import VideoError

# Decoders that conceal damage without a flag, and how their lines about it begin, at error level.
LOGGED = {
    "hevc": ("CABAC_MAX_BIN", "The cu_qp_delta", "Could not find ref", "Two slices", "First slice"),
    "mjpeg": ("error ", "overread"),
}
MOST_REPORTED = 0.5  # share of its frames that a decoder may report before none of a video is used


class Damage:
    """Takes note of a video's frames, in the order shown; `spans` says which are damaged."""

    def __init__(self) -> None:
        self.flagged = bytearray()  # 1 for each frame that the decoder reports
        self.key = bytearray()
        self.between = bytearray()  # B frames
        self.logged: set[int | None] = set()  # PTS

    def add(self, frame: av.VideoFrame) -> None:
        self.flagged.append(frame.is_corrupt or (bool(self.logged) and frame.pts in self.logged))
        self.key.append(frame.key_frame)
        self.between.append(frame.pict_type == PictureType.B)

    def decode(self, packet: av.Packet, decoder: str) -> list[av.VideoFrame]:
        """`packet.decode()` of a decoder in LOGGED."""
        with av.logging.Capture() as log:
            frames = packet.decode()
        if any(part == decoder and line.startswith(LOGGED[decoder]) for _, part, line in log):
            self.logged.add(packet.dts if packet.pts is None else packet.pts)
        return frames

    def spans(self, path: str) -> list[tuple[int, int]]:
        """Damaged frames as index spans [first, stop), rising and apart.

        From a reported frame on until the next keyframe, where it is a B frame only until the next frame that is none;
        and the B frames shown right before it, which may be predicted from it.

        Raises: `VideoError` where no frame is left, or the decoder reports more than MOST_REPORTED of all. What only may be
        predicted from them does not count: where parameters change midway, two reported frames before a long group of
        pictures cost that group, not what is before it.
        """
        count, found = len(self.flagged), []
        first = self.flagged.find(1)
        while first >= 0:
            stop = first + 1
            until_key = not self.between[first]
            while stop < count and (self.flagged[stop] or (not self.key[stop] if until_key else self.between[stop])):
                until_key = until_key or (bool(self.flagged[stop]) and not self.between[stop])
                stop += 1
            while first and self.between[first - 1]:
                first -= 1
            found.append((first, stop))
            first = self.flagged.find(1, stop)
        damaged = sum(stop - first for first, stop in found)
        if damaged == count > 0 or sum(self.flagged) > MOST_REPORTED * count:
            raise VideoError(f"{path!r} is damaged: {damaged:,} of its {count:,} frames cannot be decoded correctly")
        return found
