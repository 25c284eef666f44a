"""Writes weights with the libraries of their formats and says what they hold: weights.py FOLDER. Prints one JSON object."""

import json
import pathlib
import sys

import gguf
import numpy
from safetensors import safe_open
from safetensors.numpy import save_file

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True)
claims = {}

tensors = {
    "embed": numpy.zeros((100, 32), numpy.float32),
    "norm": numpy.ones(32, numpy.float16),
    "head": numpy.zeros((32, 7, 3), numpy.float16),
    "mask": numpy.ones((5, 5), bool),
    "ids": numpy.arange(9, dtype=numpy.int64),
    "nothing": numpy.zeros((0, 4), numpy.float32),
}
save_file(tensors, folder / "model.safetensors", metadata={"format": "pt", "note": "ü" * 300})
dtypes = {}
with safe_open(folder / "model.safetensors", "np") as file:
    for name in file.keys():
        part = file.get_slice(name)
        share = dtypes.setdefault(part.get_dtype(), [0, 0])
        share[0] += 1
        share[1] += int(numpy.prod(part.get_shape()))
claims["model.safetensors"] = dtypes


def fill(writer):
    writer.add_context_length(4096)
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q8_0))
    writer.add_token_list([f"token {n}" for n in range(40000)])
    writer.add_token_scores([0.5] * 40000)
    writer.add_chat_template("{{ messages }}" * 500)
    generator = numpy.random.default_rng(1)
    for name, rows, kind in [
        ("token_embd.weight", 6, gguf.GGMLQuantizationType.Q8_0),
        ("output.weight", 4, gguf.GGMLQuantizationType.Q4_0),
        ("blk.0.attn.weight", 2, gguf.GGMLQuantizationType.Q6_K),
    ]:
        data = generator.standard_normal((rows, 512)).astype(numpy.float32)
        try:
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
        except NotImplementedError:
            block, size = gguf.GGML_QUANT_SIZES[kind]
            writer.add_tensor(name, numpy.zeros((rows, 512 // block * size), numpy.uint8), raw_dtype=kind)
    writer.add_tensor("output_norm.weight", numpy.ones(77, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


(folder / "gguf").mkdir()
fill(gguf.GGUFWriter(folder / "gguf/tiny-Q8_0.gguf", "llama"))
fill(gguf.GGUFWriter(folder / "gguf/parts-Q8_0.gguf", "llama", split_max_tensors=2))
for path in sorted((folder / "gguf").iterdir()):
    dtypes = {}
    for tensor in gguf.GGUFReader(path).tensors:
        share = dtypes.setdefault(tensor.tensor_type.name, [0, 0])
        share[0] += 1
        share[1] += int(tensor.n_elements)
    claims[str(path.relative_to(folder))] = dtypes

layouts = {kind.value: [kind.name, *sizes] for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
print(json.dumps({"files": claims, "layouts": layouts}))
