"""Makes tiny FLASH models (docs/flash.md) and what their formulas give, written down slowly.

    python3 make_flash.py OUT [NAME…]   needs torch, safetensors; CPU, seconds; all models, or these
    python3 make_flash.py --peer        also needs FLASH-pytorch, einops, rotary-embedding-torch: one layer of
                                        each must give the same

The same files as make_hf.py's, whose head says what each tensor is. Nobody ships FLASH in transformers: the
authority is this file, in float64. Every attention here is its quadratic form, weights of all pairs of tokens
under a mask: what groups, states and sums over groups compute must come to the same.
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file

from ten_steps import OPTIMIZER, ten_losses

VOCABULARY, LENGTH, PROMPT, NEW = 160, 48, 8, 24

# Sizes that no vector's length divides.
FIELDS = dict(architectures=["FlashForCausalLM"], model_type="flash", vocab_size=VOCABULARY, hidden_size=20,
              num_hidden_layers=3, intermediate_size=38, head_dim=14, max_position_embeddings=64, norm_eps=1e-5,
              norm_type="scale_norm", rope_theta=10000.0, tie_word_embeddings=False, bos_token_id=1,
              eos_token_id=2, torch_dtype="float32")

MODELS = {
    "flash-softmax": dict(norm_type="layer_norm", tie_word_embeddings=True),
    # One group holds all: relu² of every earlier token, the quadratic form of FLASH.
    "flash-quadratic": dict(norm_type="rms_norm", linear_attention=dict(method="flash_local", group=64)),
    "flash-mixed": dict(partial_rotary_factor=3 / 7, linear_attention=dict(method="flash", group=7, alpha=1)),
    "flash-augmented": dict(linear_attention=dict(
        method="flash", group=5, local_groups=2, sinks=3, taps=4, decay="learned", feature_position="none")),
}


class Flash:
    def __init__(self, config, seed):
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        normal = lambda *shape, scale, middle=0.0: (
            middle + scale * torch.randn(*shape, generator=generator)).float().double().requires_grad_()
        d, e, s = config["hidden_size"], config["intermediate_size"], config["head_dim"]
        linear = config.get("linear_attention", {})
        scale = 0.3 if config["tie_word_embeddings"] else 1.0
        weights = {"model.embed_tokens.weight": normal(VOCABULARY, d, scale=scale)}

        def norm(name):
            size = 1 if config["norm_type"] == "scale_norm" else d
            weights[name + ".weight"] = normal(size, scale=0.1, middle=1.0)
            if config["norm_type"] == "layer_norm":
                weights[name + ".bias"] = normal(size, scale=0.1)

        for i in range(config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            norm(layer + "input_norm")
            for name, out, into in (("z", s, d), ("v", e, d), ("u", e, d), ("o", d, e)):
                weights[f"{layer}gau.{name}_proj.weight"] = normal(out, into, scale=2 / into**0.5)
            weights[layer + "gau.affine.weight"] = normal(4 * s, scale=0.5, middle=1.0)
            weights[layer + "gau.affine.bias"] = normal(4 * s, scale=0.3)
            added = layer + "gau.linear_attention."
            if linear.get("method") == "flash" and "alpha" not in linear:
                weights[added + "alpha"] = normal(1, scale=0.2, middle=1.0)
            if linear.get("decay") == "learned":
                weights[added + "decay"] = normal(1, scale=0.5, middle=1.0)
            if linear.get("taps"):
                weights[added + "taps"] = normal(1, linear["taps"], e, scale=0.3)
        norm("model.norm")
        if not config["tie_word_embeddings"]:
            weights["lm_head.weight"] = normal(VOCABULARY, d, scale=1 / d**0.5)
        self.weights = weights

    def normed(self, x, name):
        gain, eps = self.weights[name + ".weight"], self.config["norm_eps"]
        if self.config["norm_type"] == "layer_norm":
            x = x - x.mean(-1, keepdim=True)
            return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain + self.weights[name + ".bias"]
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain

    def rotated(self, x):
        size = self.config["head_dim"]
        half = round(size * self.config.get("partial_rotary_factor", 1.0)) // 2
        inverse = self.config["rope_theta"] ** (-torch.arange(half).double() / half)
        angle = torch.arange(len(x)).double()[:, None] * inverse
        a, b = x[:, :half], x[:, half:2 * half]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin(), x[:, 2 * half:]], -1)

    def attention(self, q, k, summary_q, summary_k, v, added):
        """The rows of weights times the values: [n, e]."""
        linear, n = self.config.get("linear_attention"), len(v)
        scores = q @ k.T / q.shape[1] ** 0.5
        position = torch.arange(n)
        earlier = position[:, None] >= position[None, :]
        if linear is None:
            return scores.masked_fill(~earlier, -torch.inf).softmax(-1) @ v
        group, window = linear["group"], linear.get("local_groups", 1)
        distance = (position // group)[:, None] - (position // group)[None, :]
        sink = position[None, :] < linear.get("sinks", 0)
        local = earlier & ((distance < window) | sink)
        out = (scores.relu().square() * local / group) @ v
        if linear["method"] == "flash":
            far = (distance >= window) & ~sink
            count = far.sum(-1, keepdim=True).clamp(min=1)
            weight = (summary_q @ summary_k.T) * far / count
            if "decay" in linear:
                weight = weight * self.weights[added + "decay"].sigmoid() ** (distance - window).clamp(min=0)
            out = out + self.weights.get(added + "alpha", 1.0) * (weight @ v)
        for j in range(linear.get("taps", 0)):
            past = torch.cat([torch.zeros(j, v.shape[1]).double(), v[:n - j]])
            out = out + self.weights[added + "taps"][0, j] * past
        return out

    def logits(self, ids):
        weights, size = self.weights, self.config["head_dim"]
        silu = torch.nn.functional.silu
        x = weights["model.embed_tokens.weight"][ids]
        linear = self.config.get("linear_attention", {})
        for i in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            y = self.normed(x, layer + "input_norm")
            z, v, u = (silu(y @ weights[f"{layer}gau.{name}_proj.weight"].T) for name in "zvu")
            maps = z[:, None] * weights[layer + "gau.affine.weight"].view(4, size) \
                + weights[layer + "gau.affine.bias"].view(4, size)
            q, k = self.rotated(maps[:, 0]), self.rotated(maps[:, 1])
            far = [maps[:, 2], maps[:, 3]]
            if linear.get("feature_position") != "none":
                far = [self.rotated(one) for one in far]
            out = self.attention(q, k, *far, v, layer + "gau.linear_attention.")
            x = x + (u * out) @ weights[layer + "gau.o_proj.weight"].T
        head = "model.embed_tokens.weight" if self.config["tie_word_embeddings"] else "lm_head.weight"
        return self.normed(x, "model.norm") @ weights[head].T

    def loss(self, ids):
        return torch.nn.functional.cross_entropy(self.logits(ids)[:-1], ids[1:])


def make(name, folder):
    seed = sum(name.encode())
    config = FIELDS | MODELS[name]
    model = Flash(config, seed)
    ids = torch.randint(3, VOCABULARY, (LENGTH,), generator=torch.Generator().manual_seed(seed))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({n: w.detach().float() for n, w in model.weights.items()}, folder / "model.safetensors",
              {"format": "pt"})
    tensors = {"input_ids": ids, "prompt": ids[:PROMPT].clone(), "logits": model.logits(ids).detach().float()}
    text = ids[:PROMPT].tolist()
    while len(text) < PROMPT + NEW:
        text.append(model.logits(torch.tensor(text))[-1].argmax().item())
    tensors["greedy"] = torch.tensor(text[PROMPT:])
    model.loss(ids).backward()
    for n, w in model.weights.items():
        tensors[f"gradient.{n}"] = w.grad.float()
    losses = tensors["losses"] = ten_losses(model.weights.values(), lambda _: model.loss(ids))
    metadata = {k: repr(v) for k, v in OPTIMIZER.items()} | {"torch": torch.__version__}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "golden.safetensors", metadata)
    print(f"{name:18s} losses {losses[0]:.4f} … {losses[-1]:.4f}  greedy {text[PROMPT:]}")


def compare_with_peer():
    """One layer of FLASH-pytorch under its weights, on two groups: with more it sums what is divided here."""
    from flash_pytorch.flash_pytorch import FLASH, ScaleNorm
    from rotary_embedding_torch import RotaryEmbedding
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    d, s, turned, group, n = 24, 16, 8, 6, 12
    peer = FLASH(dim=d, group_size=group, query_key_dim=s, causal=True, norm_klass=ScaleNorm,
                 rotary_pos_emb=RotaryEmbedding(dim=turned))
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if not name.endswith("freqs"):
                parameter.copy_(torch.randn(parameter.shape) * 0.5)
        peer.rel_pos_bias.relative_attention_bias.weight.zero_()
        for linear in (peer.to_hidden[0], peer.to_qk[0], peer.to_out):
            linear.bias.zero_()
        e = peer.to_out.in_features
        config = FIELDS | dict(hidden_size=d, intermediate_size=e, head_dim=s, num_hidden_layers=1,
                               partial_rotary_factor=turned / s,
                               linear_attention=dict(method="flash", group=group, alpha=1))
        ours, w, layer = Flash(config, 1), {}, "model.layers.0."
        # It turns neighbours, where halves are turned here; and its scores are divided by the group, squared.
        order = torch.cat([torch.arange(0, turned, 2), torch.arange(1, turned, 2), torch.arange(turned, s)])
        scale = torch.tensor([(s / group) ** 0.5, 1, 1, 1])[:, None]
        stands = [0, 2, 1, 3]  # its order is local q, far q, local k, far k
        w[layer + "input_norm.weight"] = peer.norm.g
        w[layer + "gau.z_proj.weight"] = peer.to_qk[0].weight[order]
        w[layer + "gau.v_proj.weight"], w[layer + "gau.u_proj.weight"] = peer.to_hidden[0].weight.chunk(2)
        w[layer + "gau.o_proj.weight"] = peer.to_out.weight
        for part, of in (("weight", peer.qk_offset_scale.gamma), ("bias", peer.qk_offset_scale.beta)):
            w[layer + "gau.affine." + part] = (of[stands][:, order] * scale).flatten()
        x = torch.randn(n, d)
        w["model.embed_tokens.weight"], w["lm_head.weight"] = x, torch.eye(d)
        w["model.norm.weight"] = torch.ones(1)
        ours.weights = w
        ours.config["norm_eps"] = 0.0
        wanted = ours.normed(peer(x[None])[0], "model.norm")
        error = (ours.logits(torch.arange(n)) - wanted).norm() / wanted.norm()
    print(f"against FLASH-pytorch: relative error {error:.2e}")
    assert error < 1e-6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, nargs="?")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of models; all where none is given")
    parser.add_argument("--peer", action="store_true")
    given = parser.parse_args()
    for name in (given.names or MODELS) if given.out else []:
        shutil.rmtree(given.out / name, ignore_errors=True)
        (given.out / name).mkdir(parents=True)
        make(name, given.out / name)
    if given.peer:
        compare_with_peer()
