# The shipped image: a model, its server, their packages, and no build tools. A run pins both images by digest.
ARG BUILDER=python:3.13-trixie
ARG BASE_IMAGE=python:3.13-slim-trixie
# How the model is served: compiled, sklearn or pandas. It chooses requirements/image-RUNTIME.txt.
ARG MODEL_RUNTIME=compiled
# Where the model is: embedded in the image, or remote; then the image has only its contract.
ARG MODEL=embedded

FROM ${BUILDER} AS builder
# The environment is copied as a whole, so pip stays outside of it.
RUN python -m venv --without-pip /opt/venv && python -m venv /opt/pip
# pip checks every file against its hash, and makes no bytecode: that has the time in it, so each build would differ.
ENV PATH=/opt/venv/bin:/opt/pip/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PIP_PYTHON=/opt/venv/bin/python \
    PIP_REQUIRE_HASHES=1 PIP_ONLY_BINARY=:all: PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build

FROM builder AS environment
ARG MODEL_RUNTIME MODEL
# Only the locks: a change of the code leaves the packages' layers as they are. The brackets make a file optional.
COPY requirements/image-${MODEL_RUNTIME}.txt requirements/image-${MODEL}.tx[t] ./
# The secret `pip` is a pip.conf that names another index; `ca` has certificates to trust. Both are optional.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca if test -s /run/secrets/ca; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && cat ./*.txt >packages.lock && pip install -r packages.lock

FROM environment AS packages
# Tests, stubs and debug symbols are a fifth of the bytes. botocore describes 400 services; only S3 and logins are used.
# *.dist-info stays, since scanners find packages by it. SciPy is a layer of its own: one of all would exceed 200 MB.
RUN find /opt/venv -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} + \
    && find /opt/venv -type f \( -name '*.py[ix]' -o -name '*.pxd' -o -name '*.[ch]' \) -delete \
    && find /opt/venv -path '*/botocore/data/*' -prune -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} + \
    && find /opt/venv -regextype posix-extended -name '*.so' ! -regex '.*/(numpy|pandas|scipy|sklearn)/.*' \
        -exec strip --strip-unneeded {} + \
    && mkdir -p /layers/scipy /layers/rest \
    && find /opt/venv/lib -maxdepth 3 -name 'scipy*' -exec cp -a --parents -t /layers/scipy {} \; -exec rm -r {} \; \
    && cp -a --parents -t /layers/rest /opt/venv

FROM builder AS forest-library
COPY export/__init__.py export/compile_forest.py export/forest.c export/
RUN python -m export.compile_forest /libforest.so

# Trains, converts, and creates contracts. It always has pandas: a training may need more than its model does.
FROM environment AS exporter
COPY requirements/image-pandas.txt requirements/exporter.txt ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca if test -s /run/secrets/ca; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && pip install -r packages.lock -r image-pandas.txt -r exporter.txt
# Not the whole server: a change of its other files does not train again.
COPY service/__init__.py service/contract.py service/model.py service/
COPY service/runtimes/ service/runtimes/
COPY --from=forest-library /libforest.so service/runtimes/
COPY export/ export/

FROM exporter AS train
COPY training/ training/
ARG TRAIN="python -m training.iris --out /trained"
# Bytecode is written here alone: it spares the next program two seconds, and no file of this stage is in the image.
RUN PYTHONDONTWRITEBYTECODE='' sh -euc "$TRAIN" \
    && { test -f /trained/model.json || { echo "TRAIN wrote no /trained/model.json" >&2; exit 1; }; }
# The model of the chosen runtime: proved equivalent to the trained one, or there is none.
RUN python -m export "$MODEL_RUNTIME" /trained /artifacts

# The same for a model that was trained elsewhere.
FROM exporter AS convert
COPY artifacts/ /trained/
RUN python -m export "$MODEL_RUNTIME" /trained /artifacts

# The contract of a model that has none, from rows with their right answers.
FROM exporter AS contract
COPY input/ /input/
# The file of rows, and one option a line, such as --target=price: no name can be taken for a shell's word.
RUN python -m export.contract /input/model.pkl @/input/arguments.txt --out /artifacts >/summary.txt

FROM ${BASE_IMAGE} AS base
# A numeric user, since only a number proves that it is not root. pip goes, so that nothing can be installed.
# The epoch is for /etc/shadow: it has the day of the password's last change, and each day's build would differ.
RUN export SOURCE_DATE_EPOCH=315532800 \
    && groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home --shell /usr/sbin/nologin app \
    && rm -rf /usr/local/lib/python3.*/site-packages/pip /usr/local/lib/python3.*/site-packages/pip-*.dist-info \
        /usr/local/lib/python3.*/ensurepip /usr/local/bin/pip* /var/log/*.log /etc/*- /var/cache/ldconfig/aux-cache
# The environment's Python comes first; a read-only root cannot hold .pyc files; logs are not buffered.
# One thread computes: a row is too little work for several, and on a busy machine they wait for each other.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
WORKDIR /app
# The largest and least changing layers first. All files belong to root: the server cannot change itself.
COPY --from=packages /layers/scipy/ /
COPY --from=packages /layers/rest/ /

FROM base AS model-embedded
COPY --chmod=0444 artifacts/model.* /app/artifacts/

# The contract has the model's hash, so the image's digest still names the model.
FROM base AS model-remote
COPY --chmod=0444 artifacts/model.json /app/artifacts/

# The Python that runs the bytecode makes it. DL3006 asks for a tag, but this names a stage.
# hadolint ignore=DL3006
FROM model-${MODEL} AS code
COPY service/ /app/service/
COPY --from=forest-library /libforest.so /app/service/runtimes/
RUN --mount=type=bind,source=export,target=/app/export --mount=type=bind,source=artifacts,target=/app/artifacts \
    chmod -R a=rX service && PYTHONHASHSEED=0 python -m export.precompile /bytecode

# The packages' bytecode first: a change of the code is then a layer of a few kilobytes. DL3006 as above.
# hadolint ignore=DL3006
FROM model-${MODEL}
COPY --from=code /bytecode/ /
COPY --from=code /app/service/ /app/service/
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "__import__('urllib.request').request.urlopen('http://127.0.0.1:8000/readyz',timeout=2)"]
# The entry point never changes; a user may change the command: `docker run IMAGE service.predict`.
ENTRYPOINT ["python", "-m"]
CMD ["service"]
# Last, since every commit changes it; configuration makes no layer. The pipeline sets all other labels.
ARG REVISION=unknown UNKNOWN_CATEGORIES=accept
ENV DRYDOCK_REVISION=$REVISION DRYDOCK_UNKNOWN_CATEGORIES=$UNKNOWN_CATEGORIES
LABEL org.opencontainers.image.description="A model, its server, and its contract"
