"""What video models train on: rate, numbers of frames, sizes; each line of the table with its source."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Size = tuple[int, int]  # width, height, pixels


@dataclass(frozen=True)
class Target:
    """What a clip has to be for a model: `fps` frames a second (None: as it is), `step` * n + 1 frames (0: any number) up
    to `max_frames`, or one of `counts`; sides that are multiples of `multiple` pixels; one of `buckets`, by the nearest
    aspect ratio, or at most `max_pixels` a frame in its own.
    """

    fps: Fraction | None = None
    step: int = 0
    max_frames: int | None = None
    counts: tuple[int, ...] = ()
    multiple: int = 2
    buckets: tuple[Size, ...] = ()
    max_pixels: int | None = None

    def frames_of(self, there: int) -> int:
        """The largest allowed number of frames out of `there`; 0 where none is. One frame is an image, and not allowed."""
        if self.counts:
            return max((count for count in self.counts if count <= there), default=0)
        there = min(there, self.max_frames or there)
        fits = (there - 1) // self.step * self.step + 1 if self.step else there
        return fits if fits > 1 else 0

    def allows(self, frames: int) -> bool:
        return self.frames_of(frames) == frames

    @property
    def least_frames(self) -> int:
        return min(self.counts, default=self.step + 1 if self.step else 2)

    @property
    def rule(self) -> str:
        """The allowed numbers of frames, in words."""
        if self.counts:
            return " or ".join(map(str, self.counts)) + " frames"
        most = f" up to {self.max_frames}" if self.max_frames else ""
        return f"{self.step}n+1 frames{most}" if self.step else f"any number of frames{most}"


def both_ways(*sizes: Size) -> tuple[Size, ...]:
    """The sizes, and each also upright."""
    return tuple(dict.fromkeys(turned for size in sizes for turned in (size, size[::-1])))


WAN_480 = both_ways((832, 480), (704, 544), (624, 624))
WAN_720 = both_ways((1280, 720), (1088, 832), (960, 960))
HUNYUAN_540 = both_ways((960, 544), (832, 624), (720, 720))
LTX = both_ways((960, 544), (768, 512), (704, 704))

# Squares, and a few of 4:3, are ours where a source names wide sizes alone: of like area, so that no clip loses much.
MODELS: dict[str, Target] = {
    # github.com/Wan-Video/Wan2.1, wan/configs: sample_fps 16, 81 frames, SIZE_CONFIGS
    "wan2.1": Target(Fraction(16), 4, 81, (), 16, WAN_480),
    "wan2.1-720p": Target(Fraction(16), 4, 81, (), 16, WAN_720),
    # github.com/Wan-Video/Wan2.2, wan/configs: A14B as Wan 2.1; ti2v-5B 24 fps, 121 frames, 1280x704, VAE of stride 16 with patches of 2
    "wan2.2": Target(Fraction(16), 4, 81, (), 16, WAN_480),
    "wan2.2-5b": Target(Fraction(24), 4, 121, (), 32, both_ways((1280, 704), (960, 960))),
    # github.com/Tencent/HunyuanVideo, README: 129 frames, 540p and 720p sizes; 24 fps
    "hunyuan": Target(Fraction(24), 4, 129, (), 16, HUNYUAN_540),
    "hunyuan-720p": Target(Fraction(24), 4, 129, (), 16, both_ways((1280, 720), (1104, 832), (960, 960))),
    # github.com/Tencent-Hunyuan/HunyuanVideo-1.5: 24 fps, 121 frames, 480p
    "hunyuan1.5": Target(Fraction(24), 4, 121, (), 16, both_ways((848, 480), (640, 640))),
    # github.com/lllyasviel/FramePack: 30 fps, areas of 640 x 640
    "framepack": Target(Fraction(30), 4, 145, (), 16, both_ways((832, 480), (704, 576), (640, 640))),
    # github.com/Lightricks/LTX-2, packages/ltx-trainer/docs/dataset-preparation.md: 8n+1, x32; 24 fps
    "ltx2": Target(Fraction(24), 8, 121, (), 32, LTX),
    # github.com/Lightricks/LTX-Video, README: 8n+1 up to 257, x32; 25 fps in its trainer and in diffusers
    "ltx-video": Target(Fraction(25), 8, 121, (), 32, LTX),
    # github.com/zai-org/CogVideo, README: 8 fps, 49 frames, 720x480; 1.5: 16 fps, 81 frames, 1360x768
    "cogvideox": Target(Fraction(8), 8, 49, (), 16, ((720, 480),)),
    "cogvideox1.5": Target(Fraction(16), 8, 81, (), 16, both_ways((1360, 768))),
    # github.com/hpcaitech/Open-Sora, opensora/datasets: at most 16 fps, 4n+1 up to 129
    "opensora2": Target(Fraction(16), 4, 129, (), 16, both_ways((1024, 576), (768, 768))),
    # github.com/SkyworkAI/SkyReels-V2, README: 24 fps, 97 frames at 960x544
    "skyreels-v2": Target(Fraction(24), 4, 97, (), 16, both_ways((960, 544))),
    # github.com/genmoai/mochi, README: 30 fps, 6n+1 frames, 848x480
    "mochi": Target(Fraction(30), 6, 163, (), 16, ((848, 480),)),
    # github.com/aigc-apps/EasyAnimate, README: 49 frames at 8 fps, 512 and 768 pixels
    "easyanimate": Target(Fraction(8), 4, 49, (), 16, both_ways((1344, 768), (1008, 576), (768, 768))),
}


def nearest_bucket(size: tuple[float, float], buckets: Sequence[Size]) -> Size:
    """The bucket that loses least of a frame of this size when it is cut to its aspect ratio; of equal ones, that which is nearest in area."""
    aspect, area = size[0] / size[1], size[0] * size[1]

    def lost(bucket: Size) -> tuple[float, float]:
        ratio = bucket[0] / bucket[1] / aspect
        scale = bucket[0] * bucket[1] / area
        return round(1 - min(ratio, 1 / ratio), 3), max(scale, 1 / scale)

    return min(buckets, key=lost)
