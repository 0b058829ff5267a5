"""The peer of the FFT convolution: torch's (cuFFT), kernel given, float32, 2^26 elements, CUDA events, medians of 10.

python3 benches/torch_conv.py            prints one line a length; needs torch and a GPU
"""

import torch


def median(f, n=10):
    for _ in range(3):
        f()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2 * n)]
    for i in range(n):
        events[2 * i].record()
        f()
        events[2 * i + 1].record()
    torch.cuda.synchronize()
    return sorted(events[2 * i].elapsed_time(events[2 * i + 1]) for i in range(n))[n // 2]


print(f"torch {torch.__version__}, {torch.cuda.get_device_name(0)}")
for length in (1024, 4096, 16384, 65536, 262144, 1 << 20):
    heads = 256 if length <= 300_000 else 64
    batch = max(1, (1 << 26) // heads // length)
    u = torch.randn(batch, heads, length, device="cuda")
    k = torch.randn(heads, length, device="cuda")

    def conv():
        product = torch.fft.rfft(u, n=2 * length) * torch.fft.rfft(k, n=2 * length)
        return torch.fft.irfft(product, n=2 * length)[..., :length]

    print(f"({batch}, {heads}, {length}): torch cuFFT convolution {median(conv):.3f}")
