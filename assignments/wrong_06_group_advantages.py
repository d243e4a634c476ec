"""Known wrong answers to assignment 6. See wrong.py."""

HINTS = {
    "the mean of the batch is the baseline": (
        "You subtract the mean of all groups, so a right answer to an easy question is worth as "
        "much as one to a hard question."
    ),
    "advantages without the std": (
        "You centre the rewards in set_advantages and do not divide: that is Dr.GRPO's advantage."
    ),
    "truncated responses are masked out of the loss": (
        "You give a truncated response the advantage 0. It is wrong, and shall be less likely."
    ),
    "every group gets the first one's advantages": (
        "Each group gets the first group's advantages: look at which group you read rewards from."
    ),
    "std of the batch instead of the group's": (
        "You divide by something that is not this group's std: a floor, or another group's."
    ),
    "std divides by G instead of G - 1": (
        "Your std divides by G (numpy's default, or correction=0). Ours is that of a sample: G - 1."
    ),
    "an epsilon instead of exactly 0 for a flat group": (
        "You add an epsilon to the std. Equal rewards such as 0.9, 0.9, 0.9 then leave a rounding "
        "error over another; a flat group gets exactly 0."
    ),
    "the caller's rewards are changed through a view": (
        "You subtract in place, and torch.as_tensor does not copy: the caller's rewards change."
    ),
}

SKIPPED = {}

FLAT = "if rewards.max() == rewards.min():\n        return torch.zeros_like(rewards)"

