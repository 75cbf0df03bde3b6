#!/usr/bin/env python3
"""What a softmax model recalls over 8K tokens, by transformers and PyTorch (a reference beside docs/results/long-base.md).

    python3 scripts/evaluate_recall.py FOLDER books-test.jsonl.xz [cuda]

Prints one JSON line: bits per byte in rows of 8192 tokens and of the same books in windows of 1024 at stride 128; by each 1024
tokens of the long rows; nats of far pairs (the pair of tokens stood last 256-1K, 1-4K, 4-8K tokens before); nats of the last 48 of
64 tokens of a passage from elsewhere that stands at the row's end, never before, and 512, 2048 and 6144 tokens before.
"""
import json, lzma, math, sys
import torch, torch.nn.functional as F
from transformers import AutoModelForCausalLM
from tokenizers import Tokenizer
folder, test = sys.argv[1:3]; dev = sys.argv[3] if len(sys.argv) > 3 else "cuda"
m = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(dev).eval()
tk = Tokenizer.from_file(folder + "/tokenizer.json"); N = 8192; V = 8192
texts = [json.loads(l)["text"] for l in lzma.open(test, "rt")]
docs = [torch.tensor([0] + tk.encode(t, add_special_tokens=False).ids) for t in texts]
per = sum(len(t.encode()) for t in texts) / sum(len(d) - 1 for d in docs)
@torch.no_grad()
def nll(r):
    h = m.model(r[:, :-1]).last_hidden_state; out = []
    for c in range(0, h.shape[1], 2048):
        lo = m.lm_head(h[:, c:c + 2048]).float(); out.append(F.cross_entropy(lo.flatten(0, 1), r[:, 1 + c:1 + c + lo.shape[1]].flatten(), reduction="none").view(r.shape[0], -1))
    return torch.cat(out, 1)
rs = torch.cat([torch.stack([a[i:i + N + 1] for i in range(0, len(a) - N - 1, N)]) for a in docs])
tot = torch.zeros(8, device=dev); cnt = 0; far = torch.zeros(3, device=dev, dtype=torch.double); nf = torch.zeros(3, device=dev); lim = [256, 1024, 4096, 8192]
i = torch.arange(N, device=dev)
for ri in range(0, len(rs), 4):
    r = rs[ri:ri + 4].to(dev); ce = nll(r)
    for c in range(8): tot[c] += ce[:, c * 1024:(c + 1) * 1024].sum()
    cnt += ce.numel()
    for j in range(r.shape[0]):
        pair = r[j, :-1] * V + r[j, 1:]; eq = (pair[:, None] == pair[None]) & (i[:, None] > i)
        d = torch.where(eq, i[:, None] - i, torch.full((), 10 ** 6, device=dev)).min(-1).values; late = i >= 1024
        for x in range(3): f = (d > lim[x]) & (d <= lim[x + 1]) & late; far[x] += ce[j][f].sum(); nf[x] += f.sum()
bits = (tot.sum() / cnt / math.log(2) / per).item()
# the same tokens in windows of 1024 at stride 128
s = 0.; n = 0
for a in docs:
    rows = [a[max(0, b - 1023 + 128):b + 129] for b in range(1024 - 128, len(a) - 129, 128)]
    rows = torch.stack([x for x in rows if len(x) == 1024])
    for k in range(0, len(rows), 64): c = nll(rows[k:k + 64].to(dev))[:, -128:]; s += c.sum().item(); n += c.numel()
rep = []
for gap in (None, 512, 2048, 6144):
    x = rs.clone(); g = torch.Generator().manual_seed(5); p2 = N - 80
    for r in range(len(x)):
        o = rs[(r + len(x) // 2) % len(x)]; st = int(torch.randint(0, N - 64, (1,), generator=g)); x[r, p2:p2 + 64] = o[st:st + 64]
        if gap: x[r, p2 - gap:p2 - gap + 64] = o[st:st + 64]
    t = 0.
    for ri in range(0, len(x), 4): t += nll(x[ri:ri + 4].to(dev))[:, p2 + 15:p2 + 63].sum().item()
    rep.append(t / len(x) / 48)
print(json.dumps(dict(folder=folder, bits_8k=bits, bits_1k_stride128=s / n / math.log(2) / per, by_1k=[round((t / (cnt / 8) / math.log(2) / per).item(), 4) for t in tot], far=[round((a / b).item(), 4) for a, b in zip(far, nf)], repeated_never_512_2k_6k=[round(t, 4) for t in rep])))
