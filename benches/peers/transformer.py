"""The Transformer of a recipe's size, on its data, for as long: the peer of `node scripts/recipe.mjs`.

python3 benches/peers/transformer.py RECIPE.json --data DIR --out DIR --seconds S [--set dropout=0.2] …
python3 benches/peers/transformer.py RECIPE.json --smoke        a miniature on made data, in seconds, on the CPU

Sizes and rates are the recipe's `peer`; batch, dropout, clipping and warm-up those of the recipe itself, which also says how many
epochs are the most. The learning rate falls along half a cosine over the seconds or over those epochs, whichever end first. The clock
starts after compilation and warm-up. Weights are float32, products bf16 (autocast) or TF32, attention is PyTorch's own fused one; the
blocks are compiled, and a whole update is one CUDA graph. Where one of these cannot be had the program starts itself again without it,
and result.json says so. Validation chooses the epoch. Writes history.jsonl, result.json, best.pt.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import re
import sys
import tempfile
import time
import traceback

import torch
from torch import nn

from data import READERS, write_miniature
from model import Transformer

WARM_UP_UPDATES = 4


class Training:
    """Updates of a model on batches of one size."""

    def __init__(self, model, settings, device, use_graph):
        self.model, self.device, self.clip = model, device, settings["clip"]
        on_gpu = device.type == "cuda"
        decayed = [p for n, p in model.named_parameters() if p.dim() > 1 and "embedding" not in n and n != "positions"]
        ids = {id(p) for p in decayed}
        spared = [p for p in model.parameters() if id(p) not in ids]
        groups = [{"params": decayed, "weight_decay": settings["weightDecay"]}, {"params": spared, "weight_decay": 0.0}]
        self.lr = torch.zeros((), device=device) if on_gpu else 0.0
        self.optimizer = torch.optim.AdamW(
            groups, lr=self.lr, betas=(0.9, settings["beta2"]), eps=1e-8, fused=on_gpu, capturable=on_gpu
        )
        self.use_graph, self.graph = use_graph and on_gpu, None

    def autocast(self):
        # A graph must not keep casts of weights from one replay to the next.
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)

    def update(self, inputs, labels):
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.model(inputs, labels)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss.detach()

    def set_rate(self, lr):
        if isinstance(self.lr, torch.Tensor):
            self.lr.fill_(lr)
        for group in self.optimizer.param_groups:
            if not isinstance(group["lr"], torch.Tensor):
                group["lr"] = lr
            elif group["lr"] is not self.lr:
                group["lr"].fill_(lr)

    def prepare(self, inputs, labels):
        """Compiles, captures, and leaves the parameters as they were: the updates of the warm-up have rate 0."""
        self.model.train()
        self.inputs, self.labels = inputs.clone(), labels.clone()
        self.set_rate(0.0)
        if not self.use_graph:
            for _ in range(WARM_UP_UPDATES):
                self.update(self.inputs, self.labels)
        else:
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(WARM_UP_UPDATES):
                    self.update(self.inputs, self.labels)
            torch.cuda.current_stream().wait_stream(beside)
            torch.cuda.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss = self.update(self.inputs, self.labels)
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def __call__(self, inputs, labels, lr):
        self.set_rate(lr)
        if self.graph is None:
            return self.update(inputs, labels)
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        self.graph.replay()
        return self.loss


@torch.no_grad()
def score(training, data, name, batch_size):
    model = training.model.eval()
    total, count = torch.zeros((), dtype=torch.float64, device=training.device), 0
    for inputs, labels in data.scored(name, batch_size):
        with training.autocast():
            total += model(inputs, labels, reduction="sum").double()
        count += int((labels >= 0).sum())
    loss = (total / count).item()
    return {"loss": loss, "bitsPerDimension": loss / math.log(2), "perplexity": math.exp(min(loss, 700)), "tokens": count}


def train(training, data, settings, seconds, out):
    model, device = training.model, training.device
    batch_size, most = settings["batchSize"], settings["epochs"]
    per_epoch = min(math.ceil(data.count / batch_size), settings.get("batchesPerEpoch") or math.inf)
    warmup = max(1, round(settings["warmupEpochs"] * per_epoch))
    draw = torch.Generator().manual_seed(settings["seed"])
    history = open(out / "history.jsonl", "w")
    best, best_loss, chosen, step, scored_at, began, evaluating = None, math.inf, 0, 0, 0, time.perf_counter(), 0.0
    elapsed = lambda: time.perf_counter() - began
    # Validations are at least a fortieth of the time apart; the last one must fit into it too.
    reserve, last, ended = 0.0, 0.0, False
    apart = seconds / 40 if seconds < math.inf else 0.0
    while not ended:
        # The last batch is filled up with examples of the same order, so that all have one shape.
        order = torch.randperm(data.count, generator=draw)
        order = torch.cat([order, order[: -data.count % batch_size]]).to(device)
        sums, count = torch.zeros((), device=device), 0
        for i in range(per_epoch):
            part = max(elapsed() / max(seconds - reserve, 1e-9), step / (most * per_epoch))
            ended = part >= 1
            if ended:
                break
            factor = (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * part))
            inputs, labels = data.batch(order[i * batch_size : (i + 1) * batch_size])
            sums += training(inputs, labels, settings["lr"] * factor)
            step, count = step + 1, count + 1
            # The host must not run ahead of the clock.
            if count % 16 == 0 and device.type == "cuda":
                torch.cuda.synchronize()
        if count == 0 and scored_at == step:
            break
        entry = {"epoch": round(step / per_epoch, 2), "step": step, "loss": (sums / count).item() if count else None}
        if step > 0 and (ended or elapsed() - last >= apart):
            at = elapsed()
            entry["validation"] = found = score(training, data, "validation", settings["testBatchSize"])
            model.train()
            last, scored_at = elapsed(), step
            evaluating, reserve = evaluating + last - at, max(reserve, 1.2 * (last - at))
            if found["loss"] < best_loss:
                best_loss, best = found["loss"], {n: v.clone() for n, v in model.state_dict().items()}
                chosen = entry["epoch"]
        entry["seconds"] = round(elapsed(), 2)
        history.write(json.dumps(entry) + "\n")
        history.flush()
        print(json.dumps(entry), flush=True)
    took = elapsed()
    model.load_state_dict(best)
    torch.save(best, out / "best.pt")
    tokens = step * batch_size * data.length
    return {
        "epochs": round(step / per_epoch, 2),
        "steps": step,
        "timeSteps": tokens,
        "chosenEpoch": chosen,
        "seconds": round(took, 2),
        "millisecondsPerStep": round(1000 * (took - evaluating) / step, 3),
        "validation": best_loss,
    }


def again(args, flag, note):
    """Starts this program anew with one thing less; what failed is on stderr."""
    traceback.print_exc()
    print(f"{note} failed; once more without it", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), *sys.argv[1:], flag])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data")
    parser.add_argument("--out")
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--set", action="append", default=[], help="a setting of the peer or of the training, name=value")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", action="store_true", help="prints the number of parameters alone; needs the data")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--no-graph", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    if args.smoke:
        torch.set_num_threads(1)
    recipe = json.loads(pathlib.Path(args.recipe).read_text())
    settings = {"clip": 0, "warmupEpochs": 1, "testBatchSize": 64, "beta2": 0.98, "seed": recipe["seed"]}
    settings |= {name: recipe["model"][name] for name in ("features", "dropout")} | recipe["train"] | recipe["peer"]
    reading = dict(recipe["data"])
    scratch = tempfile.TemporaryDirectory() if args.smoke else None
    if args.smoke:
        reading |= write_miniature(reading["reader"], scratch.name)
        settings |= {"features": 16, "layers": 2, "heads": 2, "inner": 32, "epochs": 2, "batchSize": 8, "testBatchSize": 8, "batchesPerEpoch": 3}
    for pair in args.set:
        name, text = pair.split("=", 1)
        # A number may begin with its point. What begins like a value and is none is refused.
        settings[name] = json.loads(re.sub(r"^-?(?=\.)", r"\g<0>0", text)) if text[:1] in "-.0123456789tfn" else text
    device = torch.device(args.device)
    data = READERS[reading["reader"]](args.data or scratch.name, device, **reading)
    torch.manual_seed(settings["seed"])
    sizes = {name: settings[name] for name in ("features", "layers", "heads", "inner", "dropout", "positions")}
    model = Transformer(data.vocabulary, data.length, **sizes).to(device)
    if args.count:
        print(model.count())
        return
    out = pathlib.Path(args.out or scratch.name)
    out.mkdir(parents=True, exist_ok=True)
    training = Training(model, settings, device, use_graph=not args.no_graph)
    began = time.perf_counter()
    if not args.no_compile:
        model.compile_training()
    first = data.batch(torch.arange(settings["batchSize"], device=device) % data.count)
    try:
        training.prepare(*first)
    except Exception:
        if not args.no_graph and device.type == "cuda":
            again(args, "--no-graph", "the CUDA graph")
        if not args.no_compile:
            again(args, "--no-compile", "torch.compile")
        raise
    prepared = time.perf_counter() - began
    print(json.dumps({"parameters": model.count(), "preparedSeconds": round(prepared, 2)}), flush=True)
    ran = train(training, data, settings, args.seconds, out)
    test = score(training, data, "test", settings["testBatchSize"])
    result = {
        "peer": "transformer",
        "recipe": pathlib.Path(args.recipe).stem,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "compiled": not args.no_compile,
        "graph": training.graph is not None,
        "parameters": model.count(),
        "settings": settings,
        "vocabulary": data.vocabulary,
        "preparedSeconds": round(prepared, 2),
        **ran,
        "tests": {"test": test},
    }
    (out / "result.json").write_text(json.dumps(result, indent=1))
    print(json.dumps({"event": "end", **test, "epochs": ran["epochs"], "parameters": model.count()}), flush=True)


if __name__ == "__main__":
    main()