MORE = [
    (
        "zeros",
        "Every advantage is 0, so nothing is learnt.",
        "group_advantages",
        "",
        "return torch.zeros(len(rewards))",
    ),
    (
        "the rewards are the advantages",
        "Nothing is subtracted: without a baseline, right answers are made likelier and wrong "
        "ones are not made less likely.",
        "group_advantages",
        "",
        "return torch.as_tensor(rewards, dtype=torch.float32).clone()",
    ),
    (
        "a flat group is 0 / 0",
        "Equal rewards have the std 0, and 0 / 0 is nan. One nan ends a run.",
        "group_advantages",
        FLAT,
        "if False:\n        pass",
    ),
    (
        "a flat group is found by its std",
        "You ask whether the std is 0. Of 0.9, 0.9, 0.9 it is 1e-8, by rounding: compare the "
        "rewards themselves.",
        "group_advantages",
        FLAT,
        "if rewards.std() == 0 or len(rewards) == 1:\n    return torch.zeros_like(rewards)",
    ),
    (
        "a flat group is found by its std",
        "You ask whether the std is 0. Of 0.9, 0.9, 0.9 it is 1e-8, by rounding: compare the "
        "rewards themselves.",
        "group_advantages",
        FLAT,
        "if not rewards.std() > 0 :\n    return torch.zeros_like(rewards)",
    ),
    (
        "a flat group is found by its std",
        "You ask whether the std is nearly 0; of a single response it is nan, which is not.",
        "group_advantages",
        FLAT,
        "if rewards.std() < 1e-6:\n    return torch.zeros_like(rewards)",
    ),
    (
        "an epsilon instead of exactly 0 for a flat group",
        "You bound the std from below. Equal rewards such as 0.9, 0.9, 0.9 then leave a rounding "
        "error over another; a flat group gets exactly 0.",
        "group_advantages",
        FLAT,
        "if scale_by_std:\n    return (rewards - rewards.mean()) / rewards.std().clamp(min=1e-8)",
    ),
    (
        "what is correct counts, not the reward",
        "You compare `correct`. Advantages are of `reward`, which may know partial credit.",
        "set_advantages",
        "rollout.reward",
        "float(rollout.correct)",
    ),
    (
        "nothing is divided by the std",
        "You centre the rewards, but do not divide by their std.",
        "group_advantages",
        "centred / rewards.std() if scale_by_std else centred",
        "centred",
    ),
    (
        "the std is always divided by",
        "scale_by_std=False asks for centred rewards, without the std.",
        "group_advantages",
        "centred / rewards.std() if scale_by_std else centred",
        "centred / rewards.std()",
    ),
    (
        "scale_by_std is the wrong way round",
        "You divide by the std exactly when you should not.",
        "group_advantages",
        "centred / rewards.std() if scale_by_std else centred",
        "centred if scale_by_std else centred / rewards.std()",
    ),
    (
        "the mean is not subtracted",
        "You divide by the std, but subtract no mean: all advantages are positive.",
        "group_advantages",
        "rewards - rewards.mean()",
        "rewards * 1.0",
    ),
    (
        "the variance instead of the std",
        "You divide by the variance, which has the rewards' unit squared.",
        "group_advantages",
        "centred / rewards.std()",
        "centred / rewards.var()",
    ),
    (
        "the mean of the others is the baseline",
        "You subtract the mean of the other responses (leave one out, RLOO). GRPO's mean has all "
        "of the group in it.",
        "group_advantages",
        "rewards - rewards.mean()",
        "(rewards - rewards.mean()) * (len(rewards) / (len(rewards) - 1))",
    ),
    (
        "the mean of the others is the baseline",
        "You subtract the mean of the other responses (leave one out, RLOO); nothing is divided.",
        "group_advantages",
        "centred / rewards.std() if scale_by_std else centred",
        "centred * (len(rewards) / (len(rewards) - 1))",
    ),
    (
        "the median is the baseline",
        "You subtract the median; the baseline is the mean.",
        "group_advantages",
        "rewards - rewards.mean()",
        "rewards - rewards.median()",
    ),
    (
        "the sign is wrong",
        "Your advantages are the mean minus the reward: right answers would be made less likely.",
        "group_advantages",
        "rewards - rewards.mean()",
        "rewards.mean() - rewards",
    ),
    (
        "rewards are brought to 0 .. 1, or -1 .. 1",
        "You divide by the range of the rewards, not by their std.",
        "group_advantages",
        "centred / rewards.std()",
        "centred / (rewards.max() - rewards.min())",
    ),
    (
        "all responses of the batch are one group",
        "You give the advantages of all responses at once: mean and std are those of the batch.",
        "set_advantages",
        "",
        """everything = [rollout for group in groups for rollout in group]
advantages = group_advantages([rollout.reward for rollout in everything])
for rollout, advantage in zip(everything, advantages.tolist()):
    rollout.advantage = advantage""",
    ),
    (
        "the group's mean, but the std of the batch",
        "You subtract the group's mean, but divide by the std of the whole batch.",
        "set_advantages",
        "",
        """everything = torch.tensor([rollout.reward for group in groups for rollout in group])
for group in groups:
    centred = group_advantages([rollout.reward for rollout in group], False) / everything.std()
    for rollout, advantage in zip(group, centred.tolist()):
        rollout.advantage = advantage""",
    ),
    (
        "truncated responses are left out of the mean",
        "You leave truncated responses out before the mean is taken, so the group looks better "
        "than it is.",
        "set_advantages",
        "",
        """for group in groups:
    group = [rollout for rollout in group if rollout.finished]
    advantages = group_advantages([rollout.reward for rollout in group])
    for rollout, advantage in zip(group, advantages.tolist()):
        rollout.advantage = advantage""",
    ),
    (
        "the advantages are not written into the rollouts",
        "set_advantages returns nothing: each advantage must be written into its rollout.",
        "set_advantages",
        "",
        """for group in groups:
    group_advantages([rollout.reward for rollout in group])""",
    ),
]
# The same mistake with other epsilons, and without a look at flat groups.
for eps in ("1e-2", "1e-3", "1e-4", "1e-5", "1e-6", "1e-7", "1e-8", "1e-9", "1e-12"):
    for code in (
        f"return centred / (rewards.std() + {eps})",
        f"return centred / (rewards.std(correction=0) + {eps})",
    ):
        name = "an epsilon instead of exactly 0 for a flat group"
        if "correction" in code:
            name = "the std divides by G, and has an epsilon"
        MORE.append(
            (
                name,
                HINTS["an epsilon instead of exactly 0 for a flat group"]
                if "correction" not in code
                else "Your std divides by G instead of G - 1, and an epsilon is added to it.",
                "group_advantages",
                "",
                "rewards = torch.as_tensor(rewards, dtype=torch.float32)\n"
                "centred = rewards - rewards.mean()\n"
                f"if not scale_by_std:\n    return centred\n{code}",
            )
        )

WHOLE = []

RIGHT = """
import numpy as np

def spread(rewards):
    return np.std(rewards, ddof=1)

def group_advantages(rewards, scale_by_std=True):
    values = np.array([float(r) for r in rewards])
    if len(set(values.tolist())) == 1:
        return torch.zeros(len(values))
    values = values - values.mean()
    if scale_by_std:
        values = values / spread(values)
    return torch.tensor(values, dtype=torch.float32)

def set_advantages(groups):
    for group in groups:
        found = group_advantages([member.reward for member in group])
        for i, member in enumerate(group):
            member.advantage = float(found[i])
"""
