#!/usr/bin/env python3
"""Draws docs/results/state.svg from docs/results/state.json: what a state of each size is worth.

    scripts/plot_state.py docs/results/state.json -o docs/results/state.svg

Needs matplotlib (3.10 was used).
"""
import argparse
import json

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "linnet", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10})
import matplotlib.pyplot as plt  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("table")
parser.add_argument("-o", required=True)
options = parser.parse_args()
table = json.load(open(options.table))
figure, (loss, far) = plt.subplots(2, 1, figsize=(7.2, 7.2), sharex=True)
for series, colour in zip(table["series"], ["#888888", "#1f6fb4", "#c4502c"]):
    x = [p["share"] for p in series["points"]]
    loss.plot(x, [p["loss"] for p in series["points"]], "o-", color=colour, label=series["name"], markersize=4)
    for distance, style in zip(("512", "2048", "6144"), (":", "--", "-")):
        far.plot(x, [p["passages"][distance] for p in series["points"]], "o" + style, color=colour, markersize=3,
                 label=f"{series['name']}, {distance} tokens back")
loss.set_xscale("log")
loss.set_yscale("log")
ticks = [1, 2, 3, 4, 5, 7.5, 10, 20, 50]
loss.set_xticks(ticks, [f"{t:g}%" for t in ticks])
loss.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
loss.axhline(0.1, color="#bbbbbb", linewidth=0.8)
loss.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda y, _: f"+{y:g}%"))
loss.set_title("Loss of text in rows of 8192 tokens over the base's", fontsize=10, loc="left")
loss.legend(fontsize=8)
far.set_title("Of the base's gain on a passage that comes again, percent kept", fontsize=10, loc="left")
far.set_xlabel("state, share of the softmax cache after 8192 tokens")
far.legend(fontsize=7, handlelength=3.5)
for axes in (loss, far):
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
figure.tight_layout()
figure.savefig(options.o, metadata={"Date": None})
