#!/usr/bin/env python3
"""Makes dates.safetensors: trains the first paper's model to read written dates.

    python3 -m venv venv
    venv/bin/pip install numpy==2.4.6 safetensors==0.8.0 torch==2.15.0
    venv/bin/python make_dates.py [FOLDER]

The model is that of Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to
Align and Translate" (2014), small and over letters: an encoder that reads both ways (GRU), a
decoder (GRU), and between them additive attention, score = w^T tanh(W s + U h). It reads "the 3rd
of May 1979" and writes "1979-05-03". It is told to look at few letters, but not at which.

It trains on one thread from fixed seeds. Another processor may round otherwise and end at another
model; so the file keeps what the model computed, and the script fails if fp64 is further than 1e-6
from that.
"""

import datetime
import json
import pathlib
import random
import sys

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from write_safetensors import save

SEED = 1979
STEPS, BATCH = 600, 64
SHARPNESS = 0.006  # what a nat of the weights' entropy costs: look at few letters, whichever
HELD_OUT = 2000  # days that no training text is about
LIMIT = 1e-6

FIRST, DAYS = datetime.date(1930, 1, 1), 36525  # up to 2029: two digits name one year
INPUT = " ',-." + "0123456789" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "abcdefghijklmnopqrstuvwxyz"
OUTPUT = "-0123456789"
LETTERS = 10  # of "1979-05-03"

EMBEDDING, ENCODER, DECODER, ALIGN = 16, 16, 32, 16  # ENCODER: each way

SHOWN = [  # day, its spelling; none of these days is in the training texts
    ("1979-05-03", "the 3rd of May 1979"),
    ("1979-05-03", "May 3, 1979"),
    ("1979-05-03", "3 May 79"),
    ("1979-05-03", "Thu 3 May 1979"),
    ("2014-09-01", "September 1, 2014"),
    ("2014-09-01", "1st Sep '14"),
    ("1969-07-20", "20 July 1969"),
    ("1969-07-20", "July 20th, 1969"),
    ("1989-11-09", "9th of Nov 1989"),
    ("2000-02-29", "29 Feb 2000"),
    ("1937-12-26", "26 December 37"),
    ("2026-06-30", "the 30th of June 26"),
]


def ordinal(day):
    end = {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{'th' if 11 <= day <= 13 else end}"


def spell(date, rng):
    """One of the ways in which people write a day."""
    month = date.strftime(rng.choice(["%B", "%B", "%b"]))
    year = rng.choice([f"{date.year}"] * 3 + [f"{date:%y}", f"'{date:%y}"])
    day, nth = str(date.day), ordinal(date.day)
    text = rng.choice(
        [
            f"the {nth} of {month} {year}",
            f"{nth} of {month} {year}",
            f"{nth} {month} {year}",
            f"{day} {month} {year}",
            f"{day} {month} {year}",
            f"{month} {day}, {year}",
            f"{month} {day}, {year}",
            f"{month} {nth}, {year}",
            f"{month} {day} {year}",
        ]
    )
    return f"{date:%a} {text}" if rng.random() < 0.15 else text


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.read = nn.Embedding(len(INPUT) + 1, EMBEDDING, padding_idx=len(INPUT))
        self.encoder = nn.GRU(EMBEDDING, ENCODER, batch_first=True, bidirectional=True)
        self.start = nn.Linear(ENCODER, DECODER)
        self.query = nn.Linear(DECODER, ALIGN, bias=False)
        self.key = nn.Linear(2 * ENCODER, ALIGN, bias=False)
        self.w = nn.Parameter(torch.randn(ALIGN) / ALIGN**0.5)
        self.written = nn.Embedding(len(OUTPUT) + 1, EMBEDDING)
        self.decoder = nn.GRUCell(EMBEDDING + 2 * ENCODER, DECODER)
        self.write = nn.Linear(DECODER + 2 * ENCODER, len(OUTPUT))

    def forward(self, texts, targets=None):
        """Scores of the letters written; beside them queries, keys, values, weights, contexts.

        With targets the next letter follows the right one, else the one that was written."""
        lengths = torch.tensor([len(text) for text in texts])
        letters = torch.full((len(texts), int(lengths.max())), len(INPUT))
        for row, text in zip(letters, texts):
            row[: len(text)] = torch.tensor([INPUT.index(letter) for letter in text])
        packed = pack_padded_sequence(
            self.read(letters), lengths, batch_first=True, enforce_sorted=False
        )
        values, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True)
        hidden = letters == len(INPUT)
        keys = self.key(values)
        state = torch.tanh(self.start(values[:, 0, ENCODER:]))
        last = torch.full((len(texts),), len(OUTPUT))
        steps = []
        for i in range(LETTERS):
            query = self.query(state)
            scores = torch.tanh(query[:, None] + keys) @ self.w
            weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
            context = (weights[:, None] @ values)[:, 0]
            state = self.decoder(torch.cat([self.written(last), context], -1), state)
            letter = self.write(torch.cat([state, context], -1))
            last = letter.argmax(-1) if targets is None else targets[:, i]
            steps.append((letter, query, weights, context))
        out, queries, weights, contexts = (torch.stack(x, 1) for x in zip(*steps))
        return out, {"q": queries, "k": keys, "v": values, "weights": weights, "context": contexts}


