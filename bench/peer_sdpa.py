# SPDX-License-Identifier: Apache-2.0
"""libnabla's kernels beside PyTorch's scaled_dot_product_attention, per visited block, on one core (or some) in one run.

PyTorch attends densely; libnabla to a quarter of the blocks. Both are counted by the work they do: 4 D operations a pair of
tokens forward, 10 D backward. Of one thread times are processor time, rounds alternate between the two and the best of
each counts, so that a busy machine hurts both alike. With --threads N there are N heads, and GFLOP/s are a core's share.
CSV on stdout: who,dtype,head_dim,pass,threads,gflops.

usage: taskset -c 0 python3 bench/peer_sdpa.py BUILD/bin [--rounds N] [--tokens N] [--threads N] [--level LEVEL ...]
"""
import argparse
import csv
import os
import subprocess
import sys
import time

import torch
import torch.nn.functional as F


def sdpa(tokens, dtype, dim, threads):
    clock = time.process_time if threads == 1 else time.perf_counter
    q, k, v = (torch.randn(1, threads, tokens, dim).to(dtype).requires_grad_() for _ in range(3))
    grad = torch.randn(1, threads, tokens, dim).to(dtype)
    start = clock()
    out = F.scaled_dot_product_attention(q, k, v)
    middle = clock()
    out.backward(grad)
    end = clock()
    work = tokens * tokens * dim * 1e-9
    return 4 * work / (middle - start), 10 * work / (end - middle)


def torch_round(tokens, threads):
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for dim in (64, 128):
            forward, backward = sdpa(tokens, dtype, dim, threads)
            yield ("torch " + torch.__version__, name, dim, "forward"), forward
            yield ("torch " + torch.__version__, name, dim, "backward"), backward


def nabla_round(binary, level, threads):
    command = [binary, "perf", "--level", level, "--threads", str(threads)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for row in csv.DictReader(text.splitlines()):
        key = ("nabla " + row["level"], row["dtype"], int(row["head_dim"]), row["pass"])
        yield key, float(row["gflops"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", help="the build's bin directory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--level", nargs="+", default=["avx2", "avx512", "avx512bf16"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    best = {}
    for _ in range(args.rounds):
        rounds = [torch_round(args.tokens, args.threads)]
        rounds += [nabla_round(os.path.join(args.bin, "test_check_attention"), level, args.threads) for level in args.level]
        for results in rounds:
            for key, gflops in results:
                best[key] = max(best.get(key, 0.0), gflops)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["who", "dtype", "head_dim", "pass", "threads", "gflops"])
    for key, gflops in best.items():
        out.writerow([*key, args.threads, f"{gflops:.1f}"])


if __name__ == "__main__":
    main()
