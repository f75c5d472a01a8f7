# One image for worker, command line and API. Nothing in it is downloaded at run time.
# Tag and digest: the tag says what it is, the digest what is pulled. `make pin` renews the digests, here and in
# docker-compose.yml, at a release.
ARG PYTHON_IMAGE=python:3.13.16-slim-bookworm@sha256:a1165e272e578941b84abc79e4ab38a0305cd12803a5c4247979ac7655f4d641

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY requirements.lock ./
RUN pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE workers.py ./
COPY normalizer ./normalizer
RUN pip install --no-deps --no-build-isolation . && pip check

FROM ${PYTHON_IMAGE}
# procps: the deployed health check calls `ps`. ca-certificates: the model's SDK uses the system's certificates.
# tini: PID 1 that hands on SIGTERM and reaps. Versions are those of the base image's Debian release.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates procps tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 worker
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY workers.py ./
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
ARG SOURCE_COMMIT=unknown
LABEL org.opencontainers.image.title="normalizer" \
      org.opencontainers.image.revision="${SOURCE_COMMIT}"
USER 10001
STOPSIGNAL SIGTERM
# Asks Redis whether this container's own worker beats and its event loop answers.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["normalizer", "health"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "workers.py"]
