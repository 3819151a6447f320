# The program in a container, for x86-64 and arm64. README.md has the command.
#   --build-arg BASE=IMAGE   any Debian or Ubuntu with Python 3.10 or newer in its packages. For a
#                            Jetson for example nvcr.io/nvidia/l4t-jetpack:r36.4.0, which nobody has
#                            tried, with --build-arg JETSON=yes for TensorRT and CUDA from that image
# Every library is of the version and has the hash in constraints-*.txt. What is in the image is listed
# in /opt/emotion-edge/sbom.cdx.json (CycloneDX); NOTICE has the licences to know about.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
ARG JETSON=
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install \
    ca-certificates python3 python3-venv python3-dev gcc libc6-dev portaudio19-dev
WORKDIR /opt/emotion-edge/sources
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_REQUIRE_VIRTUALENV=1
COPY constraints-build.txt constraints-device.txt constraints-jetson.txt constraints-image.txt ./
RUN python3 -m venv ${JETSON:+--system-site-packages} ../venv && \
    ../venv/bin/pip install -q --require-hashes --no-deps -r constraints-build.txt && \
    ../venv/bin/pip install -q --require-hashes --no-deps --no-build-isolation -r constraints-device.txt && \
    if [ "$JETSON" ]; then PATH=/usr/local/cuda/bin:$PATH ../venv/bin/pip install -q \
        --require-hashes --no-deps --no-build-isolation -r constraints-jetson.txt; fi
COPY pyproject.toml setup.py README.md LICENSE NOTICE __init__.py ./
COPY kernels kernels
COPY engines engines
COPY calibration calibration
COPY training training
COPY runtime runtime
COPY scripts/make_sbom scripts/
RUN ../venv/bin/pip install -q --no-deps --no-build-isolation . && \
    ../venv/bin/pip uninstall -q -y setuptools pip && \
    python3 -m venv /tmp/lister && \
    /tmp/lister/bin/pip install -q --require-hashes --no-deps -r constraints-image.txt && \
    /tmp/lister/bin/python scripts/make_sbom ../venv/bin/python ../sbom.cdx.json && \
    cp LICENSE NOTICE .. && rm -r ../sources

FROM ${BASE}
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install \
    python3 libportaudio2 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/*
COPY --from=build /opt/emotion-edge /opt/emotion-edge
COPY scripts/check_health /usr/local/bin/
# Kernels are compiled here once, for every processor of the architecture. They are read by any user.
ENV NUMBA_CACHE_DIR=/opt/emotion-edge/numba NUMBA_CPU_NAME=generic PATH=/opt/emotion-edge/venv/bin:$PATH
RUN useradd --system --create-home --uid 990 --groups video,audio emotion-edge && \
    install -d -o emotion-edge "$NUMBA_CACHE_DIR"
USER emotion-edge
WORKDIR /home/emotion-edge
RUN emotion-edge run --source demo --pace max --seconds 1 --output null
# Healthy while the counter of estimates grows.
HEALTHCHECK --start-period=60s --interval=30s --timeout=15s CMD ["check_health"]
ENTRYPOINT ["emotion-edge"]
CMD ["run", "--set", "metrics.port=9110", "--output", "jsonl:-"]
