# The full image has a compiler for the one module that wants it; the slim one only runs.
FROM python:3.13 AS build
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY cdp_stream cdp_stream
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
WORKDIR /app
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels pip install --no-cache-dir /wheels/*.whl
COPY topologies topologies
RUN useradd --create-home cdp && mkdir /data && chown cdp /data
USER cdp
ENTRYPOINT ["cdp-stream"]
