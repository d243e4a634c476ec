r"""Units and nouns behind a value, which are dropped; skip at first reading.

`5\text{ cm}^2`, `5\,\mathrm{km}/\mathrm{h}`, `9 (apples)`, `12 miles per hour`. In a text command
any noun counts. Outside of one letters may be a product, so a known unit or a long word is asked
for: `5 m` is a length, `5m`, `2 ab` and `\frac{1}{2} m` are products.

Never dropped are a word that changes the value (`5 million`), and units that differ: `3\text{
hours}, 20\text{ minutes}` is no list of 3 and 20.
"""

import re

# There is more than a unit or a noun if one of these words is among them.
TELLING = (
    "a|an|or|and|not?|nor|never|is|are|if|the|than|then|least|most|more|less|fewer|over|under|"
    "above|below|about|around|between|but|approximately|roughly|nearly|almost|maybe|except|"
    "excluding|without|wrong|incorrect|false|zero|one|two|three|four|five|six|seven|eight|nine|ten|"
    "eleven|twelve|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|"
    "thousand|[mbtr]+illion|quadrillion|lakh|crore|dozen|gross|score|half|halves|third|fourth|"
    "quarter|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth|millionth|twice|double|"
    "triple|squared|cubed|factorial|"
    "times|plus|minus|negative|to|from|before|after|past|mod|modulo|base|binary|octal|hex|"
    "hexadecimal|choose|infinity|infinite|sqrt|pi|alpha|beta|gamma|delta|epsilon|zeta|theta|kappa|"
    "lambda|sigma|omega|am|pm|with|when|where|for|remainder|root(?!s)"
)
# Nor are these words nouns: sinx, products such as abcd and pqrs.
FORMULA = (
    r"(?!(?:tanks?|costs?|logs)\b)(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt)h?[a-z]{0,2}|"
    r"abc\w*|xyz\w*|[b-df-hj-np-tv-z]+"
)
NO_NOUN = rf"(?i:(?:{TELLING})s?|{FORMULA})(?![a-zA-Z])"
# Outside of text commands these units are known.
SHORT = (
    r"(?:[cmk]?m|ft|yds?|g|kg|lbs?|oz|m?[lL]|s|secs?|mins?|h|hrs?|days?|mph|[kM]?Hz|N|J|k?W|V|USD|"
    r"(?:sq|cu)\.?|ways)"
)
SPACED = (  # and these behind a blank
    r"(?:[nd]m|in|mi|mg|[kMG]?Pa|[kM]J|[kM]V|[MG]W|k?Wh|[kMG]?eV|[KMGT]B|m?mol|k?cal|rad|atm|rpm|"
    r"kph|GHz|ms|gal|yrs?|psi|EUR|pts|men|boys|cats|dogs|cups|eggs|tons|old|"
    r"μ[a-zA-Z]|[kM]?Ω|Å)"
)
KNOWN = rf"(?:{SHORT}|{SPACED})(?![a-zA-Z])"
# A word is either known or long: were it both, many words would be tried in all combinations.
LONG = rf"(?=[a-zA-Z]{{4}})(?!{KNOWN}|{NO_NOUN})[a-zA-Z]+"
POWER = r"\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d(?!\d))"
BARE = rf"(?:{KNOWN}|{LONG})(?:{POWER})?"
MORE = rf"(?:(?:\s*/\s*|\s+(?:per|of)\s+|\s+){BARE}|/[KCLT](?![a-zA-Z]))*"
END = r"\s*\.?\s*$"
VALUE = r"(?<=[\d)}\]°])"
UNIT_TAIL = (
    rf"(?:(?:{VALUE}|(?<=\\pi)(?=\s))\s*(?=[a-zA-Z]{{2}})"
    rf"(?:{SHORT}(?![a-zA-Z])|{LONG})(?:{POWER})?|"
    rf"(?<=\d)(?<!\^\d)\s+(?=[a-zA-ZμΩÅ])(?:per\s+)?{BARE}|"
    rf"(?<=\d)/(?:hour|day|week|month|year|person|item|pound|kg|mile|gallon)){MORE}{END}"
)
BRACKETED_TAIL = (
    rf"{VALUE}(?:\s+[(\[]\s*(?=[a-zA-Z]{{2}}|[a-z]/){BARE}|"
    rf"[(\[]\s*(?=[a-zA-Z]{{2}})(?!mg|in|mi){KNOWN}){MORE}\s*[)\]]{END}"
)
UNIT_IN_LIST = (
    rf"(?<=\d)\s+(?=[a-zA-Z])((?:{KNOWN}|{LONG}))"
    rf"(?=(?:\s*(?:,|\band\b|\bor\b)\s*[\d.]+\s*\1)+{END})"
)
CHINESE_TAIL = re.compile(
    r"(?<=\d)\s*(?:平方|立方)?(?:[千厘毫分]?米|公里|[千毫]?克|公斤|吨|毫?升|美?元|角|个|人|名|岁|天|年|月|"
    r"小时|分钟|秒|度|种|次|只|块|页|本|棵|条|张|件|辆|题|组)(?![^\W_])"
)

