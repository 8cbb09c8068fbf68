# The shipped image: a trained model, its server, and what they need to run; nothing that only building needs.

# All are arguments, so that a run can pin the images by digest and a user can say 3.12.
ARG BUILDER=python:3.13-trixie
ARG RUNTIME=python:3.13-slim-trixie
# What answers: `lean`, a forest as a flat file and 13 kB of C; `sklearn`, the pickle and scikit-learn itself; or `frame`,
# the same with pandas.
ARG MODEL_RUNTIME=lean
# Where the model is: `inside` the image; or `outside`, and then the image has what fetches it, and its contract alone.
ARG MODEL=inside

FROM ${BUILDER} AS builder
# A virtual environment can be copied as a whole; pip is left out of it and works on it from outside.
RUN python -m venv --without-pip /opt/venv && python -m venv /opt/pip
WORKDIR /build

FROM builder AS sklearn-packages
# The lock alone, so that a change of the code leaves the dependencies' layer, and its digest, as they are.
COPY service/requirements-sklearn.txt /build/requirements.txt
# Every file is checked against its hash; no .pyc files, whose times would make each build another image. The secret `pip`
# is a pip.conf that names another index, `ca` the certificates to trust; without them pip does as always.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    if test -s /run/secrets/ca; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --require-hashes --only-binary=:all: --no-compile \
        --disable-pip-version-check -r /build/requirements.txt

FROM builder AS frame-packages
COPY service/requirements-frame.txt /build/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    if test -s /run/secrets/ca; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --require-hashes --only-binary=:all: --no-compile \
        --disable-pip-version-check -r /build/requirements.txt

FROM builder AS lean-packages
COPY service/requirements-lean.txt /build/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    if test -s /run/secrets/ca; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --require-hashes --only-binary=:all: --no-compile \
        --disable-pip-version-check -r /build/requirements.txt

# Only what neither runtime has: without their dependencies, which are all in the lock or in theirs.
FROM builder AS outside-packages
COPY service/requirements-outside.txt /build/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    if test -s /run/secrets/ca; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --require-hashes --only-binary=:all: --no-compile \
        --no-deps --disable-pip-version-check -r /build/requirements.txt

# The lean runtime's evaluator. The compiler stays here.
FROM builder AS evaluator
COPY service/__init__.py service/evaluator.py service/forest.py service/forest.c /build/service/
RUN python -B -m service.evaluator

# What trains, and what unpickles: the same packages that will answer, and to a lean model those that it is made from.
FROM sklearn-packages AS sklearn-trainer
FROM frame-packages AS frame-trainer
FROM sklearn-packages AS lean-trainer

# Training comes before the pruning below, which may drop what only training reads.
# DL3006 asks for a tag. A stage of this file has none, also if an argument chooses it.
# hadolint ignore=DL3006
FROM ${MODEL_RUNTIME}-trainer AS trained
COPY service/ /build/service/
COPY training/ /build/training/
ARG TRAIN="python -m training.iris --out /trained"
RUN export PATH="/opt/venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 && sh -euc "$TRAIN" \
    && { test -f /trained/model.json || { echo "the command wrote no /trained/model.json" >&2; exit 1; }; }

FROM trained AS train-sklearn
RUN mv /trained /artifacts
FROM train-sklearn AS train-frame

# A lean model is proved equal to the one that was trained, or there is none.
FROM trained AS train-lean
COPY --from=evaluator /build/service/libforest.so /build/service/
RUN /opt/venv/bin/python -B -m service.convert /trained /artifacts

# DL3006 as above.
# hadolint ignore=DL3006
FROM train-${MODEL_RUNTIME} AS train

# The same for a model that was trained elsewhere.
FROM sklearn-packages AS convert
COPY service/ /build/service/
COPY --from=evaluator /build/service/libforest.so /build/service/
COPY artifacts/ /trained/
RUN /opt/venv/bin/python -B -m service.convert /trained /artifacts

# The contract of a model that has none, from rows with their right answers; pandas tells whether it needs names.
FROM frame-packages AS describe
COPY service/ /build/service/
COPY given/ /given/
ARG NAME=model TARGET="" WORDS=""
RUN /opt/venv/bin/python -B -m service.describe /given/model.pkl /given/data.csv --out /artifacts \
    --name "$NAME" --target "$TARGET" --words "$WORDS" >/words.txt

FROM ${MODEL_RUNTIME}-trainer AS pickle-pruned
# Tests and type stubs are a fifth of the bytes. *.dist-info stays: it is how a scanner knows a package. DL3003
# asks for WORKDIR, which knows no pattern: only the shell can find the folder of this Python.
# hadolint ignore=DL3003
RUN find /opt/venv -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} + \
    && find /opt/venv -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.h' \) -delete \
    && strip --strip-unneeded /opt/venv/lib/python3.*/site-packages/uvloop/*.so \
        /opt/venv/lib/python3.*/site-packages/httptools/parser/*.so \
# SciPy and pandas in trees of their own: together the packages would be one layer of more than 200 MB.
    && cd /opt/venv/lib/python3.*/site-packages \
    && mkdir -p "/layers/scipy$PWD" && mv scipy scipy.libs scipy-*.dist-info "/layers/scipy$PWD" \
    && mkdir -p "/layers/pandas$PWD" && find . -maxdepth 1 -name 'pandas*' -exec mv {} "/layers/pandas$PWD" \; \
    && mkdir -p /layers/rest/opt && cp -a /opt/venv /layers/rest/opt/

