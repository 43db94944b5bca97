# One image for every part, in two targets:
#   docker build --target cpu -t everloop:cpu .
#   docker build --target gpu -t everloop:gpu .        the trainer's, with CUDA
# One part alone, smaller (PART: an extra of pyproject.toml, or several with commas):
#   docker build --build-arg PART=gateway -t everloop-gateway .
# The versions are those of requirements.lock.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
# For an object store under the trainer, its client: --build-arg STORE=s3fs (or gcsfs, adlfs).
ARG STORE=
ARG PART=gateway,streams,trainer,follower,client,k8s
WORKDIR /src
COPY pyproject.toml requirements.lock README.md ./
COPY feedback feedback
COPY streams streams
COPY trainer trainer
COPY serving serving
COPY k8s k8s
COPY newsroom newsroom
COPY everloop everloop
# A constraints file pins versions without installing all of them; pip takes hashes only where everything is installed.
RUN sed -E '/^[[:space:]]*--hash/d; s/[[:space:]]*\\$//' requirements.lock > constraints.txt \
    && python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[${PART}]" ${STORE}

FROM build AS build-gpu
RUN /venv/bin/pip install --no-cache-dir --constraint constraints.txt "tensorflow[and-cuda]"

FROM python:${PYTHON}-slim AS runtime
RUN useradd --uid 10001 --create-home everloop && mkdir /data /serving && chown everloop /data /serving
# Nothing is written beside /data, /serving and /tmp: the root file system may be read-only. Large tables lie in large pages
# (glibc of 2.35 and above): a copy of millions of rows is else several times slower.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
    EVERLOOP_DATA=/data
USER 10001
VOLUME /data
ENTRYPOINT ["python", "-m", "everloop.run"]
CMD ["topics"]

FROM runtime AS gpu
COPY --from=build-gpu /venv /venv

# The last one is what a build without --target makes.
FROM runtime AS cpu
COPY --from=build /venv /venv
