# docker build -t mtl .                                        CPU
# docker build -t mtl --build-arg TORCH_INDEX=cu130 .          an NVIDIA GPU: docker run --gpus all
# mkdir -p results && docker run --rm -v "$PWD/results:/app/results" mtl sweeps/priority_grid.py
FROM python:3.11-slim

ARG TORCH_INDEX=cpu
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /app

# torch first: it changes less often than the code, and is most of the image.
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN python -m pip install -c constraints.txt torch torchvision \
    --index-url "https://download.pytorch.org/whl/${TORCH_INDEX}" --extra-index-url https://pypi.org/simple

COPY lsb.py ./
COPY mtl mtl
COPY analysis analysis
COPY sweeps sweeps
RUN python -m pip install -c constraints.txt -e .

RUN useradd --create-home --uid 1000 user && mkdir results && chown user results
USER 1000
ENTRYPOINT ["python"]
CMD ["sweeps/priority_grid.py", "--help"]
