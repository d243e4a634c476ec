"""Known wrong answers to assignment 9. See wrong.py."""

HINTS = {
    "only groups without a right answer are flat": (
        "You call a group flat only if all are wrong. If all are right, there is nothing to learn "
        "either: all advantages are 0."
    ),
    "a group is flat by its rewards, not by what is correct": (
        "You look at rewards. With partial credit wrong answers differ in reward, and equal "
        "rewards may hide a right one; DAPO looks at `correct`."
    ),
    "dynamic sampling keeps flat groups": (
        "You keep flat groups. Their advantages are 0: they cost compute, and dilute the loss."
    ),
    "dynamic sampling keeps a surplus": (
        "You keep more than `wanted` groups, so batches are of unequal size. Cut the surplus."
    ),
    "statistics of the last draw alone": (
        "The second result has the last draw alone. The statistics need all that was drawn."
    ),
    "truncated responses are filtered before the baseline": (
        "You leave truncated responses out of their groups. The group would look better than it is."
    ),
}

SKIPPED = {}

KEEP = "[group for group in groups if not is_flat(group)]"
STOP = "if len(kept) >= wanted:\n            break"
FLAT = "len({rollout.correct for rollout in group}) == 1"

MORE = [
    (
        "zeros",
        "You draw nothing and keep nothing.",
        "dynamic_sampling",
        "",
        "return [], []",
    ),
    (
        "one draw, whatever is wanted",
        "You draw once. While there are too few groups, draw again.",
        "dynamic_sampling",
        STOP,
        "break",
    ),
    (
        "all draws are always made",
        "You go on drawing when there are enough. Sampling is most of the cost of a step.",
        "dynamic_sampling",
        STOP,
        "pass",
    ),
    (
        "flat groups count as found",
        "You stop when enough groups were *drawn*. Count those that are kept.",
        "dynamic_sampling",
        "len(kept) >= wanted",
        "len(drawn) >= wanted",
    ),
    (
        "one more draw than is needed",
        "You stop when there are *more* than wanted; as many are enough.",
        "dynamic_sampling",
        "len(kept) >= wanted",
        "len(kept) > wanted",
    ),
    (
        "one more draw than is allowed",
        "You draw once more than `draws`.",
        "dynamic_sampling",
        "range(draws)",
        "range(draws + 1)",
    ),
    (
        "one draw fewer than is allowed",
        "You draw once less than `draws`.",
        "dynamic_sampling",
        "range(draws)",
        "range(max(1, draws - 1))",
    ),
    (
        "the same draw again and again",
        "You ask for draw 0 each time, and get the same random numbers: pass the draw's number.",
        "dynamic_sampling",
        "draw_groups(draw)",
        "draw_groups(0)",
    ),
    (
        "draws are counted from 1",
        "The draws are numbered from 0.",
        "dynamic_sampling",
        "draw_groups(draw)",
        "draw_groups(min(draw + 1, draws - 1))",
    ),
    (
        "what was kept before is lost",
        "You keep the last draw's groups alone. Those of earlier draws stay.",
        "dynamic_sampling",
        "kept += [group",
        "kept = [group",
    ),
    (
        "the last groups are kept, not the first",
        "You keep the last so many. Keep the first, in their order.",
        "dynamic_sampling",
        "kept[:wanted], drawn",
        "kept[-wanted:], drawn",
    ),
    (
        "what was drawn is what was kept",
        "The second result leaves out flat groups. The statistics need all that was drawn.",
        "dynamic_sampling",
        "kept[:wanted], drawn",
        "kept[:wanted], kept",
    ),
    (
        "the surplus is missing in the statistics",
        "You leave the surplus out of what was drawn. It was sampled, and is counted.",
        "dynamic_sampling",
        "kept[:wanted], drawn",
        "kept[:wanted], [g for g in drawn if is_flat(g) or g in kept[:wanted]]",
    ),
    (
        "nothing found is an error",
        "If all groups are flat, return what there is: nothing. It is no reason to stop a run.",
        "dynamic_sampling",
        "return kept",
        'if not kept:\n    raise ValueError("all groups are flat")\nreturn kept',
    ),
    (
        "too few are thrown away",
        "If there are fewer than wanted, you return none. What there is still teaches.",
        "dynamic_sampling",
        "return kept",
        "if len(kept) < wanted:\n    return [], drawn\nreturn kept",
    ),
    (
        "too few are padded with flat groups",
        "You fill up with flat groups. Return fewer: a smaller batch is still right.",
        "dynamic_sampling",
        "return kept",
        "kept += [group for group in drawn if is_flat(group)]\nreturn kept",
    ),
    (
        "it draws until there are enough, without end",
        "You go on beyond `draws`. If a model solves all, or nothing, that never ends.",
        "dynamic_sampling",
        "",
        "kept, drawn, draw = [], [], 0\nwhile len(kept) < wanted:\n"
        "    groups = draw_groups(draw)\n    draw += 1\n    drawn += groups\n"
        "    kept += [group for group in groups if not is_flat(group)]\n"
        "return kept[:wanted], drawn",
    ),
    (
        "groups with a truncated response are dropped",
        "You drop whole groups for a truncated response. Long answers would never be learnt from.",
        "dynamic_sampling",
        KEEP,
        "[g for g in groups if not is_flat(g) and all(r.finished for r in g)]",
    ),
    (
        "copies of a prompt are one group",
        "You merge groups with the same prompt. They go by place: two copies stay two groups.",
        "dynamic_sampling",
        KEEP,
        "list({str([r.text for r in g][0]): g for g in groups if not is_flat(g)}.values())",
    ),
    (
        "copies of a prompt are one group",
        "You merge groups with the same prompt. They go by place: two copies stay two groups.",
        "dynamic_sampling",
        KEEP,
        "list({str([r.prompt_ids for r in g]): g for g in groups if not is_flat(g)}.values())",
    ),
    (
        "copies of a prompt are one group",
        "You keep one group of each prompt. They go by place: two copies stay two groups.",
        "dynamic_sampling",
        KEEP,
        "list({str([r.prompt_ids for r in g]): g for g in groups[::-1] if not is_flat(g)}"
        ".values())[::-1]",
    ),
    (
        "only right responses are kept",
        "You keep the right responses of a group. Without the wrong ones there is no baseline.",
        "dynamic_sampling",
        KEEP,
        "[[r for r in g if r.correct] for g in groups if not is_flat(g)]",
    ),
    (
        "flat groups are kept, the others dropped",
        "You keep what is flat, and drop what teaches.",
        "dynamic_sampling",
        "if not is_flat(group)",
        "if is_flat(group)",
    ),
    (
        "only groups that are all right are flat",
        "You call a group flat only if all are right. If all are wrong, all advantages are 0, too.",
        "is_flat",
        FLAT,
        "all(rollout.correct for rollout in group)",
    ),
    (
        "flat is the wrong way round",
        "Your is_flat is true where there is something to learn.",
        "is_flat",
        FLAT,
        "len({rollout.correct for rollout in group}) != 1",
    ),
    (
        "truncated responses do not count in is_flat",
        "You look at finished responses alone. A truncated one is wrong, and makes a difference.",
        "is_flat",
        FLAT,
        "len({rollout.correct for rollout in group if rollout.finished}) == 1",
    ),
    (
        "truncated responses do not count in is_flat",
        "You look at finished responses alone. A truncated one is wrong, and makes a difference.",
        "is_flat",
        FLAT,
        "len({rollout.correct for rollout in group if rollout.finished}) <= 1",
    ),
    (
        "nothing is flat",
        "Your is_flat never says so.",
        "is_flat",
        FLAT,
        "False",
    ),
]

WHOLE = []

RIGHT = """
def is_flat(group):
    first = group[0].correct
    return all(r.correct == first for r in group)

def dynamic_sampling(draw_groups, wanted, draws):
    found, everything, draw = [], [], 0
    while draw < draws and len(found) < wanted:
        for group in draw_groups(draw):
            everything.append(group)
            if not is_flat(group) and len(found) < wanted:
                found.append(group)
        draw += 1
    return found, everything
"""