def encode(dates):
    return torch.tensor([[OUTPUT.index(letter) for letter in str(date)] for date in dates])


def train(model, dates, rng):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, STEPS)
    for step in range(STEPS):
        batch = rng.sample(dates, BATCH)
        targets = encode(batch)
        out, seen = model([spell(date, rng) for date in batch], targets)
        loss = nn.functional.cross_entropy(out.flatten(0, 1), targets.flatten())
        entropy = torch.special.entr(seen["weights"] + 1e-9).sum(-1).mean()
        (loss + SHARPNESS * entropy).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step + 1 == STEPS:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)


def read(model, texts):
    with torch.no_grad():
        out, seen = model(texts)
    return ["".join(OUTPUT[x] for x in row) for row in out.argmax(-1)], seen


def accuracy(model, dates, rng):
    right = 0
    for begin in range(0, len(dates), 250):
        some = dates[begin : begin + 250]
        answers, _ = read(model, [spell(date, rng) for date in some])
        right += sum(answer == str(date) for answer, date in zip(answers, some))
    return right


def check(t, w):
    """The largest difference of fp64 attention from what the model computed."""
    q, k, v = (t[x][0, 0].astype(np.float64) for x in "qkv")
    s = np.tanh(q[:, None] + k[None]) @ w.astype(np.float64)
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return max(np.abs(p - t["weights"][0, 0]).max(), np.abs(p @ v - t["context"][0, 0]).max())


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    torch.set_num_threads(1)  # one order of summation
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    days = [FIRST + datetime.timedelta(n) for n in range(DAYS)]
    shown = {datetime.date.fromisoformat(day) for day, _ in SHOWN}
    others = [day for day in days if day not in shown]
    held_out = set(rng.sample(others, HELD_OUT - len(shown))) | shown
    model = Model()
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    train(model, [day for day in days if day not in held_out], rng)
    right = accuracy(model, sorted(held_out), rng)
    print(f"held-out days: {right} of {len(held_out)} read without a wrong letter")

    w = model.w.detach().numpy()
    tensors = {"w": w.reshape(1, 1, 1, ALIGN)}
    for i, (day, text) in enumerate(SHOWN):
        (answer,), seen = read(model, [text])
        assert answer == day, (text, answer)
        found = {name: x.numpy()[:, None].copy() for name, x in seen.items()}
        difference = check(found, w)
        assert difference <= LIMIT, difference
        tensors.update({f"date{i}.{name}": x for name, x in found.items()})
        print(f"{text}: {answer}, fp64 differs by {difference:.2g}")
        for letter, row in zip(answer, found["weights"][0, 0]):
            print("  ", letter, " ".join(f"{a}{100 * x:.0f}" for a, x in zip(text, row) if x > 0.03))
    metadata = {
        "license": "Apache-2.0",
        "held_out.days": str(len(held_out)),
        "held_out.right": str(right),
        "written": json.dumps([text for _, text in SHOWN]),
        "iso": json.dumps([day for day, _ in SHOWN]),
    }
    save(folder / "dates.safetensors", tensors, metadata)


if __name__ == "__main__":
    main()
