"""The training format of video models: frame rate, frame counts, sizes; each line of the table with its source."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

Size = tuple[int, int]  # width, height, pixels


class Sound(NamedTuple):
    """The form in which a model hears: samples a second, and 1 or 2 channels."""

    rate: int
    channels: int


@dataclass(frozen=True)
class Target:
    """What a clip has to be for a model: `fps` frames a second (None: as it is), `step` * n + `remainder` frames (step 0: any number)
    from `min_frames` up to `max_frames`, or one of `counts`; sides that are multiples of `multiple` pixels; one of `buckets`, by the nearest
    aspect ratio, or at most `max_pixels` a frame in its own. `extra_frames`: frames more in the file than are trained on, for a trainer
    that rounds durations down. `model`: its name in MODELS, "" for none. `sound`: what its audio encoder takes, None where it has none or
    nobody has said: it stays as it is then.
    """

    fps: Fraction | None = None
    step: int = 0
    max_frames: int | None = None
    counts: tuple[int, ...] = ()
    multiple: int = 2
    buckets: tuple[Size, ...] = ()
    max_pixels: int | None = None
    remainder: int = 1
    min_frames: int = 2
    extra_frames: int = 0
    model: str = ""
    sound: Sound | None = None

    def frames_of(self, there: int) -> int:
        """The largest allowed number of frames out of `there`; 0 where none is. One frame is an image, and not allowed."""
        if self.counts:
            return max((count for count in self.counts if count <= there), default=0)
        there = min(there, self.max_frames or there)
        fits = (there - self.remainder) // self.step * self.step + self.remainder if self.step else there
        return fits if fits >= self.min_frames else 0

    def allows(self, frames: int) -> bool:
        return self.frames_of(frames) == frames

    @property
    def least_frames(self) -> int:
        """The smallest allowed number of frames."""
        if self.counts:
            return min(self.counts)
        return next(count for count in range(self.min_frames, 10_000) if self.allows(count))

    @property
    def rule(self) -> str:
        """The allowed numbers of frames, in words."""
        if self.counts:
            return " or ".join(map(str, self.counts)) + " frames"
        if not self.step:
            return "any number of frames" + (f" up to {self.max_frames}" if self.max_frames else "")
        offset = f"+{self.remainder}" if self.remainder else ""
        first = self.least_frames
        least = f" from {first}" if first > self.step + self.remainder else ""
        most = f" up to {self.max_frames}" if self.max_frames else ""
        return f"{self.step}n{offset} frames{least}{most}"

    def lengths(self) -> tuple[int, ...]:
        """The lengths that an export makes where none are chosen: the model's longest, and the longest within four fifths of it, 3 s (the
        shortest clip of stage 1, so that its clips have three lengths) and 1.5 s. More would spread the clips over buckets that fill no batch.
        """
        if not (self.step and self.max_frames and self.fps):
            return self.counts
        within = (self.max_frames, self.max_frames * 4 // 5, int(3 * self.fps), int(self.fps * 3 / 2))
        return tuple(sorted({count for there in within if (count := self.frames_of(there))}))


def both_ways(*sizes: Size) -> tuple[Size, ...]:
    """The sizes, and each also upright."""
    return tuple(dict.fromkeys(turned for size in sizes for turned in (size, size[::-1])))


# Squares are ours where a source names wide sizes alone: of like area, so that no clip loses much. Three sizes a model, because each
# size times each length is a bucket of its own in most trainers, and a bucket that fills no batch is dropped.
WAN_480 = both_ways((832, 480), (624, 624))
WAN_720 = both_ways((1280, 720), (960, 960))
HUNYUAN_540 = both_ways((960, 544), (720, 720))
LTX = both_ways((960, 544), (704, 704))

MODELS: dict[str, Target] = {
    # github.com/Wan-Video/Wan2.1, wan/configs: sample_fps 16, 81 frames, SIZE_CONFIGS
    "wan2.1": Target(Fraction(16), 4, 81, (), 16, WAN_480),
    "wan2.1-720p": Target(Fraction(16), 4, 81, (), 16, WAN_720),
    # github.com/Wan-Video/Wan2.2, wan/configs: A14B as Wan 2.1; ti2v-5B 24 fps, 121 frames, 1280x704, VAE of stride 16 with patches of 2
    "wan2.2": Target(Fraction(16), 4, 81, (), 16, WAN_480),
    "wan2.2-5b": Target(Fraction(24), 4, 121, (), 32, both_ways((1280, 704), (960, 960))),
    # github.com/Tencent/HunyuanVideo, README: 129 frames, 540p and 720p sizes; 24 fps
    "hunyuan": Target(Fraction(24), 4, 129, (), 16, HUNYUAN_540),
    "hunyuan-720p": Target(Fraction(24), 4, 129, (), 16, both_ways((1280, 720), (960, 960))),
    # github.com/Tencent-Hunyuan/HunyuanVideo-1.5: 24 fps, 121 frames, 480p
    "hunyuan1.5": Target(Fraction(24), 4, 121, (), 16, both_ways((848, 480), (640, 640))),
    # github.com/lllyasviel/FramePack: 30 fps, areas of 640 x 640; windows of 9 latents, which are 36 frames, and at least one (kohya-ss/musubi-tuner,
    # docs/dataset_config.md: 37, 73, 109 …)
    "framepack": Target(Fraction(30), 36, 145, (), 16, both_ways((832, 480), (640, 640)), min_frames=37),
    # github.com/Lightricks/LTX-2, packages/ltx-trainer/docs/dataset-preparation.md: 8n+1, x32, 2.3 and 2.5 alike; 24 fps. Audio of 2 and 2.3: bghira/SimpleTuner,
    # helpers/models/ltxvideo2/audio_autoencoder.py (sample_rate, in_channels); 2.5 has another encoder
    **dict.fromkeys(("ltx2", "ltx2.3"), Target(Fraction(24), 8, 121, (), 32, LTX, sound=Sound(16_000, 2))),
    "ltx2.5": Target(Fraction(24), 8, 121, (), 32, LTX),
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
    "easyanimate": Target(Fraction(8), 4, 49, (), 16, both_ways((1344, 768), (768, 768))),
    # github.com/Wan-Video/Wan2.2, wan/configs/wan_animate_14B.py: sample_fps 30, otherwise as Wan 2.1
    "wan2.2-animate": Target(Fraction(30), 4, 81, (), 16, WAN_480),
    # github.com/modelscope/DiffSynth-Studio, examples/wanvideo/model_training/lora/Wan2.2-S2V-14B.sh: 832x448, 81 frames; 16 fps (wan/configs/wan_s2v_14B.py);
    # audio: diffsynth/core/data/operators.py, LoadAudio (librosa's mono)
    "wan2.2-s2v": Target(Fraction(16), 4, 81, (), 16, both_ways((832, 448), (640, 640)), sound=Sound(16_000, 1)),
    # github.com/meituan-longcat/LongCat-Video, README: 480p, 15 fps, 93 frames
    "longcat-video": Target(Fraction(15), 4, 93, (), 16, both_ways((832, 480), (640, 640))),
    # github.com/tdrussell/diffusion-pipe, models/cosmos_predict2.py: 16 fps, 4n+1 (the VAE of Wan 2.1); 93 frames, 832x480
    "cosmos-predict2": Target(Fraction(16), 4, 93, (), 16, both_ways((832, 480), (640, 640))),
    # github.com/kandinskylab/kandinsky-5: 24 fps, 5 s, 768x512
    "kandinsky5": Target(Fraction(24), 4, 121, (), 16, both_ways((768, 512), (512, 512))),
    # github.com/kohya-ss/musubi-tuner, docs/minimax_h3.md: 24 fps, 17n+5 frames, x32, audio; 124 frames in the examples of three trainers
    "minimax-h3": Target(
        Fraction(24),
        17,
        124,
        (),
        32,
        both_ways((832, 480), (640, 640)),
        remainder=5,
        min_frames=22,
        sound=Sound(32_000, 2),
    ),
}


def nearest_bucket(size: tuple[float, float], buckets: Sequence[Size]) -> Size:
    """The bucket that loses least of a frame of this size when it is cut to its aspect ratio; of equal ones, that which is nearest in area."""
    aspect, area = size[0] / size[1], size[0] * size[1]

    def lost(bucket: Size) -> tuple[float, float]:
        ratio = bucket[0] / bucket[1] / aspect
        scale = bucket[0] * bucket[1] / area
        return round(1 - min(ratio, 1 / ratio), 3), max(scale, 1 / scale)

    return min(buckets, key=lost)
