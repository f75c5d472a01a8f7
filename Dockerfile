# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE workers.py ./
COPY normalizer ./normalizer
COPY benchmarks ./benchmarks
RUN pip install --constraint constraints.txt .

FROM python:3.13-slim
# procps: the deployed health check calls `ps`. ca-certificates: the model's SDK uses the system's certificates.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates procps tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 worker
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY workers.py ./
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER worker
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["normalizer", "health"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "workers.py"]
