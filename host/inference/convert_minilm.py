"""all-MiniLM-L6-v2 as published (safetensors, tokenizer) to one Q8_0 GGUF file for llama.cpp.

    python3 convert_minilm.py SOURCE_DIR OUTPUT.gguf

SOURCE_DIR holds config.json, tokenizer.json and model.safetensors. Only the standard library is used: no package has
to be installed, trusted or pinned for it, and equal input gives equal bytes on every machine and Python from 3.8 on.

Weight matrices become Q8_0 (blocks of 32: one half-precision scale, 32 signed bytes); vectors and the two small
embedding tables stay in single precision. The pooler is left out: sentence vectors are means over the last layer.

Sources: ggml's docs/gguf.md (container); ggml-quants.c, quantize_row_q8_0_ref (blocks); the BERT part of llama.cpp's
convert_hf_to_gguf.py (names of keys and tensors, tokens).
"""

import array
import json
import struct
import sys
from pathlib import Path

F32, Q8_0 = 0, 8
FILE_TYPE_MOSTLY_Q8_0 = 7
POOLING_MEAN = 1
TOKEN_NORMAL, TOKEN_CONTROL = 1, 3
ALIGNMENT = 32
BLOCK = 32

TENSORS = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
LAYER_TENSORS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
KEPT_WHOLE = ("position_embd.weight", "token_types.weight")


def main():
    source, output = Path(sys.argv[1]), Path(sys.argv[2])
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    metadata = model_metadata(config) + tokenizer_metadata(config, tokenizer)
    tensors = [convert_tensor(*tensor) for tensor in read_tensors(source / "model.safetensors")]
    with open(output, "wb") as file:
        write_gguf(file, metadata, tensors)


def model_metadata(config):
    return [
        ("general.architecture", text("bert")),
        ("general.name", text("all-MiniLM-L6-v2")),
        ("general.file_type", uint32(FILE_TYPE_MOSTLY_Q8_0)),
        ("bert.context_length", uint32(config["max_position_embeddings"])),
        ("bert.embedding_length", uint32(config["hidden_size"])),
        ("bert.feed_forward_length", uint32(config["intermediate_size"])),
        ("bert.block_count", uint32(config["num_hidden_layers"])),
        ("bert.attention.head_count", uint32(config["num_attention_heads"])),
        ("bert.attention.layer_norm_epsilon", float32(config["layer_norm_eps"])),
        ("bert.attention.causal", boolean(False)),
        ("bert.pooling_type", uint32(POOLING_MEAN)),
    ]


def tokenizer_metadata(config, tokenizer):
    vocabulary = tokenizer["model"]["vocab"]
    control = {token["content"] for token in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    return [
        ("tokenizer.ggml.token_type_count", uint32(config["type_vocab_size"])),
        ("tokenizer.ggml.model", text("bert")),
        ("tokenizer.ggml.pre", text("default")),
        ("tokenizer.ggml.tokens", texts([t if t in control else phantom_space(t) for t in tokens])),
        ("tokenizer.ggml.token_type", int32s([TOKEN_CONTROL if t in control else TOKEN_NORMAL for t in tokens])),
        ("tokenizer.ggml.bos_token_id", uint32(vocabulary["[CLS]"])),
        ("tokenizer.ggml.eos_token_id", uint32(vocabulary["[SEP]"])),
        ("tokenizer.ggml.unknown_token_id", uint32(vocabulary["[UNK]"])),
        # The key is spelt so in ggml.
        ("tokenizer.ggml.seperator_token_id", uint32(vocabulary["[SEP]"])),
        ("tokenizer.ggml.padding_token_id", uint32(vocabulary["[PAD]"])),
        ("tokenizer.ggml.mask_token_id", uint32(vocabulary["[MASK]"])),
    ]


def phantom_space(token):
    """llama.cpp marks the beginning of a word; WordPiece marks its continuation."""
    return token[2:] if token.startswith("##") else "\u2581" + token


def read_tensors(path):
    """(name, shape, single-precision values) of every tensor, in the order of their names."""
    with open(path, "rb") as file:
        (header_length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_length))
        header.pop("__metadata__", None)
        for name in sorted(header):
            if name.startswith("pooler") or name.endswith("position_ids"):
                continue
            entry = header[name]
            if entry["dtype"] != "F32":
                sys.exit(f"{name}: expected F32, found {entry['dtype']}")
            start, end = entry["data_offsets"]
            file.seek(8 + header_length + start)
            yield name, entry["shape"], little_endian(file.read(end - start))


def little_endian(data):
    values = array.array("f")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def convert_tensor(name, shape, values):
    """(GGUF name, dimensions fastest first, type, bytes)."""
    name = tensor_name(name)
    dimensions = shape[::-1]
    if len(shape) == 1 or name in KEPT_WHOLE:
        return name, dimensions, F32, struct.pack(f"<{len(values)}f", *values)
    return name, dimensions, Q8_0, quantize(values)


def tensor_name(name):
    stem, suffix = name.rsplit(".", 1)
    if stem in TENSORS:
        return f"{TENSORS[stem]}.{suffix}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{LAYER_TENSORS[part]}.{suffix}"


def quantize(values):
    """Q8_0: per 32 values a scale that takes the largest to 127, then the rounded quotients."""
    blocks = bytearray()
    pack = struct.Struct("<e32b").pack
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        largest = max(max(block), -min(block))
        inverse = 127.0 / largest if largest else 0.0
        blocks += pack(largest / 127.0, *[round(value * inverse) for value in block])
    return bytes(blocks)


def write_gguf(file, metadata, tensors):
    file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)))
    for key, value in metadata:
        file.write(counted(key) + value)
    offset = 0
    for name, dimensions, kind, data in tensors:
        file.write(counted(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions))
        file.write(struct.pack("<IQ", kind, offset))
        offset += len(data) + padding(len(data))
    file.write(bytes(padding(file.tell())))
    for _, _, _, data in tensors:
        file.write(data + bytes(padding(len(data))))


def padding(length):
    return -length % ALIGNMENT


def counted(string):
    data = string.encode()
    return struct.pack("<Q", len(data)) + data


def uint32(value):
    return struct.pack("<II", 4, value)


def float32(value):
    return struct.pack("<If", 6, value)


def boolean(value):
    return struct.pack("<I?", 7, value)


def text(value):
    return struct.pack("<I", 8) + counted(value)


def texts(values):
    return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(counted, values))


def int32s(values):
    return struct.pack(f"<IIQ{len(values)}i", 9, 5, len(values), *values)


if __name__ == "__main__":
    main()
