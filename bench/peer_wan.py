# SPDX-License-Identifier: Apache-2.0
"""The engine beside diffusers and transformers on this machine's processor, part by part in one run:

    block  a transformer of the 1.3B's sizes with one block, bf16: diffusers (dense), ours dense, by nabla and over random lists
    text   UMT5-XXL over 512 tokens, bf16
    vae    the decoder on latents of two lengths, bf16 and fp32; a whole clip's 21 latent frames are extrapolated from those,
           as after the first all of them cost the same: diffusers takes 20 minutes for a clip

usage: python3 bench/peer_wan.py BUILD/bin --model DIR [-o FILE.csv] [--parts block,text,vae] [--threads N] [--repeat N]
DIR: a model of random_wan.py's; of another size (the tests' tiny one) the parts text and vae run as well. Both sides have the
same threads, and the least time of --repeat counts, but for the VAE after one run that does not. Loading is not counted, but
for our text encoder, which reads its weights layer by layer as it goes. On two cores with the defaults about half an hour.
CSV: part,what,who,dtype,threads,size,density,seconds,ratio; ratio: diffusers' seconds by these.
"""
import argparse
import csv
import glob
import json
import os
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file

CLIP = 21  # latent frames of 81
COLUMNS = ["part", "what", "who", "dtype", "threads", "size", "density", "seconds", "ratio"]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Bench:
    def __init__(self, args):
        self.args = args
        self.rows = []
        self.scratch = tempfile.TemporaryDirectory()

    def nabla(self, *words):
        command = [os.path.join(self.args.bin, "nabla"), *map(str, words), "--threads", str(self.args.threads), "--json",
                   "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"peer_wan: {' '.join(command)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def file(self, name):
        return os.path.join(self.scratch.name, name)

    def best(self, run, warm_up=True):
        """The least of --repeat, after one that does not count. run returns its seconds."""
        if warm_up:
            run()
        return min(run() for _ in range(self.args.repeat))

    def row(self, part, what, who, dtype, size, seconds, peer=None, density=None):
        """peer: the other side's seconds for the same work."""
        ratio = peer / seconds if peer else None
        self.rows.append([part, what, who, dtype, self.args.threads, size, "" if density is None else f"{density:.4f}",
                          f"{seconds:.4f}", f"{ratio:.3f}" if ratio else ""])
        self.write()
        density = f", density {100 * density:.1f} %" if density is not None else ""
        ratio = f": {ratio:.2f} times as fast" if ratio else ""
        print(f"{part} {size} {dtype}: {who}, {what}{density}: {seconds:.3f} s{ratio}", flush=True)


    def write(self):
        """After each row: what comes later may fail."""
        if not self.args.output:
            return
        with open(self.args.output, "w", newline="") as f:
            out = csv.writer(f, lineterminator="\n")
            out.writerow(COLUMNS)
            out.writerows(self.rows)


def seconds_of(call):
    began = time.perf_counter()
    with torch.inference_mode():
        call()
    return time.perf_counter() - began


def diffusers_name():
    import diffusers
    return f"diffusers {diffusers.__version__}, torch {torch.__version__.split('+')[0]}"


def block(bench):
    from diffusers import WanTransformer3DModel
    frames, height, width = (int(x) for x in bench.args.grid.split("x"))
    torch.manual_seed(0)
    model = WanTransformer3DModel(patch_size=(1, 2, 2), num_attention_heads=12, attention_head_dim=128, in_channels=16,
                                  out_channels=16, text_dim=4096, freq_dim=256, ffn_dim=8960, num_layers=1,
                                  cross_attn_norm=True, eps=1e-6, rope_max_seq_len=1024).bfloat16().eval()
    latent = torch.randn(1, 16, frames, 2 * height, 2 * width).bfloat16()
    context, step = torch.randn(1, 512, 4096).bfloat16(), torch.tensor([100])
    peer = bench.best(lambda: seconds_of(lambda: model(hidden_states=latent, timestep=step, encoder_hidden_states=context)))
    del model
    bench.row("block", "dense", diffusers_name(), "bf16", bench.args.grid, peer)
    rows = bench.nabla("bench", "dit", "--size", "1.3B", "--layers", 1, "--grid", bench.args.grid, "--dtypes", "bf16",
                       "--policies", "dense,nabla-0.1", "--density", 0.1, "--repeat", bench.args.repeat)
    for r in rows:
        bench.row("block", r["policy"], f"nabla {r['level']}", "bf16", bench.args.grid, r["seconds"], peer, r["density"])


def umt5(folder):
    """Its weights stay mapped: 11 GB at the real size."""
    from transformers import UMT5Config, UMT5EncoderModel
    (path,) = glob.glob(f"{folder}/text_encoder/*.safetensors")
    tensors = load_file(path)
    shared = tensors["shared.weight"]
    inner = tensors["encoder.block.0.layer.0.SelfAttention.q.weight"].shape[0]
    heads = tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].shape[1]
    layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.block."))
    with torch.device("meta"):
        model = UMT5EncoderModel(UMT5Config(
            vocab_size=shared.shape[0], d_model=shared.shape[1], d_kv=inner // heads, num_heads=heads, num_layers=layers,
            d_ff=tensors["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0], feed_forward_proj="gated-gelu",
            relative_attention_num_buckets=32, relative_attention_max_distance=128))
    tensors["encoder.embed_tokens.weight"] = shared
    model.load_state_dict({k: v.bfloat16() for k, v in tensors.items()}, assign=True)
    return model.eval()


def text(bench):
    import transformers
    model = umt5(bench.args.model)
    ids = torch.randint(3, 200, (1, 512))
    mask = torch.ones_like(ids)
    peer = bench.best(lambda: seconds_of(lambda: model(input_ids=ids, attention_mask=mask)))
    size = f"{model.config.num_layers}x{model.config.d_model}"
    del model
    bench.row("text", "512 tokens", f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}",
              "bf16", size, peer)

    def ours():
        r = bench.nabla("encode", "a cat on a skateboard " * 400, "--model", bench.args.model, "-o", bench.file("c.safetensors"))
        if r["tokens"] != 512:
            sys.exit(f"peer_wan: the prompt has {r['tokens']} tokens, not 512")
        return r["load_s"] + r["encode_s"]

    bench.row("text", "512 tokens", "nabla", "bf16", size, bench.best(ours), peer)


def clip(times):
    """Seconds of a clip's latent frames: of each after the first as many."""
    (few, first), (many, second) = sorted(times.items())
    return first + (CLIP - few) * (second - first) / (many - few)


def vae(bench):
    from diffusers import AutoencoderKLWan
    height, width = (int(x) for x in bench.args.latent.split("x"))
    lengths = [int(x) for x in bench.args.lengths.split(",")]
    torch.manual_seed(0)
    for dtype, kind in DTYPES.items():
        model = AutoencoderKLWan.from_pretrained(f"{bench.args.model}/vae", torch_dtype=kind).eval()
        latents = {n: torch.randn(1, model.config.z_dim, n, height, width) for n in lengths}
        theirs = {}
        for n, x in latents.items():
            theirs[n] = bench.best(lambda x=x: seconds_of(lambda: model.decode(x.to(kind))), warm_up=False)
            print(f"vae {n} latent frames {dtype}: {diffusers_name()}: {theirs[n]:.3f} s", flush=True)
        del model
        ours = {}
        for n, x in latents.items():
            save_file({"latent": x[0].contiguous()}, bench.file("latent.safetensors"))

            def decode():
                r = bench.nabla("decode", bench.file("latent.safetensors"), "--model", bench.args.model, "--dtype", dtype,
                                "-o", bench.file("frames.safetensors"))
                return r["decode_s"]

            ours[n] = bench.best(decode, warm_up=False)
        for what, of in [(f"{n} latent frames", lambda t, n=n: t[n]) for n in lengths] + [
                (f"{CLIP} latent frames, extrapolated", clip)]:
            bench.row("vae", what, diffusers_name(), dtype, bench.args.latent, of(theirs))
            bench.row("vae", what, "nabla", dtype, bench.args.latent, of(ours), of(theirs))


PARTS = {"block": block, "text": text, "vae": vae}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", help="the build's bin directory")
    parser.add_argument("--model", required=True)
    parser.add_argument("-o", "--output")
    parser.add_argument("--parts", default="block,text,vae")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--grid", default="21x30x52", help="tokens of the block")
    parser.add_argument("--latent", default="60x104", help="height and width of the VAE's latents")
    parser.add_argument("--lengths", default="3,5", help="two numbers of latent frames")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bench = Bench(args)
    for part in args.parts.split(","):
        if part not in PARTS:
            sys.exit(f"peer_wan: there is no part '{part}': choose of {', '.join(PARTS)}")
    for part in args.parts.split(","):
        PARTS[part](bench)


if __name__ == "__main__":
    main()
