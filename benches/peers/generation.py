"""Tokens a second of a Transformer: the peer of `node benches/generation.mjs`.

python3 benches/peers/generation.py --contexts 1024,4096,16384 --batches 1,64 [--smoke]        prints one JSON line a measurement

cache: keys and values of the context are kept in memory that was allocated before (bf16); a step of all sequences is one CUDA graph,
from the token before to the one drawn from the softmax. Attention reads exactly `context` places, by whichever of PyTorch's kernels is
the fastest; what lies between its products and the attention is compiled where torch.compile works.
recompute: no cache, as the S4 paper measured: each token takes the whole context through the network again (fused causal attention,
the output layer at the last place alone).
Weights are random and bf16; pre-norm, GELU, fixed positions (no parameters).
"""

import argparse
import json
import sys
import time

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def weights(vocabulary, length, features, layers, inner, device, dtype):
    torch.manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, device=device, dtype=dtype) * 0.02
    layer = lambda: {
        "norm1": (torch.ones(features, device=device, dtype=dtype), draw(features)),
        "norm2": (torch.ones(features, device=device, dtype=dtype), draw(features)),
        "qkv": (draw(3 * features, features), draw(3 * features)),
        "out": (draw(features, features), draw(features)),
        "up": (draw(inner, features), draw(inner)),
        "down": (draw(features, inner), draw(features)),
    }
    return {
        "embedding": draw(vocabulary, features),
        "positions": sinusoids(length, features, device, dtype),
        "layers": [layer() for _ in range(layers)],
        "norm": (torch.ones(features, device=device, dtype=dtype), draw(features)),
        "head": (draw(vocabulary, features), draw(vocabulary)),
    }


