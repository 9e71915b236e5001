"""Peers of the recall benchmark: one process builds one index with one thread, and answers commands.

    table OUT                                     the embeddings that the wheel `wordllama` carries, as raw f32
    sentences OUT                                 those of scipy's own documentation, one JSON string per line
    ENGINE VECTORS DIM QUERIES TENTH              commands on stdin, one JSON object per line, an answer to each

VECTORS and QUERIES are raw little-endian f32, row by row, of unit length. TENTH holds for each query the least product
that one of its ten nearest has: what is at least as near counts as found, so that twins are nobody's mistake.
"""

import ast
import importlib.util
import json
import os
import pathlib
import re
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy

# As much as products of unit vectors differ by the order of their sums.
SLACK = 1e-5
K = 10
# Links of a row (twice as many in the lowest layer), and rows looked at for each that is added.
DEGREE, BUILD_EFFORT = 16, 200


class Faiss:
    def __init__(self, vectors):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexHNSWFlat(vectors.shape[1], DEGREE, faiss.METRIC_L2)
        self.index.hnsw.efConstruction = BUILD_EFFORT
        self.index.add(vectors)

    def search(self, queries, effort):
        self.index.hnsw.efSearch = effort
        return self.index.search(queries, K)[1]


class Usearch:
    def __init__(self, vectors):
        from usearch.index import Index

        self.index = Index(
            ndim=vectors.shape[1], metric="l2sq", dtype="f32", connectivity=DEGREE, expansion_add=BUILD_EFFORT
        )
        self.index.add(numpy.arange(len(vectors)), vectors, threads=1)

    def search(self, queries, effort):
        self.index.expansion_search = effort
        return self.index.search(queries, K, threads=1).keys.astype(numpy.int64)


def resident():
    with open("/proc/self/status") as status:
        lines = [line for line in status if line.startswith("VmRSS:")]
    return int(lines[0].split()[1]) * 1024


def read(path, dim):
    return numpy.fromfile(path, dtype="<f4").reshape(-1, dim)


def found(vectors, queries, rows, tenth):
    products = numpy.einsum("qd,qkd->qk", queries, vectors[numpy.maximum(rows, 0)])
    return int(((products >= tenth[:, None] - SLACK) & (rows >= 0)).sum())


def main(engine, vectors, dim, queries, tenth):
    dim = int(dim)
    vectors, queries, tenth = read(vectors, dim), read(queries, dim), numpy.fromfile(tenth, dtype="<f4")
    before, wall, cpu = resident(), time.perf_counter(), time.process_time()
    index = {"faiss": Faiss, "usearch": Usearch}[engine](vectors)
    answer(
        build_cpu_s=time.process_time() - cpu,
        build_s=time.perf_counter() - wall,
        memory_over_raw=(resident() - before) / vectors.nbytes,
    )
    for line in sys.stdin:
        command = json.loads(line)
        effort = command["effort"]
        if command["do"] == "lost":
            answer(lost=lost(index, vectors, effort))
            continue
        rounds, wall, cpu = 0, time.perf_counter(), time.process_time()
        while rounds == 0 or time.perf_counter() - wall < command["seconds"]:
            rows = index.search(queries, effort)
            rounds += 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        searches = rounds * len(queries)
        answer(
            qps=searches / wall,
            cpu_qps=searches / cpu,
            recall=found(vectors, queries, rows, tenth) / rows.size,
        )


def lost(index, vectors, effort):
    """Vectors that a search for themselves does not find, nor one in the same place."""
    missed = 0
    for start in range(0, len(vectors), 1000):
        asked = vectors[start : start + 1000]
        rows = index.search(asked, effort)
        itself = numpy.einsum("qd,qd->q", asked, asked)
        nearest = numpy.einsum("qd,qd->q", asked, vectors[numpy.maximum(rows[:, 0], 0)])
        missed += int(((nearest < itself - SLACK) | (rows[:, 0] < 0)).sum())
    return missed


def table(out):
    """Without an import of it: only its file is wanted."""
    package = pathlib.Path(importlib.util.find_spec("wordllama").origin).parent
    data = (package / "weights" / "l2_supercat_256.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    (tensor,) = (value for name, value in header.items() if name != "__metadata__")
    start, end = tensor["data_offsets"]
    dtype = {"F16": "<f2", "F32": "<f4"}[tensor["dtype"]]
    rows = numpy.frombuffer(data[8 + length + start : 8 + length + end], dtype=dtype).astype("<f4")
    rows.tofile(out)
    answer(dim=tensor["shape"][1])


def sentences(out):
    """Each once, in the order of files: the same wheel gives the same ones. Only its files are wanted."""
    kept = {}
    package = pathlib.Path(importlib.util.find_spec("scipy").origin).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = re.sub(r"\s+", " ", ast.get_docstring(node) or "")
                found = re.findall(r"[A-Z](?:[^.!?>=-]|-(?!-)){38,300}[.!?](?= |$)", text)
                kept.update(dict.fromkeys(found))
    with open(out, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(sentence) + "\n" for sentence in kept)
    answer(sentences=len(kept))


def answer(**fields):
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    {"table": table, "sentences": sentences}.get(sys.argv[1], lambda *rest: main(sys.argv[1], *rest))(*sys.argv[2:])