FROM lean-packages AS lean-pruned
# uvloop comes with 14 MB of debugging symbols, more than all else that is in this image of ours.
RUN find /opt/venv -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} + \
    && find /opt/venv -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.h' -o -name '*.c' \) -delete \
    && strip --strip-unneeded /opt/venv/lib/python3.*/site-packages/uvloop/*.so \
        /opt/venv/lib/python3.*/site-packages/httptools/parser/*.so \
    && mkdir -p /layers/packages/opt && cp -a /opt/venv /layers/packages/opt/

FROM outside-packages AS outside-pruned
# botocore describes 400 services of AWS in 25 MB; here are S3, and what gives the credentials for it.
# DL3003 as above.
# hadolint ignore=DL3003
RUN find /opt/venv -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} + \
    && find /opt/venv -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.h' -o -name '*.c' \) -delete \
    && cd /opt/venv/lib/python3.*/site-packages \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} + \
    && find . -name '*.so' -exec strip --strip-unneeded {} + \
    && mkdir -p "/layers/outside$PWD" && mv ./* "/layers/outside$PWD"

FROM ${RUNTIME} AS base
# A numeric user other than root, since only a number can be proved not to be root. pip and its bundled copy go: what
# cannot install cannot be made to install. All in one instruction, and so in one layer. The time (1980) goes into
# /etc/shadow as the day of the password's last change, which would be another one with each day of a build.
RUN export SOURCE_DATE_EPOCH=315532800 \
    && groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home --shell /usr/sbin/nologin app \
    && rm -rf /usr/local/lib/python3.*/site-packages/pip /usr/local/lib/python3.*/site-packages/pip-*.dist-info \
        /usr/local/lib/python3.*/ensurepip /usr/local/bin/pip* \
    && rm -f /var/log/*.log /etc/*- /var/cache/ldconfig/aux-cache
# The environment's Python comes first; a read-only root has no place for .pyc files; logs leave at once.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app

# In both: the largest and least changing first. The model changes less often than the code, and both belong to root:
# the server cannot rewrite itself.
FROM base AS with-sklearn
COPY --from=pickle-pruned /layers/scipy/ /
COPY --from=pickle-pruned /layers/rest/ /

FROM with-sklearn AS with-frame
COPY --from=pickle-pruned /layers/pandas/ /

FROM base AS with-lean
COPY --from=lean-pruned /layers/packages/ /

FROM with-sklearn AS inside-sklearn
COPY --chmod=0444 artifacts/model.pkl artifacts/model.json /app/artifacts/

FROM with-frame AS inside-frame
COPY --chmod=0444 artifacts/model.pkl artifacts/model.json /app/artifacts/

FROM with-lean AS inside-lean
COPY --chmod=0444 artifacts/model.forest artifacts/model.json /app/artifacts/

# The contract names the model's bytes, so that the digest still does.
# DL3006 as above.
# hadolint ignore=DL3006
FROM with-${MODEL_RUNTIME} AS outside
COPY --from=outside-pruned /layers/outside/ /
COPY --chmod=0444 artifacts/model.json /app/artifacts/

FROM outside AS outside-sklearn
FROM outside AS outside-frame
FROM outside AS outside-lean
FROM ${MODEL}-${MODEL_RUNTIME} AS with-model

# With the model, wherever it is in the end: bytecode is made of what loading it loads.
FROM with-model AS code-sklearn
COPY artifacts/model.pkl /app/artifacts/
COPY --chmod=0444 service/pickled.py /app/service/

FROM code-sklearn AS code-frame

FROM with-model AS code-lean
COPY artifacts/model.forest /app/artifacts/
COPY --from=evaluator --chmod=0444 /build/service/libforest.so /app/service/
COPY --chmod=0444 service/forest.py /app/service/

# Bytecode is made in the very image that will run it, since it is that one's Python that reads it.
# DL3006 as above.
# hadolint ignore=DL3006
FROM code-${MODEL_RUNTIME} AS bytecode
COPY --chmod=0444 service/__init__.py service/__main__.py service/app.py service/arriving.py service/contract.py \
    service/documented.py service/fetch.py service/logs.py service/metrics.py service/model.py service/outside.py \
    service/page.py service/predict.py service/rows.py service/server.py service/settings.py service/sources.py \
    service/together.py /app/service/
COPY service/bytecode.py /app/service/
RUN PYTHONHASHSEED=0 python -B -m service.bytecode /bytecode \
    && rm service/bytecode.py && mv /bytecode/app/service/__pycache__ service/ && rm -r /bytecode/app

FROM with-model
# The packages' bytecode, then the code with its own: a change of the code is a layer of a few kilobytes.
COPY --from=bytecode /bytecode/ /
COPY --from=bytecode /app/service/ /app/service/
USER 10001:10001
EXPOSE 8000
# For `docker run`; compose has its own.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "__import__('urllib.request').request.urlopen('http://127.0.0.1:8000/readyz',timeout=2)"]
# What never changes is the entry point, what a user may change is the command: `docker run IMAGE service.predict`.
ENTRYPOINT ["python", "-m"]
CMD ["service"]
# Last, since every commit changes them; they are configuration and make no layer.
# The pipeline sets all labels but the description, and leaves out those that it has no value for.
ARG REVISION=unknown
ENV DRYDOCK_REVISION=$REVISION
LABEL org.opencontainers.image.title="iris-classifier" \
      org.opencontainers.image.description="A model, its server, and its contract" \
      org.opencontainers.image.revision=$REVISION
