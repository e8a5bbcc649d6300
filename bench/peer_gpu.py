# SPDX-License-Identifier: Apache-2.0
"""What PyTorch offers at the GPU benchmark's shape, in the same CSV columns as gpu_attention: cuDNN and FlashAttention-2
through SDPA (dense), compiled FlexAttention over blocks of 64, and the reference's way of making a mask, eager and compiled.

FlexAttention is compiled in its default mode: with max-autotune it times dozens of kernels on lists that keep everything,
which takes minutes at this shape. Instead a few configurations of 64 x 64 blocks are compiled one by one, timed on the real
lists, and the fastest is kept (--autotune: max-autotune after all). Its default backward configuration on Hopper needs
blocks of 128 keys, so the choice of 64 is put in its place. Each measurement stands alone: one that fails says why in its
row. CSV on stdout, a table on stderr.

usage: python3 bench/peer_gpu.py [--lists FOLDER] [--heads N] [--grid FxHxW] [--head-dim D,D] [--repeat N] [--time-limit S]
FOLDER: what gpu_attention --dump wrote, so that both attend over the same lists.
"""
import argparse
import csv
import os
import signal
import statistics
import sys
import time
import traceback

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 64
COLUMNS = ("who,measure,lists,inputs,level,dtype,head_dim,tokens,heads,density,kept_mass,ms,min_ms,max_ms,lone_ms,tflops,"
           "extra_mb,note").split(",")
FORWARD = [{"num_stages": s, "num_warps": 4} for s in (3, 2)]
BACKWARD = [dict(zip(("BLOCK_M1", "BLOCK_N1", "BLOCK_M2", "BLOCK_N2", "num_stages", "num_warps"), c))
            for c in ((64, 64, 64, 64, 3, 4), (64, 64, 64, 64, 1, 4), (32, 64, 64, 32, 3, 4))]


class Skipped(Exception):
    pass


