# One image per part, each with what that part runs and no more:
#   docker build --build-arg PART=gateway -t everloop-gateway .
# PART: gateway, streams, trainer, follower, model-server. The versions are those of requirements.lock.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG PART=gateway
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
    && /venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[${PART}]"

FROM python:${PYTHON}-slim
ARG PART=gateway
RUN useradd --uid 10001 --create-home everloop && mkdir /data /serving && chown everloop /data /serving
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    EVERLOOP_DATA=/data \
    PART=${PART}
USER everloop
VOLUME /data
ENTRYPOINT ["python", "-m", "everloop.run"]
CMD ["topics"]
