# A worker in a container, for a Docker or Kubernetes work pool of Prefect (docs/machines.md):
#   docker build -t auglift --build-arg ORIGIN=https://HOST/auglift.git .
# The image holds the clone that its stages run in. Credentials come from the environment.
FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
ENV DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false DVC_NO_ANALYTICS=1 \
    OMP_WAIT_POLICY=PASSIVE PIP_DISABLE_PIP_VERSION_CHECK=1 AUGLIFT_CLONE=/clone
WORKDIR /clone
# First what changes rarely: the environment is built again only when these files change.
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir auglift flows tasks models \
    && touch auglift/__init__.py flows/__init__.py tasks/__init__.py models/__init__.py \
    && pip install --no-cache-dir -c constraints.txt -e . dvc-s3
COPY . .
# Where a worker finds commits that are newer than the image; no credentials here.
ARG ORIGIN=""
RUN git init --quiet && if [ -n "$ORIGIN" ]; then git remote add origin "$ORIGIN"; fi
RUN git config --global --add safe.directory /clone && git status --short --untracked-files=no
CMD ["prefect", "worker", "start", "--pool", "stages", "--limit", "1"]
