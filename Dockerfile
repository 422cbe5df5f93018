# Reelset with what it needs, in two images (docs/docker.md):
#   docker build -t reelset .                      for NVIDIA GPUs: vLLM, EasyOCR, CLIP, accelerate
#   docker build -t reelset:cpu --target cpu .     for the default preset, without PyTorch
#   docker run --rm -v /path/to/videos:/videos:ro -v reelset-datasets:/reelset/datasets reelset:cpu bash quickstart.sh /videos
FROM debian:trixie-slim AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# tini passes signals to every process of a stage, so that `docker stop` ends it with what is done saved.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /reelset
# Mirrors, where they are passed: --build-arg UV_DEFAULT_INDEX=URL --build-arg PIP_INDEX_URL=URL
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 UV_SYSTEM_CERTS=1 PATH=/reelset/.venv/bin:$PATH
# hadolint ignore=DL3013,DL3042
RUN python3 -m venv .venv && .venv/bin/pip install --no-cache-dir uv
# Caches and datasets are volumes. Any user may write them, because `--user` takes any.
ENV HOME=/cache XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface TORCH_HOME=/cache/torch USER=reelset LOGNAME=reelset PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 1000 --no-create-home --home-dir /cache reelset \
    && install -d -m 1777 /cache datasets
ENTRYPOINT ["tini", "-g", "--", "sh", "/reelset/docker/start.sh"]
CMD ["bash", "quickstart.sh"]

FROM base AS cpu
# PRESET=cpu needs --build-arg LOCK=requirements.lock; with UV_TORCH_BACKEND=cpu PyTorch comes without CUDA, 3.4 GB smaller, from its own index.
ARG LOCK=requirements-embedded.lock
ARG UV_TORCH_BACKEND
COPY requirements*.txt requirements*.lock ./
# The copy of the lock says to quickstart.sh that .venv is set up.
RUN uv pip install --no-deps -r "$LOCK" && uv pip install s3fs -c requirements.lock && cp "$LOCK" .venv/
COPY . .
VOLUME ["/cache", "/reelset/datasets"]
USER 1000

FROM base AS gpu
# CUDA's runtime comes with PyTorch's packages; the driver and nvidia-smi come from the host. Triton compiles launchers of its kernels with gcc.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
# FlashInfer's sampler is compiled when it is first used, by a compiler of CUDA that is not here; vLLM has its own.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video VLLM_USE_FLASHINFER_SAMPLER=0
COPY requirements*.txt requirements*.lock ./
RUN uv pip install -r requirements-vllm.lock && cp requirements.lock .venv/
COPY . .
VOLUME ["/cache", "/reelset/datasets"]
USER 1000
