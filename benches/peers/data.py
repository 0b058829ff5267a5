"""The recipes' data for PyTorch: the same parts, inputs and labels as scripts/recipe-density.mjs and scripts/recipe-words.mjs give."""

import gzip
import pathlib
import random
import struct

import numpy as np
import torch

IGNORED = -100  # cross_entropy's ignore_index


def read_idx(folder, stem):
    """Pictures of an IDX file (magic number 0x803), (count, side·side) bytes."""
    path = pathlib.Path(folder) / f"{stem}-images-idx3-ubyte"
    data = path.read_bytes() if path.exists() else gzip.decompress(path.with_suffix(".gz").read_bytes())
    magic, count, height, width = struct.unpack(">4I", data[:16])
    if magic != 0x803:
        raise ValueError(f"{path} is no IDX file of pictures")
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, height, width)


class Pixels:
    """MNIST pixel by pixel: the label of step t is pixel t, its input pixel t − 1, black before the first."""

    def __init__(self, folder, device, validationCount=500, shift=0, **_):
        pictures = {part: read_idx(folder, part) for part in ("train", "t10k")}
        to = lambda x: torch.from_numpy(x.astype(np.int64)).to(device)
        self.train = to(pictures["train"][:-validationCount])
        self.sets = {"validation": to(pictures["train"][-validationCount:]), "test": to(pictures["t10k"])}
        self.shift, self.vocabulary, self.length = shift, 256, self.train.shape[1] * self.train.shape[2]
        self.count = len(self.train)

    @staticmethod
    def steps(pictures):
        labels = pictures.flatten(1)
        return torch.nn.functional.pad(labels[:, :-1], (1, 0)), labels

    def batch(self, places):
        """A training batch; each picture is moved by up to `shift` pixels, and what comes in at the edge is black."""
        pictures, s = self.train[places], self.shift
        if s:
            height, width = pictures.shape[1:]
            wide = torch.nn.functional.pad(pictures, (s, s, s, s))
            dy, dx = torch.randint(0, 2 * s + 1, (2, len(places), 1, 1), device=pictures.device)
            rows = torch.arange(height, device=pictures.device)[None, :, None] + dy
            columns = torch.arange(width, device=pictures.device)[None, None, :] + dx
            pictures = wide[torch.arange(len(places), device=pictures.device)[:, None, None], rows, columns]
        return self.steps(pictures)

    def scored(self, name, batch_size):
        for group in self.sets[name].split(batch_size):
            yield self.steps(group)


class Words:
    """Words of {train,valid,test}.txt, split at white space, `<eos>` at the end of each line, numbered as they come."""

    def __init__(self, folder, device, window=512, stride=None, **_):
        self.ids = {}
        self.train, valid, test = (
            torch.from_numpy(self.read(pathlib.Path(folder) / f"{part}.txt")).to(device)
            for part in ("train", "valid", "test")
        )
        self.sets = {"validation": valid, "test": test}
        self.window = self.length = window
        self.stride = stride or window // 2
        self.vocabulary = len(self.ids)
        self.count = (len(self.train) - 1) // window

    def read(self, path):
        out, ids = [], self.ids
        with open(path, encoding="utf8", newline="\n") as file:
            for line in file:
                out.extend(ids.setdefault(word, len(ids)) for word in [*line.split(), "<eos>"])
        return np.array(out, np.int64)

    def batch(self, places):
        """A training batch: a window from a random place of each stretch of `window` words."""
        starts = places * self.window + torch.randint(0, self.window, places.shape, device=places.device)
        starts = starts.clamp(max=len(self.train) - 1 - self.window)
        at = starts[:, None] + torch.arange(self.window, device=starts.device)
        return self.train[at], self.train[at + 1]

    def scored(self, name, batch_size):
        """Windows, `stride` apart, of which each label counts once: those that the window before has not scored."""
        text, windows, start, done = self.sets[name], [], 0, 0
        while done < len(text) - 1:
            length = min(self.window, len(text) - 1 - start)
            windows.append((start, length, done - start))
            done, start = start + length, start + self.stride
        for i in range(0, len(windows), batch_size):
            group = windows[i : i + batch_size]
            inputs = torch.zeros(len(group), self.window, dtype=torch.int64, device=text.device)
            labels = torch.full_like(inputs, IGNORED)
            for row, (start, length, first) in enumerate(group):
                inputs[row, :length] = text[start : start + length]
                labels[row, first:length] = text[start + 1 + first : start + 1 + length]
            yield inputs, labels


READERS = {"mnist-density": Pixels, "words": Words}


def write_miniature(reader, folder):
    """A few made examples in the reader's files, for --smoke."""
    draw = random.Random(1)
    folder = pathlib.Path(folder)
    if reader == "mnist-density":
        for stem, count in (("train", 40), ("t10k", 16)):
            pixels = bytes(draw.randrange(60) if (i // 56) % 3 else 220 for i in range(count * 784))
            (folder / f"{stem}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 28, 28) + pixels)
        return {"validationCount": 8}
    for part, count in (("train", 60), ("valid", 20), ("test", 20)):
        lines = []
        for _ in range(count):
            first = draw.randrange(12)
            lines.append(" " + " ".join(f"w{first * i % 13}" for i in range(1, 10)) + " <unk> \n")
        (folder / f"{part}.txt").write_text("".join(lines))
    return {"window": 16, "stride": 8}
