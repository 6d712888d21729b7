ARG BASE_IMAGE=python:3.13.18-slim-trixie

FROM ${BASE_IMAGE} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /build \
 && /build/bin/pip install --require-hashes --only-binary :all: --requirement requirements/build.txt
# Of botocore's descriptions of 400 services only those are kept that are ever asked: SQS, and where credentials come from.
RUN python -m venv --without-pip /app \
 && /build/bin/pip --python /app/bin/python install --no-compile --require-hashes --only-binary :all: \
      --requirement requirements/runtime.txt \
 && cd /app/lib/python3*/site-packages \
 && find botocore/data -mindepth 1 -maxdepth 1 -type d \
      ! -name sqs ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} + \
 && rm -r boto3/data boto3/examples tornado/test \
 && find . -name '*.py[ix]' -delete -o -name '*.pxd' -delete -o -name '*.[ch]' -delete
# Bytecode of all that is ever imported, the standard library too, which the base image comes without: the file system is
# read-only, so it would be compiled at each start, which takes longer than all else. It is never checked against its
# source, because neither changes.
RUN /app/bin/python -m compileall -q --invalidation-mode unchecked-hash /app/lib \
 && python -c "import sysconfig; print(sysconfig.get_path('stdlib'))" >/stdlib \
 && python -m compileall -q --invalidation-mode unchecked-hash \
      -x '/(site-packages|dist-packages|idlelib|tkinter|turtledemo|ensurepip|pydoc_data|lib2to3|test)/' "$(cat /stdlib)" \
 && mkdir /bytecode \
 && tar --create --directory / --exclude '*-packages' "$(cat /stdlib | cut -c 2-)" --file - \
      | tar --extract --directory /bytecode --wildcards '*.pyc'

FROM dependencies AS project
COPY pyproject.toml README.md LICENSE ./
COPY exporter/ exporter/
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && site=$(cd /app/lib/python3*/site-packages && pwd) \
 && /build/bin/pip --python /app/bin/python install --no-compile --no-index --no-deps \
      --target "/project${site#/app}" /wheels/*.whl \
 && mv /project/lib/python3*/site-packages/bin /project/bin \
 && /app/bin/python -m compileall -q --invalidation-mode unchecked-hash /project/lib \
 && install -d -o 10001 -g 10001 -m 0750 /data

FROM ${BASE_IMAGE}
COPY --from=dependencies /bytecode /
COPY --from=dependencies /app /app
COPY --from=project /project /app
COPY --from=project --chown=10001:10001 /data /data

ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EXPORTER_LOG__FORMAT=json \
    EXPORTER_WEB__LISTEN_ADDRESS=:9797
USER 10001:10001
# Where the default of --ledger.path, ledger.db, is kept. No variable names it, so that --ledger.url may be given instead.
WORKDIR /data
VOLUME /data
EXPOSE 9797
# Asks the loop itself. A bare socket, because importing urllib would cost eight times the CPU. With TLS or another port
# in use, set a health check of your own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-ISc", \
  "import socket; s = socket.create_connection(('127.0.0.1', 9797), 4); s.sendall(b'GET /-/healthy HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(32))"]
ENTRYPOINT ["sqs-event-exporter"]
CMD ["run"]

ARG VERSION=0.1.0
ARG REVISION=unknown
ENV SQS_EVENT_EXPORTER_REVISION=${REVISION}
LABEL org.opencontainers.image.title="sqs-event-exporter" \
      org.opencontainers.image.description="Counts the events in Amazon SQS queues, each exactly once, and shows the counts to Prometheus, Grafana and stdout." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/sqs-event-exporter/sqs-event-exporter" \
      org.opencontainers.image.documentation="https://github.com/sqs-event-exporter/sqs-event-exporter#readme" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
