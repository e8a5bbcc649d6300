# SPDX-License-Identifier: Apache-2.0
"""libnabla's kernels beside PyTorch's scaled_dot_product_attention, per visited block, on one core in one run.

PyTorch attends densely; libnabla to a quarter of the blocks. Both are counted by the work they do: 4 D operations a pair of
tokens forward, 10 D backward. Times are processor time, rounds alternate between the two and the best of each counts, so
that a busy machine hurts both alike. CSV on stdout: who,dtype,head_dim,pass,gflops.

usage: taskset -c 0 python3 bench/peer_sdpa.py BUILD/bin [--rounds N] [--tokens N] [--level LEVEL ...]
"""
import argparse
import csv
import os
import subprocess
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
import torch
import torch.nn.functional as F


def sdpa(tokens, dtype, dim):
    q, k, v = (torch.randn(1, 1, tokens, dim).to(dtype).requires_grad_() for _ in range(3))
    grad = torch.randn(1, 1, tokens, dim).to(dtype)
    start = time.process_time()
    out = F.scaled_dot_product_attention(q, k, v)
    middle = time.process_time()
    out.backward(grad)
    end = time.process_time()
    work = tokens * tokens * dim * 1e-9
    return 4 * work / (middle - start), 10 * work / (end - middle)


def torch_round(tokens):
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for dim in (64, 128):
            forward, backward = sdpa(tokens, dtype, dim)
            yield ("torch " + torch.__version__, name, dim, "forward"), forward
            yield ("torch " + torch.__version__, name, dim, "backward"), backward


def nabla_round(binary, level):
    text = subprocess.run([binary, "perf", "--level", level], check=True, capture_output=True, text=True).stdout
    for row in csv.DictReader(text.splitlines()):
        key = ("nabla " + row["level"], row["dtype"], int(row["head_dim"]), row["pass"])
        yield key, float(row["gflops"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", help="the build's bin directory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--level", nargs="+", default=["avx2", "avx512", "avx512bf16"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    best = {}
    for _ in range(args.rounds):
        rounds = [torch_round(args.tokens)]
        rounds += [nabla_round(os.path.join(args.bin, "test_check_attention"), level) for level in args.level]
        for results in rounds:
            for key, gflops in results:
                best[key] = max(best.get(key, 0.0), gflops)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["who", "dtype", "head_dim", "pass", "gflops"])
    for key, gflops in best.items():
        out.writerow([*key, f"{gflops:.1f}"])


if __name__ == "__main__":
    main()
