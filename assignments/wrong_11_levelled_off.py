"""Known wrong answers to assignment 11. See wrong.py."""

HINTS = {
    "levelled off: truncation improves by rising": (
        "You ask whether the truncation rises. It improves by *falling*."
    ),
    "levelled off: one measure is enough": (
        "You end the stage when one of the two has levelled off. Both have to."
    ),
    "levelled off: fifteen points are no gain": (
        "Your `least` is fifteen points, 0.15, if none is given. One and a half is the default."
    ),
    "levelled off: all validations decide": (
        "Your line for the accuracy goes through all validations. The last `window` decide: a "
        "stage that rose long ago would never end."
    ),
    "levelled off: the error is left out": (
        "You never use the standard error. A stage goes on while it *may* still improve."
    ),
    "levelled off: the error is taken away": (
        "You take the standard error off the slope, so that noise ends a stage. Where nobody can "
        "tell, it goes on."
    ),
    "levelled off: the variance for the error": (
        "You add the variance of the slope. Its square root is the standard error."
    ),
}

SKIPPED = {}

FIT = "(slope, _), covariance = np.polyfit(range(len(shares)), shares, 1, cov=True)"
OVER = "not (may_rise(finished[-window:], least) or may_rise(accuracy[-window:], least))"
BOUND = "slope + covariance[0, 0] ** 0.5 >= least"
SUMS = (
    "n = len(shares)\nx = np.arange(n) - (n - 1) / 2\ny = np.array(shares)\nsxx = (x**2).sum()\n"
    "slope = (x * y).sum() / sxx\nrest = y - y.mean() - slope * x\n"
)

