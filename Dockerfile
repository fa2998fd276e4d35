# One image per component and variant:
#   docker build --build-arg COMPONENT=chat --build-arg VARIANT=cuda -t trenza/chat:dev-cuda .
# `make images` builds them all. What is installed is decided by images/install.py; docs/images.md says more.

ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG CUDA_BUILD_IMAGE=nvidia/cuda:12.9.1-devel-ubuntu24.04
ARG CUDA_RUN_IMAGE=nvidia/cuda:12.9.1-cudnn-runtime-ubuntu24.04
ARG VARIANT=cpu

# ---- what compiles and installs -------------------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS build-cpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*

FROM ${CUDA_BUILD_IMAGE} AS build-cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM build-${VARIANT} AS build
ARG COMPONENT
ARG VARIANT
ARG CUDA_ARCHITECTURES="75;80;86;89;90;100;120"
ARG EXTRAS=""
ARG TORCH_INDEX=""
RUN test -n "${COMPONENT}" || { echo "error: --build-arg COMPONENT=gateway, scheduler, chat, audio, vision, images or fetch" >&2; exit 1; }
WORKDIR /src
RUN python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir "pip>=25.1" "hatchling>=1.27,<2"

# llama.cpp takes longest and changes least, so it is a layer that a change of ours does not touch.
COPY images/install.py images/install.py
COPY protos/pyproject.toml protos/
COPY runtime/pyproject.toml runtime/
COPY scheduler/pyproject.toml scheduler/
COPY gateway/pyproject.toml gateway/
COPY fetch/pyproject.toml fetch/
COPY services/llama/pyproject.toml services/llama/
COPY services/pictures/pyproject.toml services/pictures/
COPY services/chat/pyproject.toml services/chat/
COPY services/audio/pyproject.toml services/audio/
COPY services/vision/pyproject.toml services/vision/
COPY services/images/pyproject.toml services/images/
RUN /build/bin/python images/install.py "${COMPONENT}" --compile-only --wheels /wheels \
        --variant "${VARIANT}" --cuda-architectures "${CUDA_ARCHITECTURES}"

COPY LICENSE LICENSE
COPY protos protos
COPY runtime runtime
COPY scheduler scheduler
COPY gateway gateway
COPY fetch fetch
COPY services services
COPY models/starter models/starter
RUN /build/bin/python images/install.py "${COMPONENT}" --into /opt/trenza --wheels /wheels \
        --variant "${VARIANT}" --extras "${EXTRAS}" --torch-index "${TORCH_INDEX}"

# ---- what runs ------------------------------------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS run-cpu

FROM ${CUDA_RUN_IMAGE} AS run-cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM run-${VARIANT} AS run
ARG COMPONENT
# llama.cpp's threads; the other libraries bring their own.
RUN case "${COMPONENT}" in chat|vision) \
        apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* ;; \
    esac
RUN groupadd --gid 10001 trenza \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trenza
COPY --from=build /opt/trenza /opt/trenza

# The root filesystem may be read-only; /tmp is where libraries keep what they keep.
ENV HOME=/tmp \
    XDG_CACHE_HOME=/tmp/.cache \
    HF_HOME=/tmp/.cache/huggingface \
    CUDA_CACHE_PATH=/tmp/.cache/cuda \
    PATH=/opt/trenza/bin:/opt/trenza/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRENZA_LOG_FORMAT=json

ARG VERSION=""
ARG REVISION=""
ARG CREATED=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="trenza ${COMPONENT}" \
      org.opencontainers.image.description="The ${COMPONENT} component of Trenza" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"

USER 10001:10001
WORKDIR /opt/trenza
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 CMD ["/opt/trenza/bin/healthy"]
ENTRYPOINT ["/opt/trenza/bin/component"]
