# docker build -t reelset .
# docker run --rm -v /path/to/videos:/videos:ro -v reelset-datasets:/reelset/datasets reelset bash quickstart.sh /videos
FROM python:3.11-slim
WORKDIR /reelset
COPY requirements.lock ./
COPY utils/setup_venv.sh utils/
RUN bash -euc '. utils/setup_venv.sh'
COPY . .
CMD ["bash", "quickstart.sh"]
