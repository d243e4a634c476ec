"""Draws clip.svg, the picture of section 2, from the loss itself.

python reading/draw_clip.py
"""

import sys
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from grpo import policy_loss


def main():
    matplotlib.rcParams.update({"svg.hashsalt": "clip", "font.size": 11})
    figure, panels = plt.subplots(1, 2, figsize=(6.4, 3.0), layout="constrained")
    ratios = torch.linspace(0.4, 1.8, 141)
    one = torch.ones(1)
    for panel, advantage in zip(panels, (1.0, -1.0)):
        losses = [policy_loss(r.log()[None], 0 * one, advantage * one, one)[0] for r in ratios]
        panel.plot(ratios, [-loss for loss in losses], color="#1b6e3c", linewidth=2.5)
        panel.plot(ratios, advantage * ratios, color="#888888", linestyle=":", zorder=0)
        edge, words = (1.28, "1 + eps_high") if advantage > 0 else (0.8, "1 - eps_low")
        panel.axvline(edge, color="#b03030", linewidth=1)
        side = "right" if advantage > 0 else "left"
        panel.text(edge, panel.get_ylim()[0], f" {words} ", ha=side, va="bottom")
        panel.set_title(f"A = {advantage:+.0f}")
        panel.set_xlabel("ratio r")
    panels[0].set_ylabel("surrogate")
    figure.savefig(FOLDER / "clip.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
