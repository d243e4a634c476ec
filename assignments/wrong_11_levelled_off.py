"""Known wrong answers to assignment 11. See wrong.py."""

HINTS = {
    "levelled off: the windows of the accuracy are swapped": (
        "For the accuracy you take the earlier window less the later one: a rise looks like a fall."
    ),
    "levelled off: the windows of the truncation are swapped": (
        "For the truncation you take the later window less the earlier one. Truncation improves "
        "by *falling*."
    ),
    "levelled off: one measure is enough": (
        "You end the stage when one of the two has levelled off. Both have to."
    ),
    "levelled off: ten points are no gain": (
        "Your tolerance is ten points, 0.1, if none is given. One point is the default."
    ),
}

SKIPPED = {}

FEW = "if len(accuracy) < 2 * window:\n    return False\n"
END = "bool(gain < tolerance and drop < tolerance)"

MORE = [
    (
        "zeros",
        "You say False whatever the curves: the stage never ends.",
        "levelled_off",
        END,
        "False",
    ),
    ("ones", "You say True as soon as there are two windows.", "levelled_off", END, "True"),
    (
        "only the accuracy is looked at",
        "You never look at the truncation. While it falls, the stage is not over.",
        "levelled_off",
        END,
        "bool(gain < tolerance)",
    ),
    (
        "only the truncation is looked at",
        "You never look at the accuracy. While it rises, the stage is not over.",
        "levelled_off",
        END,
        "bool(drop < tolerance)",
    ),
    (
        "getting worse is no end",
        "You ask how far the means are apart, in either direction. A stage that gets worse does "
        "not improve, so it is over, too.",
        "levelled_off",
        END,
        "bool(abs(gain) < tolerance and abs(drop) < tolerance)",
    ),
    (
        "the last value against the one before",
        "You compare single validations. One is noise of a point or two: compare means of windows.",
        "levelled_off",
        "",
        FEW + "gain = accuracy[-1] - accuracy[-2]\n"
        "drop = truncated[-2] - truncated[-1]\nreturn bool(gain < tolerance and drop < tolerance)",
    ),
    (
        "the ends of the windows, not their means",
        "You compare the last value with the one `window` earlier. The means of all values of the "
        "two windows are less noisy.",
        "levelled_off",
        "",
        FEW + "gain = accuracy[-1] - accuracy[-1 - window]\n"
        "drop = truncated[-1 - window] - truncated[-1]\n"
        "return bool(gain < tolerance and drop < tolerance)",
    ),
    (
        "the best so far",
        "You compare with the best so far. A lucky validation would end the stage: compare means.",
        "levelled_off",
        "",
        FEW + "gain = max(accuracy[-window:]) - max(accuracy[:-window])\n"
        "drop = min(truncated[:-window]) - min(truncated[-window:])\n"
        "return bool(gain < tolerance and drop < tolerance)",
    ),
    (
        "all before the last window",
        "You compare the last window with *everything* before it. A stage that rose long ago never "
        "ends so: the window just before it is meant.",
        "levelled_off",
        "",
        FEW + "gain = np.mean(accuracy[-window:]) - np.mean(accuracy[:-window])\n"
        "drop = np.mean(truncated[:-window]) - np.mean(truncated[-window:])\n"
        "return bool(gain < tolerance and drop < tolerance)",
    ),
    (
        "the first window",
        "You compare with the first window of the stage. Compare with the one before the last.",
        "levelled_off",
        "",
        FEW + "gain = np.mean(accuracy[-window:]) - np.mean(accuracy[:window])\n"
        "drop = np.mean(truncated[:window]) - np.mean(truncated[-window:])\n"
        "return bool(gain < tolerance and drop < tolerance)",
    ),
    (
        "windows that overlap",
        "Your windows are one validation apart, and share the others, so hardly anything is seen "
        "between them. They stand side by side.",
        "levelled_off",
        "",
        FEW + "gain = np.mean(accuracy[-window:]) - np.mean(accuracy[-window - 1:-1])\n"
        "drop = np.mean(truncated[-window - 1:-1]) - np.mean(truncated[-window:])\n"
        "return bool(gain < tolerance and drop < tolerance)",
    ),
    (
        "sums for means",
        "You compare sums, so the tolerance is `window` times too strict. Compare means.",
        "levelled_off",
        "",
        FEW + "gain = sum(accuracy[-window:]) - sum(accuracy[-2 * window:-window])\n"
        "drop = sum(truncated[-2 * window:-window]) - sum(truncated[-window:])\n"
        "return bool(gain < tolerance and drop < tolerance)",
    ),
    (
        "one window is enough",
        "You decide when there are fewer than two windows, so that there is nothing to compare "
        "with. Until then the stage goes on.",
        "levelled_off",
        "if len(accuracy) < 2 * window:",
        "if len(accuracy) < window + 1:",
    ),
    (
        "one validation more than needed",
        "You wait for one validation more than two windows: 2 * window of them are enough.",
        "levelled_off",
        "len(accuracy) < 2 * window",
        "len(accuracy) <= 2 * window",
    ),
    (
        "too few validations end the stage",
        "Where there are too few validations you say True: the stage would end at its first one.",
        "levelled_off",
        "    return False",
        "    return True",
    ),
    (
        "a relative tolerance",
        "You divide by the earlier mean. The tolerance is in points: 0.50 to 0.51 is a gain of "
        "0.01, and so is 0.80 to 0.81.",
        "levelled_off",
        "",
        FEW + "a = np.mean(accuracy[-2 * window:-window])\n"
        "t = np.mean(truncated[-2 * window:-window])\n"
        "gain = np.mean(accuracy[-window:]) / a - 1\ndrop = 1 - np.mean(truncated[-window:]) / t\n"
        "return bool(gain < tolerance and drop < tolerance)",
    ),
    (
        "no tolerance",
        "You call any gain a gain. Within the tolerance it is noise.",
        "levelled_off",
        END,
        "bool(gain <= 0 and drop <= 0)",
    ),
    (
        "the window is always three",
        "You never use the argument `window`.",
        "levelled_off",
        "if len(accuracy) < 2 * window:",
        "window = 3\nif len(accuracy) < 2 * window:",
    ),
    (
        "the sum of both",
        "You add gain and drop up, so that one makes up for the other. Each is asked by itself.",
        "levelled_off",
        END,
        "bool(gain + drop < tolerance)",
    ),
    (
        "the lists are changed",
        "You sort the lists, or take from them, so the run's own record is spoilt. Leave them be.",
        "levelled_off",
        "return bool(",
        "accuracy.sort()\nreturn bool(",
    ),
    (
        "no bool",
        "You give a bool of numpy, or a number. bool(...) makes one that JSON knows, too.",
        "levelled_off",
        "bool(gain < tolerance and drop < tolerance)",
        "np.bool_(gain < tolerance and drop < tolerance)",
    ),
]

WHOLE = []

RIGHT = """
def improvement(values, window, rises):
    earlier = sum(values[i] for i in range(len(values) - 2 * window, len(values) - window))
    later = sum(values[i] for i in range(len(values) - window, len(values)))
    change = (later - earlier) / window
    return change if rises else -change

def levelled_off(truncated, accuracy, window=3, tolerance=0.01):
    if len(accuracy) // 2 < window:
        return False
    improves = improvement(accuracy, window, True) >= tolerance
    return not (improves or improvement(truncated, window, False) >= tolerance)
"""
