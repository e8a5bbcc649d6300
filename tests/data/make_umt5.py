# SPDX-License-Identifier: Apache-2.0
"""Makes umt5/: a tiny UMT5 encoder and its tokenizer in three layouts, and what transformers makes of some prompts.

    python3 tests/data/make_umt5.py tests/data     (torch 2.15, transformers 5.24, sentencepiece 0.2, safetensors, ftfy 6.3)

umt5/wan/             as diffusers lays it out: text_encoder/ of two shards (fp32, fp16) with index and config, tokenizer/
umt5/original/        as Wan's own code does: models_t5_...pth (bf16), google/umt5-xxl/spiece.model
umt5/comfy.safetensors  one file (bf16) that embeds the tokenizer as the tensor spiece_model
umt5.safetensors      prompts as metadata (prompt.N), ids.N, context.N of transformers in fp32, context_bf16.N of its bf16
All weights are numbers that bf16 and fp16 hold exactly, so that the three are one model.
"""
import io
import json
import os
import random
import sys

import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

from reference import LENGTH, clean, text_name, tokenize

folder = sys.argv[1]
PROMPTS = [
    "a cat on a skateboard",
    "",
    "一只猫，坐在滑板上。（特写）　电影感",
    "“Curly” quotes &amp; caf\u0065\u0301, ﬁne <b>html&lt;/b>\n  two   lines",
    "unseen: ŷ 🎬 ζ",
    "a </s> b<pad>c",
    " ".join(f"a {c} {s} moves {d}" for c in ("red", "blue", "green") for s in ("cat", "dog", "boat")
             for d in ("left", "right", "up")),
    "the rain falls on a quiet street, a boat and a dog " * 40,
]


def train_tokenizer():
    random.seed(5)
    words = ("a the cat dog boat street rain moves falls sits on in over left right up down red blue green quiet light "
             "skateboard film camera slowly wide shot of and quotes lines html fine").split()
    text = [" ".join(random.choices(words, k=random.randint(4, 12))) for _ in range(600)]
    text += ["一只猫坐在滑板上", "一只狗在街上", "电影感 特写", "雨 落 在 街 上"] * 20
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=model, vocab_size=420, model_type="unigram", pad_id=0, eos_id=1,
        bos_id=-1, unk_id=2, byte_fallback=True, normalization_rule_name="identity", hard_vocab_limit=False,
        character_coverage=1.0, minloglevel=2)
    return model.getvalue()


def make_model(vocab):
    torch.manual_seed(11)
    config = UMT5Config(vocab_size=vocab, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=3,
                        relative_attention_num_buckets=32, relative_attention_max_distance=128,
                        feed_forward_proj="gated-gelu", layer_norm_epsilon=1e-6, dropout_rate=0.0)
    model = UMT5EncoderModel(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "bias" in name:
                p.normal_(0, 2)
            elif p.dim() == 1:
                p.normal_(1, 0.2)
            else:
                p.normal_(0, 1 if "shared" in name or "embed" in name else 1.3 / p.shape[1] ** 0.5)
            p[p.abs() < 1e-3] = 0
            p.copy_(p.bfloat16().float())
    return config, model


def save(path, tensors):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path, metadata={"format": "pt"})


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


spiece = train_tokenizer()
processor = sentencepiece.SentencePieceProcessor(model_proto=spiece)
config, model = make_model(processor.get_piece_size() + 4)
weights = {k: v for k, v in model.state_dict().items() if k != "encoder.embed_tokens.weight"}

# diffusers' layout
where = f"{folder}/umt5/wan"
names = sorted(weights)
shards = {"model-00001-of-00002.safetensors": {k: weights[k].float() for k in names if "block.1" in k},
          "model-00002-of-00002.safetensors": {k: weights[k].half() for k in names if "block.1" not in k}}
for name, tensors in shards.items():
    save(f"{where}/text_encoder/{name}", tensors)
index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for s in shards.values() for t in s.values())},
         "weight_map": {k: name for name, tensors in shards.items() for k in tensors}}
write(f"{where}/text_encoder/model.safetensors.index.json", json.dumps(index, indent=0).encode())
keep = ("architectures", "d_ff", "d_kv", "d_model", "feed_forward_proj", "layer_norm_epsilon", "model_type", "num_heads",
        "num_layers", "relative_attention_max_distance", "relative_attention_num_buckets", "vocab_size")
small = {k: v for k, v in config.to_dict().items() if k in keep} | {"architectures": ["UMT5EncoderModel"]}
write(f"{where}/text_encoder/config.json", json.dumps(small, indent=1).encode() + b"\n")
write(f"{where}/tokenizer/spiece.model", spiece)
write(f"{where}/model_index.json", b'{"_class_name": "WanPipeline"}\n')

# the original's
turned = ("shared.weight", "encoder.embed_tokens.weight")
transposed = lambda v: v.t().contiguous().t()
torch.save({text_name(k): (transposed(v) if k in turned or k.endswith("Attention.q.weight") else v).detach().bfloat16()
            for k, v in weights.items()},  # some with strides of their own
           f"{folder}/umt5/original/models_t5_umt5-xxl-enc-bf16.pth")
write(f"{folder}/umt5/original/google/umt5-xxl/spiece.model", spiece)

# ComfyUI's
save(f"{folder}/umt5/comfy.safetensors", {k: v.bfloat16() for k, v in weights.items()} |
     {"spiece_model": torch.frombuffer(bytearray(spiece), dtype=torch.uint8)})

goldens, metadata = {}, {"count": str(len(PROMPTS))}
low = UMT5EncoderModel(config).eval()
low.load_state_dict(model.state_dict())
low = low.bfloat16()
for i, prompt in enumerate(PROMPTS):
    ids = tokenize(processor, prompt)
    with torch.no_grad():
        exact = model(torch.tensor([ids])).last_hidden_state[0]
        rough = low(torch.tensor([ids])).last_hidden_state[0].float()
    step = 1 if len(ids) < 200 else 64  # of long ones only some rows are kept
    goldens |= {f"ids.{i}": torch.tensor(ids, dtype=torch.int32), f"context.{i}": exact[::step],
                f"context_bf16.{i}": rough[::step].bfloat16()}
    metadata[f"prompt.{i}"] = prompt
    print(f"{len(ids)} tokens, bf16 {((rough - exact).norm() / exact.norm()).item():.2e}: {clean(prompt)[:60]!r}")
goldens["context"] = goldens["context.0"]  # what `nabla encode` calls it
save_file({k: v.detach().clone().contiguous() for k, v in goldens.items()}, f"{folder}/umt5.safetensors",
          metadata=metadata)
