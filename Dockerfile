# The compiled core wants Rust, which only this stage has; the slim image runs what came of it.
FROM python:3.13 AS build
WORKDIR /src
RUN apt-get update && apt-get install --yes --no-install-recommends cargo
COPY pyproject.toml setup.py README.md LICENSE ./
COPY native native
COPY cdp_stream cdp_stream
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
WORKDIR /app
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels pip install --no-cache-dir /wheels/*.whl
COPY topologies topologies
RUN useradd --create-home cdp && mkdir /data && chown cdp /data
USER cdp
ENTRYPOINT ["cdp-stream"]