def sinusoids(length, features, device, dtype):
    angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(features // 2) / (features // 2))
    return torch.cat([angles.sin(), angles.cos()], -1).to(device, dtype)


def count(parts):
    if isinstance(parts, torch.Tensor):
        return parts.numel()
    if isinstance(parts, dict):
        return sum(count(x) for name, x in parts.items() if name != "positions")
    return sum(count(x) for x in parts)


def before_attention(x, norm, qkv):
    return F.linear(F.layer_norm(x, x.shape[-1:], *norm), *qkv)


def after_attention(x, y, out, norm, up, down):
    x = x + F.linear(y, *out)
    return x + F.linear(F.gelu(F.linear(F.layer_norm(x, x.shape[-1:], *norm), *up)), *down)


def sampled(logits):
    """A draw from the softmax without a wait for the host: the largest p/e with e exponentially distributed."""
    p = logits.float().softmax(-1)
    return (p / torch.empty_like(p).exponential_(1)).argmax(-1)


def heads_of(qkv, heads):
    batch, length, width = qkv.shape
    return qkv.view(batch, length, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)


class Cached:
    """One step of `batch` sequences at a context of so many tokens, the last of which is the one that goes in."""

    def __init__(self, w, heads, batch, context, parts):
        device, dtype = w["embedding"].device, w["embedding"].dtype
        features = w["embedding"].shape[1]
        shape = (len(w["layers"]), 2, batch, heads, context, features // heads)
        self.w, self.heads, self.context, self.parts = w, heads, context, parts
        self.cache = torch.randn(shape, device=device, dtype=dtype)
        self.tokens = torch.zeros(batch, dtype=torch.int64, device=device)

    @torch.no_grad()
    def step(self):
        w, at = self.w, self.context - 1
        before, after = self.parts
        x = (w["embedding"][self.tokens] + w["positions"][at])[:, None]
        for layer, (keys, values) in zip(w["layers"], self.cache):
            q, k, v = heads_of(before(x, layer["norm1"], layer["qkv"]), self.heads)
            keys[:, :, at:] = k
            values[:, :, at:] = v
            y = F.scaled_dot_product_attention(q, keys, values)
            y = y.transpose(1, 2).reshape(x.shape)
            x = after(x, y, layer["out"], layer["norm2"], layer["up"], layer["down"])
        logits = F.linear(F.layer_norm(x[:, -1], x.shape[-1:], *w["norm"]), *w["head"])
        self.tokens.copy_(sampled(logits))


@torch.no_grad()
def recomputed(w, heads, tokens, kernel_parts):
    """The next tokens of whole contexts (batch, context)."""
    before, after = kernel_parts
    x = w["embedding"][tokens] + w["positions"][: tokens.shape[1]]
    for layer in w["layers"]:
        q, k, v = heads_of(before(x, layer["norm1"], layer["qkv"]), heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = after(x, y.transpose(1, 2).reshape(x.shape), layer["out"], layer["norm2"], layer["up"], layer["down"])
    return sampled(F.linear(F.layer_norm(x[:, -1], x.shape[-1:], *w["norm"]), *w["head"]))


class Clock:
    def __init__(self, device):
        self.wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def seconds(self, work, times):
        self.wait()
        began = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - began) / times


def captured(step, device):
    """The step as one graph launch; as it is on the CPU."""
    if device.type != "cuda":
        return step
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def cached_rate(w, heads, batch, context, device, parts, clock, seconds):
    """Tokens a second with a cache, by the fastest kernel of attention and with or without compiled parts."""
    best = None
    state = Cached(w, heads, batch, context, None)
    for compiled, functions in parts.items():
        state.parts = functions
        # What is compiled matters little beside the choice of the kernel, which the plain parts have settled.
        names = list(KERNELS) if best is None else [best["attention"]]
        for name in names:
            try:
                with sdpa_kernel(KERNELS[name]):
                    run = captured(state.step, device)
                each = clock.seconds(run, 2)
                each = clock.seconds(run, max(2, min(400, int(seconds / each))))
            except Exception as error:  # a kernel that does not take these sizes
                print(f"cache {batch} × {context}, {name}, {compiled}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            if best is None or each < best["secondsPerStep"]:
                best = {"attention": name, "parts": compiled, "secondsPerStep": each}
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", default="1024,4096,16384")
    parser.add_argument("--batches", default="1,64")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--inner", type=int, default=1664)
    parser.add_argument("--vocabulary", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement")
    parser.add_argument("--tokens", type=int, default=3, help="of each measurement without a cache")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="small, on the CPU")
    args = parser.parse_args()
    if args.smoke:
        torch.set_num_threads(1)
        args.features, args.heads, args.inner, args.layers, args.seconds = 32, 2, 64, 2, 0.02
    device = torch.device("cuda" if torch.cuda.is_available() and not args.smoke else "cpu")
    contexts, batches = ([int(x) for x in text.split(",")] for text in (args.contexts, args.batches))
    w = weights(args.vocabulary, max(contexts), args.features, args.layers, args.inner, device, torch.bfloat16)
    clock = Clock(device)
    parts = {"plain": (before_attention, after_attention)}
    if not args.no_compile:
        try:
            compiled = [torch.compile(f, dynamic=False) for f in parts["plain"]]
            Cached(w, args.heads, batches[0], 16, compiled).step()
            parts["compiled"] = compiled
        except Exception as error:
            print(f"torch.compile: {str(error).splitlines()[0]}", file=sys.stderr)
    shared = {
        "peer": "transformer",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "parameters": count(w),
    }
    for batch in batches:
        for context in contexts:
            common = {**shared, "batch": batch, "context": context}
            found = cached_rate(w, args.heads, batch, context, device, parts, clock, args.seconds)
            if found is not None:
                print(json.dumps({**common, "how": "cache", **found, "tokensPerSecond": batch / found["secondsPerStep"]}), flush=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()
            try:
                tokens = torch.randint(args.vocabulary, (batch, context), device=device)
                work = lambda: recomputed(w, args.heads, tokens, parts["plain"])
                clock.seconds(work, 1)
                each = clock.seconds(work, args.tokens)
                print(json.dumps({**common, "how": "recompute", "secondsPerStep": each, "tokensPerSecond": batch / each}), flush=True)
            except torch.cuda.OutOfMemoryError as error:
                print(f"recompute {batch} × {context}: {str(error).splitlines()[0]}", file=sys.stderr)


if __name__ == "__main__":
    main()