class Bench:
    def __init__(self, args):
        self.args = args
        self.end = time.monotonic() + args.time_limit
        self.frames, self.height, self.width = (int(x) for x in args.grid.split("x"))
        if self.height % 8 or self.width % 8:
            sys.exit("peer_gpu: height and width must be multiples of 8: FlexAttention's blocks are all alike")
        self.tokens = self.frames * self.height * self.width
        self.blocks = self.tokens // BLOCK
        self.out = csv.writer(sys.stdout, lineterminator="\n")
        self.out.writerow(COLUMNS)

    def row(self, who, measure, lists, dim, heads, note, density=None, times=None, per_pair=0, extra=None):
        values = dict.fromkeys(COLUMNS, "")
        values.update(who=f"torch {torch.__version__.split('+')[0]} {who}", measure=measure, lists=lists, inputs="noise",
                      dtype="bf16", head_dim=dim, tokens=self.tokens, heads=heads, note=note)
        if density is not None:
            values["density"] = f"{density:.5f}"
        if times:
            values.update({name: f"{ms:.4f}" for name, ms in times.items()})
            if per_pair:
                work = per_pair * dim * density * heads * self.tokens**2
                values["tflops"] = f"{work / times['ms'] * 1e-9:.1f}"
        if extra is not None:
            values["extra_mb"] = f"{extra / 1e6:.1f}"
        self.out.writerow([values[c] for c in COLUMNS])
        sys.stdout.flush()
        print(f"{values['who']:44} {measure:16} {lists:10} D {dim:<3} H {heads:<3} {values['ms']:>9} ms,"
              f" lone {values['lone_ms']:>9} {values['tflops']:>6} TFLOP/s {values['extra_mb']:>7} MB  {note}",
              file=sys.stderr, flush=True)

    def attempt(self, who, measure, lists, dim, heads, function):
        """Calls function(), which returns row()'s named arguments; or prints why not."""
        left = self.end - time.monotonic()
        try:
            if left <= 0:
                raise Skipped("the time limit is reached")
            signal.setitimer(signal.ITIMER_REAL, left)
            result = function()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a compiler's failure comes in any shape
            if not isinstance(error, Skipped):
                traceback.print_exc()
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            result = {"note": "failed: " + reason}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.row(who, measure, lists, dim, heads, **result)
        torch.cuda.empty_cache()
        return result

    def time(self, call, repeats=None):
        """Milliseconds by events, as gpu_attention takes them, and the most memory that a call takes."""
        n = repeats or self.args.repeat
        call()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        lone = [self._between([call])[0] for _ in range(n)]
        row = sorted(self._between([call] * n))
        extra = torch.cuda.max_memory_allocated() - before
        return {"ms": statistics.median(row), "min_ms": row[0], "max_ms": row[-1],
                "lone_ms": statistics.median(lone)}, extra

    @staticmethod
    def _between(calls):
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in calls]
        torch.cuda.synchronize()
        for (start, stop), call in zip(pairs, calls):
            start.record()
            call()
            stop.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(stop) for start, stop in pairs]

    def noise(self, heads, dim, count, grad=False):
        return [torch.randn(1, heads, self.tokens, dim, device="cuda", dtype=torch.bfloat16).requires_grad_(grad)
                for _ in range(count)]

    # ---- lists

    def sta(self, frames=11, height=3, width=3):
        tiles = (self.frames, self.height // 8, self.width // 8)
        at = torch.cartesian_prod(*(torch.arange(n, device="cuda") for n in tiles))
        far = (at[:, None] - at[None]).abs()
        return (far <= torch.tensor([frames // 2, height // 2, width // 2], device="cuda")).all(-1)

    def keep(self, name):
        """[heads, blocks, blocks] bool: from the folder of lists, or made here."""
        shape = (self.args.heads, self.blocks, self.blocks)
        path = os.path.join(self.args.lists or "", name + ".u8")
        size = shape[0] * shape[1] * shape[2]
        if self.args.lists and os.path.exists(path) and os.path.getsize(path) == size:
            return torch.from_file(path, size=size, dtype=torch.uint8).view(shape).cuda().bool()
        if name == "random":
            return torch.rand(shape, device="cuda") < self.args.density
        if name == "sta":
            return self.sta().expand(shape)
        raise Skipped(f"there is no {path} of this shape")


def block_mask(keep):
    """Lists of whole blocks, ascending, and none that is partial."""
    count = keep.sum(-1, dtype=torch.int32)[None]
    indices = keep.int().argsort(dim=-1, descending=True, stable=True).int()[None]
    # a tensor of its own for the partial lists: not every template of the compiler takes one tensor in two places
    return BlockMask.from_kv_blocks(torch.zeros_like(count), torch.zeros_like(indices), count, indices, BLOCK_SIZE=BLOCK)


def reference_mask(q, k, thr, sta):
    """The steps of the reference's nablaT_v2, at its precision (that of q): block means, softmax, a sort of every row,
    cumulative sums, threshold, back to places, union, lists in both directions. It sorts once more than this for the places."""
    batch, heads, tokens, dim = q.shape
    q_mean, k_mean = (x.view(batch, heads, tokens // BLOCK, BLOCK, dim).mean(3) for x in (q, k))
    values, places = (q_mean @ k_mean.transpose(-1, -2) * dim**-0.5).softmax(-1).sort(-1)
    kept = values.cumsum(-1) >= 1 - thr
    mask = torch.zeros_like(kept).scatter_(-1, places, kept) | sta
    count = mask.sum(-1, dtype=torch.int32)
    indices = mask.int().argsort(dim=-1, descending=True).int()
    return BlockMask.from_kv_blocks(torch.zeros_like(count), indices, count, indices, BLOCK_SIZE=BLOCK)


# ---- dense

def dense(bench, who, backend, dim):
    heads = min(10, bench.args.heads)

    def forward():
        q, k, v = bench.noise(heads, dim, 3)
        with torch.no_grad(), sdpa_kernel(backend):
            times, extra = bench.time(lambda: F.scaled_dot_product_attention(q, k, v))
        return {"note": "", "density": 1.0, "times": times, "per_pair": 4, "extra": extra}

    def backward():
        q, k, v = bench.noise(heads, dim, 3, True)
        d_o, = bench.noise(heads, dim, 1)
        with sdpa_kernel(backend):
            o = F.scaled_dot_product_attention(q, k, v)
            times, extra = bench.time(lambda: torch.autograd.grad(o, (q, k, v), d_o, retain_graph=True))
        return {"note": "extra without the gradients", "density": 1.0, "times": times, "per_pair": 10,
                "extra": extra - 3 * q.numel() * 2}

    bench.attempt(who, "forward", "dense", dim, heads, forward)
    if who == "cuDNN":
        bench.attempt(who, "backward", "dense", dim, heads, backward)


# ---- FlexAttention

def compiled(bench, options):
    """flex_attention with these kernel options: {} with --autotune."""
    mode = "max-autotune-no-cudagraphs" if bench.args.autotune else None

    def attend(q, k, v, mask):
        return flex_attention(q, k, v, block_mask=mask, kernel_options=options)
    # fullgraph: what cannot be compiled must fail here, not run uncompiled and slowly under this name
    return torch.compile(attend, dynamic=False, fullgraph=True, mode=mode)


def options_of(forward, backward):
    both = {"fwd_BLOCK_M": BLOCK, "fwd_BLOCK_N": BLOCK}
    both.update({"fwd_" + name: value for name, value in forward.items()})
    both.update({"bwd_" + name: value for name, value in backward.items()})
    return both


def allow_small_blocks():
    """The default backward configuration for Hopper is refused for blocks of 64 before any option is looked at."""
    from torch._inductor.choices import InductorChoices
    from torch._inductor.template_heuristics.triton import FlexBwDConfig
    InductorChoices.get_flex_attention_bwd_configs = lambda *_, **__: [FlexBwDConfig(64, 64, 64, 64, 3, 4)]


def fastest(bench, choices, prepare):
    """The options whose call, made by prepare(options), is fastest of those that compile."""
    best, reason = None, None
    for options in choices:
        try:
            call = prepare(options)
            times, _ = bench.time(call, 2)
            if best is None or times["ms"] < best[0]:
                best = times["ms"], options
        except Exception as error:
            reason = error
        if time.monotonic() > bench.end:
            break
    if best is None:
        raise reason
    return best[1]


def said(options, bench):
    return "max-autotune" if bench.args.autotune else " ".join(f"{name} {value}" for name, value in options.items())


class Flex:
    """One head dim: compiled once a configuration, used with every list."""

    def __init__(self, bench, dim, choices):
        self.bench, self.dim, self.choices = bench, dim, choices
        self.forward_options = self.backward_options = None
        self.functions = {}

    def function(self, forward, backward):
        key = str((forward, backward))
        if key not in self.functions:
            self.functions[key] = compiled(self.bench, {} if self.bench.args.autotune else options_of(forward, backward))
        return self.functions[key]

    def forward(self, name):
        bench = self.bench
        q, k, v = bench.noise(bench.args.heads, self.dim, 3)
        keep = bench.keep(name)
        density = keep.float().mean().item()
        mask = block_mask(keep)
        del keep

        def call_of(options):
            attend = self.function(options, {})
            return lambda: attend(q, k, v, mask)
        with torch.no_grad():
            if self.forward_options is None:
                self.forward_options = fastest(bench, [{}] if bench.args.autotune else FORWARD, call_of)
            times, extra = bench.time(call_of(self.forward_options))
        return {"note": said(self.forward_options, bench), "density": density, "times": times, "per_pair": 4,
                "extra": extra}

    def backward(self, name):
        bench = self.bench
        q, k, v = bench.noise(bench.args.heads, self.dim, 3, True)
        d_o, = bench.noise(bench.args.heads, self.dim, 1)
        keep = bench.keep(name)
        density = keep.float().mean().item()
        mask = block_mask(keep)
        del keep

        def call_of(options):
            o = self.function(self.forward_options or FORWARD[0], options)(q, k, v, mask)
            return lambda: torch.autograd.grad(o, (q, k, v), d_o, retain_graph=True)
        if self.backward_options is None:
            self.backward_options = fastest(bench, [{}] if bench.args.autotune else BACKWARD[:self.choices], call_of)
        times, extra = bench.time(call_of(self.backward_options))
        return {"note": said(self.backward_options, bench) + "; extra without the gradients", "density": density,
                "times": times, "per_pair": 10, "extra": extra - 3 * q.numel() * 2}

    def run(self, measure, function):
        for name in ("random", "sta", "union"):
            lists = "sta-11-3-3" if name == "sta" else name
            self.bench.attempt("FlexAttention", measure, lists, self.dim, self.bench.args.heads, lambda: function(name))


# ---- the reference's mask

def masks(bench, dim, flex):
    thr = torch.tensor(0.7, device="cuda")
    sta = bench.sta()
    make = {"eager": reference_mask, "compiled": torch.compile(reference_mask, dynamic=False, fullgraph=True)}

    def mask(which):
        q, k = bench.noise(bench.args.heads, dim, 2)
        with torch.no_grad():
            times, extra = bench.time(lambda: make[which](q, k, thr, sta))
        return {"note": "both directions; thr 0.7", "times": times, "extra": extra}

    def together():
        q, k, v = bench.noise(bench.args.heads, dim, 3)
        keep = bench.keep("random")
        density, lists = keep.float().mean().item(), block_mask(keep)
        del keep
        attend = flex.function(flex.forward_options or FORWARD[0], {})

        def call():
            make["compiled"](q, k, thr, sta)
            return attend(q, k, v, lists)
        with torch.no_grad():
            times, extra = bench.time(call)
        return {"note": "a mask is made and dropped, then attention over random lists of this density",
                "density": density, "times": times, "per_pair": 4, "extra": extra}

    for which in make:
        bench.attempt("reference " + which, "mask", "union", dim, bench.args.heads, lambda: mask(which))
    bench.attempt("reference compiled, FlexAttention", "mask and forward", "random", dim, bench.args.heads, together)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lists")
    parser.add_argument("--heads", type=int, default=40)
    parser.add_argument("--grid", default="21x48x80")
    parser.add_argument("--head-dim", default="128,64")
    parser.add_argument("--density", type=float, default=0.0746)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--time-limit", type=float, default=240)
    parser.add_argument("--autotune", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("peer_gpu: PyTorch finds no NVIDIA GPU on this machine; there is nothing to measure")

    def late(*_):
        raise TimeoutError("the time limit is reached")
    signal.signal(signal.SIGALRM, late)
    torch.manual_seed(1)
    torch._dynamo.config.recompile_limit = 64
    torch._functorch.config.donated_buffer = False  # backward is called again and again over one forward
    if not args.autotune:
        allow_small_blocks()
    bench = Bench(args)
    dims = [int(x) for x in args.head_dim.split(",")]
    for dim in dims:
        dense(bench, "cuDNN", SDPBackend.CUDNN_ATTENTION, dim)
        dense(bench, "FA2", SDPBackend.FLASH_ATTENTION, dim)
    for dim in dims:  # the first one matters most, should time run out
        flex = Flex(bench, dim, len(BACKWARD) if dim == dims[0] else 1)
        flex.run("forward", flex.forward)
        if dim == dims[0]:
            masks(bench, dim, flex)
        flex.run("backward", flex.backward)


if __name__ == "__main__":
    main()
