FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY cdp_stream cdp_stream
RUN pip install --no-cache-dir .
COPY topologies topologies
RUN useradd --create-home cdp && mkdir /data && chown cdp /data
USER cdp
ENTRYPOINT ["cdp-stream"]
