# One image for every service of ours (target `app`), and nginx with the viewer inside (target `nginx`).
# The base images are arguments, so that the end-to-end tests can build the same from Debian's packages.
ARG PYTHON_IMAGE=python:3.13.9-slim-trixie
ARG NGINX_IMAGE=nginx:1.30.4
ARG NGINX_EXPORTER_IMAGE=nginx/nginx-prometheus-exporter:1.5.1

# --- the pinned requirements ------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS venv
COPY requirements.txt /tmp/
RUN python3 -m venv /venv \
 && /venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.txt

# --- the services and the `clinicpacs` command ------------------------------------------------------
FROM ${PYTHON_IMAGE} AS app
COPY --from=venv /venv /venv
WORKDIR /app
COPY --chmod=755 scripts/container/ /usr/local/bin/
COPY pacs pacs
COPY importer importer
COPY gateway gateway
COPY admin admin
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m compileall -q pacs importer gateway admin
USER 10001:10001

# --- the viewer, from the pinned npm package --------------------------------------------------------
FROM venv AS ohif
WORKDIR /build
COPY requirements-node.txt ./
COPY demo/__init__.py demo/ohif_install.py demo/
RUN /venv/bin/python -m demo.ohif_install && mv .cache/ohif-* /ohif \
 # Compressed once, not for each browser.
 && find /ohif -type f \( -name '*.js' -o -name '*.css' -o -name '*.wasm' -o -name '*.svg' \) -size +1k -exec gzip -k {} +

# --- the page that alerts link to -------------------------------------------------------------------
FROM venv AS help
COPY scripts/help_page.py docs/TROUBLESHOOTING.md /tmp/
RUN /venv/bin/python /tmp/help_page.py /tmp/TROUBLESHOOTING.md /troubleshooting.html

FROM ${NGINX_IMAGE} AS nginx
# A new volume takes the mode over, for whatever number nginx runs under.
RUN install -d -m 1777 /var/cache/nginx /var/cache/frames
COPY --from=ohif /ohif /usr/share/nginx/ohif
COPY --from=help /troubleshooting.html /usr/share/nginx/help/
USER 101:101

# --- nginx's metrics: the official image holds nothing that a health check could be run with --------
FROM ${NGINX_EXPORTER_IMAGE} AS exporter
FROM ${NGINX_IMAGE} AS nginx-exporter
COPY --from=exporter /usr/bin/nginx-prometheus-exporter /usr/bin/
USER 101:101
ENTRYPOINT ["/usr/bin/nginx-prometheus-exporter"]