# What counts in \mathrm{}, which also holds operators, e and i; in \text{} nouns count as well.
SI = (
    r"(?!pm)[numkcMGTpμ]?(?:Hz|Pa|eV|mol|bar|cal|rad|Wh|Wb|[mgslLuNJWVAKCFTHBΩ])|"
    r"d[mlLB]|Å|rpm|atm|psi|ha|gm|cc|[kM]?pc|ly|AU"
)
JOINT = re.compile(r"(?:[\s~/.*()[\]·]|(?<=[a-z])-|\\cdot(?![a-z])|\\[ ,;:])+")
SYMBOL = re.compile(rf"(?:{KNOWN}|{SI}|{LONG})(?:{POWER})?")
NOUN = re.compile(rf"(?:{KNOWN}|{SI}|of|on|at|(?!{NO_NOUN})[A-Z]?[a-z]{{3,}})(?:{POWER})?")
UNIT = r"(?:\\mu\s*)?\\unit\{[^{}]*\}"
FRACTION = rf"\\frac\s*\{{\s*{UNIT}\s*\}}\s*\{{\s*{UNIT}\s*\}}"
TEXT = rf"\\(text|mathrm)\s*\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}({POWER})?"
UNITS = rf"(?:{FRACTION}|{UNIT})(?:\s*(?:/|·|\*|\\cdot|\\times)?\s*{UNIT})*"
# Other text is passed over: its end is no value, as in \text{no}\text{ solution}.
BEHIND_VALUE = re.compile(
    r"\\(?:text|mathrm|unit)\{[^{}]*[a-zA-Z]\s*\}(?:\s*\\unit\{[^{}]*\})*|"
    r"(?P<value>[\d)}\]!|°]|\\pi(?![a-z]))\s*"
    rf"(?P<units>{UNITS}|/\s*{UNITS}(?=\s*\.?\s*$)|\(\s*(?:{UNITS})\s*\)|\[\s*(?:{UNITS})\s*\])"
    r"(?!\s*(?:[\w({\[|]|\\(?:frac|sqrt)))"
)


def mark_unit(match: re.Match) -> str:
    r"""Turns `\text{...}` and `\mathrm{...}` into `\unit{...}` if all in there may be a unit."""
    command, content, exponent = match.groups()
    content = re.sub(r"\\mu\s*(?=[a-zA-Z])", "μ", content)
    content = re.sub(r"\\frac\{(\w+)\}\{(\w+)\}", r"\1/\2", content)
    words = [word for word in JOINT.split(content) if word]
    known = SYMBOL if command == "mathrm" else NOUN
    if not words or not all(map(known.fullmatch, words)):
        return match[0]
    # Its exponents do without braces, so that those of \unit are its only ones.
    return r"\unit{" + re.sub("[{}]", "", content + (exponent or "")) + "}"


def drop_units(match: re.Match) -> str:
    """Drops the units behind all values of a text, if they are the same."""
    text = match[0]
    found = [hit for hit in BEHIND_VALUE.finditer(text) if hit["value"]]
    if len({re.sub(r"\s", "", hit["units"]) for hit in found}) > 1:
        return text
    return BEHIND_VALUE.sub(lambda hit: f"{hit['value']} " if hit["value"] else hit[0], text)
