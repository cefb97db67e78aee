# The worker, and every other `ebbtide` command. The embedded broker and Redis are not in it.
FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /opt/ebbtide && /opt/ebbtide/bin/pip install --no-cache-dir "setuptools>=77" "setuptools-rust>=1.10"
COPY requirements.lock .
RUN /opt/ebbtide/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN /opt/ebbtide/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
COPY --from=build /opt/ebbtide /opt/ebbtide
RUN useradd --system --create-home --home-dir /var/lib/ebbtide ebbtide
USER ebbtide
WORKDIR /var/lib/ebbtide
# The health endpoints must be reachable through the container's own address, not only from inside it.
ENV PATH=/opt/ebbtide/bin:$PATH PYTHONUNBUFFERED=1 \
    EBBTIDE_WEB_BIND=0.0.0.0 EBBTIDE_WEB_PORT=6066 EBBTIDE_FAUST_DATA_DIR=/var/lib/ebbtide
EXPOSE 6066
# The worker finishes its micro-batch on SIGTERM.
STOPSIGNAL SIGTERM
ENTRYPOINT ["ebbtide"]
CMD ["run"]