MORE = [
    (
        "zeros",
        "You say False whatever the curves: the stage never ends.",
        "levelled_off",
        OVER,
        "False",
    ),
    (
        "ones",
        "You say True as soon as there is a window.",
        "levelled_off",
        OVER,
        "True",
    ),
    (
        "always may rise",
        "You say that every line may rise.",
        "may_rise",
        f"bool({BOUND})",
        "True",
    ),
    (
        "only the accuracy is looked at",
        "You never look at the truncation. While it falls, the stage is not over.",
        "levelled_off",
        OVER,
        "not may_rise(accuracy[-window:], least)",
    ),
    (
        "only the truncation is looked at",
        "You never look at the accuracy. While it rises, the stage is not over.",
        "levelled_off",
        OVER,
        "not may_rise(finished[-window:], least)",
    ),
    (
        "the answer the other way round",
        "You say True while something may still improve. True means that the stage is over.",
        "levelled_off",
        "not (may_rise",
        "(may_rise",
    ),
    (
        "getting worse is no end",
        "You ask whether the line is steep, in either direction. A stage that gets worse does not "
        "improve, so it is over, too.",
        "may_rise",
        BOUND,
        "abs(slope) + covariance[0, 0] ** 0.5 >= least",
    ),
    (
        "the intercept for the slope",
        "You take where the line begins for how steep it is: np.polyfit gives the slope first.",
        "may_rise",
        "(slope, _)",
        "(_, slope)",
    ),
    (
        "the error of the intercept",
        "Your error is that of where the line begins. The slope's stands first in the covariance.",
        "may_rise",
        "covariance[0, 0]",
        "covariance[1, 1]",
    ),
    (
        "first against last",
        "Your slope is that of the line from the first share to the last: two points, where all "
        "should count.",
        "may_rise",
        "slope + covariance[0, 0] ** 0.5",
        "(shares[-1] - shares[0]) / (len(shares) - 1) + covariance[0, 0] ** 0.5",
    ),
    (
        "N degrees of freedom",
        "You divide the squared residuals by N. The line has used up two of them: N - 2.",
        "may_rise",
        "",
        SUMS + "return bool(slope + ((rest**2).sum() / n / sxx) ** 0.5 >= least)",
    ),
    (
        "N - 1 degrees of freedom",
        "You divide the squared residuals by N - 1, as for a mean. A line has two numbers: N - 2.",
        "may_rise",
        "",
        SUMS + "return bool(slope + ((rest**2).sum() / (n - 1) / sxx) ** 0.5 >= least)",
    ),
    (
        "the spread of the points",
        "Your error is that of one point about the line. The slope's is smaller: divide by the "
        "root of Sxx.",
        "may_rise",
        "",
        SUMS + "return bool(slope + ((rest**2).sum() / (n - 2)) ** 0.5 >= least)",
    ),
    (
        "residuals from the mean",
        "Your residuals are distances from the mean. Take them from the line, or a steep rise "
        "looks like noise.",
        "may_rise",
        "",
        SUMS + "rest = y - y.mean()\n"
        "return bool(slope + ((rest**2).sum() / (n - 2) / sxx) ** 0.5 >= least)",
    ),
    (
        "two standard errors",
        "You add two standard errors. The assignment wants one.",
        "may_rise",
        "slope + covariance[0, 0] ** 0.5",
        "slope + 2 * covariance[0, 0] ** 0.5",
    ),
    (
        "the covariance unscaled",
        "Your error does not depend on the noise: cov='unscaled' leaves the residuals out.",
        "may_rise",
        "cov=True",
        "cov='unscaled'",
    ),
    (
        "the first window",
        "You look at the first validations of the stage. The last `window` decide.",
        "levelled_off",
        OVER,
        "not (may_rise(finished[:window], least) or may_rise(accuracy[:window], least))",
    ),
    (
        "the truncation from the start",
        "Your line for the truncation goes through all validations. The last `window` decide.",
        "levelled_off",
        "finished[-window:]",
        "finished",
    ),
    (
        "one validation more than needed",
        "You wait for one validation more than `window`.",
        "levelled_off",
        "len(accuracy) < window",
        "len(accuracy) <= window",
    ),
    (
        "one validation too few",
        "You decide before there are `window` validations. Until then the stage goes on.",
        "levelled_off",
        "len(accuracy) < window",
        "len(accuracy) < window - 1",
    ),
    (
        "too few validations end the stage",
        "Where there are too few validations you say True: the stage would end at its first one.",
        "levelled_off",
        "    return False",
        "    return True",
    ),
    (
        "the window is always five",
        "You never use the argument `window`.",
        "levelled_off",
        "if len(accuracy) < window:",
        "window = 5\nif len(accuracy) < window:",
    ),
    (
        "least is always the default",
        "You never use the argument `least`.",
        "levelled_off",
        OVER,
        "not (may_rise(finished[-window:], 0.015) or may_rise(accuracy[-window:], 0.015))",
    ),
    (
        "the means of two windows",
        "You compare two means, and no line, so that noise is never counted.",
        "levelled_off",
        "",
        "if len(accuracy) < window:\n    return False\nhalf = window // 2\n"
        "gain = (np.mean(accuracy[-half:]) - np.mean(accuracy[-window:-half])) / half\n"
        "drop = (np.mean(truncated[-window:-half]) - np.mean(truncated[-half:])) / half\n"
        "return bool(gain < least and drop < least)",
    ),
    (
        "the lists are changed",
        "You sort the lists, or take from them, so the run's own record is spoilt. Leave them be.",
        "levelled_off",
        f"return {OVER}",
        f"over = {OVER}\naccuracy.sort()\nreturn over",
    ),
    (
        "no bool",
        "You give a bool of numpy, or a number. bool(...) makes one that JSON knows, too.",
        "levelled_off",
        OVER,
        f"np.bool_({OVER})",
    ),
]

WHOLE = []

RIGHT = """
def slope_and_error(y):
    n = len(y)
    x = [i - (n - 1) / 2 for i in range(n)]
    sxx = sum(a * a for a in x)
    slope = sum(a * b for a, b in zip(x, y)) / sxx
    rest = [b - sum(y) / n - slope * a for a, b in zip(x, y)]
    return slope, (sum(r * r for r in rest) / (n - 2) / sxx) ** 0.5

def may_rise(shares, least):
    return sum(slope_and_error(shares)) >= least

def levelled_off(truncated, accuracy, window=5, least=0.015):
    if len(accuracy) < window:
        return False
    slope, error = slope_and_error(truncated[-window:])
    return error - slope < least and not may_rise(accuracy[-window:], least)
"""
