"""all-MiniLM-L6-v2 from safetensors to the GGUF that llama.cpp, and so Ollama, reads; half precision, as Ollama's."""

import json
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.lab.ollama.standin import gguf

_OF_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_OF_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_HALF_PRECISION = 1
_MEAN_POOLING = 1
_NORMAL, _CONTROL = 1, 3


def minilm(source: Path, target: Path) -> None:
    """Write ``target`` from the folder that holds model.safetensors, config.json and vocab.txt."""
    config = json.loads((source / "config.json").read_text())
    pieces = (source / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    metadata: dict[str, gguf.Value] = {
        "general.architecture": "bert",
        "general.name": "all-MiniLM-L6-v2",
        "general.license": "apache-2.0",
        "general.file_type": _HALF_PRECISION,
        "bert.block_count": config["num_hidden_layers"],
        "bert.context_length": config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.attention.layer_norm_epsilon": config["layer_norm_eps"],
        "bert.attention.causal": False,
        "bert.pooling_type": _MEAN_POOLING,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": config["type_vocab_size"],
        "tokenizer.ggml.tokens": [_spelled(piece) for piece in pieces],
        "tokenizer.ggml.token_type": [_CONTROL if _control(piece) else _NORMAL for piece in pieces],
        "tokenizer.ggml.unknown_token_id": pieces.index("[UNK]"),
        "tokenizer.ggml.seperator_token_id": pieces.index("[SEP]"),
        "tokenizer.ggml.padding_token_id": pieces.index("[PAD]"),
        "tokenizer.ggml.cls_token_id": pieces.index("[CLS]"),
        "tokenizer.ggml.mask_token_id": pieces.index("[MASK]"),
    }
    weights = _safetensors(source / "model.safetensors")
    tensors = [_tensor(name, weights[old]) for old, name in _names(config["num_hidden_layers"]).items()]
    with target.open("wb") as file:
        gguf.write(file, metadata, tensors)


def _names(layers: int) -> dict[str, str]:
    names = dict(_OF_EMBEDDINGS)
    for layer in range(layers):
        for old, new in _OF_LAYER.items():
            for part in ("weight", "bias"):
                names[f"encoder.layer.{layer}.{old}.{part}"] = f"blk.{layer}.{new}.{part}"
    return names


def _tensor(name: str, values: NDArray[np.float32]) -> tuple[str, tuple[int, ...], int, bytes]:
    # llama.cpp adds these as they are, and wants them in full precision.
    full = values.ndim == 1 or name in {"position_embd.weight", "token_types.weight"}
    kind = gguf.F32 if full else gguf.F16
    return name, values.shape, kind, (values if full else values.astype(np.float16)).tobytes()


def _safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    data = path.read_bytes()
    start = 8 + struct.unpack_from("<Q", data)[0]
    found: dict[str, NDArray[np.float32]] = {}
    for name, one in json.loads(data[8:start]).items():
        if name != "__metadata__" and one["dtype"] == "F32":
            begin, end = one["data_offsets"]
            found[name] = np.frombuffer(data[start + begin : start + end], dtype="<f4").reshape(one["shape"])
    return found


def _spelled(piece: str) -> str:
    # BERT marks the rest of a word with ##, GGUF its beginning.
    return piece if _control(piece) else piece[2:] if piece.startswith("##") else f"▁{piece}"


def _control(piece: str) -> bool:
    return len(piece) > 2 and piece[0] == "[" and piece[-1] == "]"
