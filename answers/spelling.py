r"""An answer's spelling: plain text; skip at first reading.

`tidy` brings the many spellings of an answer closer to one: rules in a table, each with an example.
What may be dropped behind a value is in units.py.
"""

import re
from typing import NamedTuple

from answers.units import (
    BRACKETED_TAIL,
    CHINESE_TAIL,
    TEXT,
    UNIT_IN_LIST,
    UNIT_TAIL,
    drop_units,
    mark_unit,
)

UNICODE = str.maketrans(
    {
        "½": r"\frac12",
        "⅓": r"\frac13",
        "⅔": r"\frac23",
        "¼": r"\frac14",
        "¾": r"\frac34",
        "√": " sqrt ",
        "∛": r"\sqrt[3]",
        "′": "'",
        "⁄": "/",
        "±": r"\pm ",
        "…": r"\ldots ",
        "。": ".",
        "、": ",",
        "∖": r"\setminus ",
        "µ": "μ",
        "℃": "°C",
        "º": "°",
        "˚": "°",
        "或": " or ",
        "和": " and ",
        "“": '"',
        "”": '"',
        # Full width, as in Chinese texts.
        **{chr(code + 0xFEE0): chr(code) for code in range(ord("!"), ord("~") + 1)},
        # Seen by nobody.
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
        **dict.fromkeys("‐‑‒–—―", "-"),
    }
)
SCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ₀₁₂₃₄₅₆₇₈₉", "0123456789+-n0123456789")
TRIGONOMETRY = re.compile("sin|cos|tan|cot|sec|csc")


INTEGER = re.compile("-?[0-9]+")
WRAPPED = re.compile(r"\s*(?P<command>\\(?:mathrm|text)\s*)?\{(?P<content>.*)\}\s*\.?\s*")
BRACES = re.compile(r"\\[{}]|[{}]")
BRACES_DEPTH = {"{": 1, "}": -1}
IN_BRACKETS = re.compile(r"[(\[{][^()\[\]{}]*[)\]}]")
SET = re.compile(r"[,;|:]|\\mid(?![a-z])")


def whole(match: re.Match) -> str:
    """A number without what is between its digits."""
    return re.sub(r"[^\d.]", "", match[0])


def unwrapped(match: re.Match) -> str:
    """The content of braces around all of an answer; `{1,234}` and `{x|x>1}` are sets."""
    text = match[0]
    while whole_text := WRAPPED.fullmatch(text):
        depth = 0
        for brace in BRACES.findall(whole_text["content"]):
            depth += BRACES_DEPTH.get(brace, 0)
            if depth < 0:
                return text
        if not whole_text["command"] and SET.search(IN_BRACKETS.sub("", whole_text["content"])):
            return text
        text = whole_text["content"]
    return text


def hour(match: re.Match) -> str:
    """Hours with AM or PM as the name of an unknown."""
    hours, minutes, half = match.groups()
    return f"t_{{{int(hours)}:{minutes or '00'}{half.upper()}}}"


def system(match: re.Match) -> str:
    """A system's equations as a list; no matrix, and no piecewise function."""
    brace, kind, rows = match.groups()
    if kind == "array" and not brace or kind in ("array", "cases") and "&" in rows:
        return match[0]
    rows = [row.strip(" ,;.") for row in rows.replace("&", "").split(r"\\")]
    return ", ".join(filter(None, rows))


class Rule(NamedTuple):
    """One clean-up, tried only where its marker, a text that the pattern needs, occurs."""

    marker: str
    pattern: str
    replacement: object  # text, or a function of the match
    before: str  # what this rule alone makes of `before` is `after`: a test goes through them
    after: str


FONTS = (
    "textnormal|textrm|textsf|texttt|textit|textbf|textup|textsl|textsc|emph|mbox|hbox|underline"
)
MATH_FONTS = (
    "mathbf|mathsf|mathit|mathtt|mathnormal|operatorname|boldsymbol|bm|pmb|bold|ensuremath|"
    "mathop|mathord|mathbin|unit|[bB]f|rm|sf|tt"
)
LAYOUT = (
    r"(?:left|right)(?![a-z])\s*\.?|!|(?:[bB]igg?[lrm]?|(?:display|text|script|scriptscript)style|"
    r"boxed|angle|tiny|(?:script|footnote|normal)size|small|[lL]arge|LARGE|[hH]uge|limits|hfill|"
    r"(?:math)?strut|allowbreak|newline|measuredangle|bf|rm|it|sf|tt|em)(?![a-zA-Z])|"
    r"[hv]?phantom\s*\{[^{}]*\}|(?:text)?color(?:box)?\s*\{[^{}]*\}"
)

# fmt: off
RULES = [  # in this order
    # Spaces that have names; then thousands, which are one number.
    Rule("space", r"\\(?:[hm]space\s*\*?\s*\{[^{}]*\}|"
                  r"(?:thin|med|thick|en|negthin|nobreak)space(?![a-z]))", r"\\,",
         before=r"1\thinspace 2", after=r"1\, 2"),
    Rule("", r"(?<![\d.])[1-9]\d{0,2}"
             r"(?:(?:\\[,;:!] ?|\\? |~|\{,\}(?:\\!)?|,\s*\\!\s*)\d{3}(?![\d/]))+", whole,
         before=r"1\,234", after="1234"),
    Rule(".", r"\.\d{3}(?:\\[,;:!]\d{1,3})+(?!\d)", whole,
         before=r"3.141\,59", after="3.14159"),
    # Layout: sizes of fractions and brackets, fonts, colours, arrows, dollars, \( \).
    Rule("\\", r"\\[dtc](frac|binom)", r"\\\1",
         before=r"\dfrac{1}{2}", after=r"\frac{1}{2}"),
    Rule("\\", rf"\{{\s*\\(?:rm|bf|it|sf|tt)(?![a-z])([^{{}}]*)\}}|\\(?:{MATH_FONTS})\s*\*?\s*\{{",
         lambda m: "\\mathrm{" if m[1] is None else rf"\mathrm{{{m[1]}}}",
         before=r"\mathbf{A}", after=r"\mathrm{A}"),
    Rule("\\", rf"\\(?:{FONTS})\s*\{{", r"\\text{",
         before=r"5\textnormal{ m}", after=r"5\text{ m}"),
    Rule("\\text", r"\\text\s*\{\s*(\\(?:text|mathrm)\s*\{[^{}]*\})\s*\}", r"\1",
         before=r"\text{\text{A}}", after=r"\text{A}"),
    Rule("\\", rf"\\(?:{LAYOUT})", "",
         before=r"\left(1,2\right)", after="(1,2)"),
    Rule("\\", r"\\(?:vec|hat|overrightarrow|overline(?=\s*\{\s*[A-Z]{2}\s*\}))\s*"
               r"(?:\{\s*([A-Za-z]+)\s*\}|(?<=vec)\s*([a-z]))", r" \1\2",
         before=r"2\vec{v}", after="2 v"),
    Rule("", r"(?:(?<!\\)\\)?[$%€£¥￥¢₹]|\\(?:(?:text|math)dollar|pounds|euro|yen|cents?)(?![a-z])|"
             r"(?:\bRs\.? ?|\bUSD )(?=\d)|\\(?:text|mathrm)\{\s*(?:Rs\.?|USD)\s*\}[\s~]*(?=\d)|"
             r"\bUS(?=\\?\$)|"
             r"(?<!\\)\\[()\[\]]", "",
         before=r"\$50\%", after="50"),
    Rule("=", r"(?:(?<=[\w})])\s*\\q?quad\s*|(?<=\d) )(?=[a-zA-Z](?:_\w)?\s*=)", ", ",
         before=r"x=2\quad y=3", after="x=2, y=3"),
    # Spaces of LaTeX, and ends of lines.
    Rule("\\\\", r"^\s*(?:\\\\\s*)+|\s*(?:\\\\\s*)+\.?$", "",
         before=r"5\\", after="5"),
    Rule("", r"(?<!\\)\\[,;: ]|\\(?:q?quad|enskip)(?![a-z])|(?<=\S)~", " ",
         before=r"1,\quad2", after="1, 2"),
    Rule("{", r"^.+$", unwrapped,
         before=r"\mathrm{5\text{ cm}}", after=r"5\text{ cm}"),
    # Text: a unit behind a value goes, a word stays.
    Rule("tg", r"\\(mathrm\{\s*)?(arc)?(c?)tg(?![a-z])(?(1)\s*\})",
         lambda m: f"\\{m[2] or ''}{'cot' if m[3] else 'tan'} ",
         before=r"\mathrm{tg}x", after=r"\tan x"),
    Rule("\\Omega", r"(?<=\d)\s+(?:\\(?:text|mathrm)\{\s*[kM]?\s*\}|[kM])?\s*\\Omega(?![a-z])",
         r"\\unit{ohm}",
         before=r"5 k\Omega", after=r"5\unit{ohm}"),
    Rule("\\", TEXT, mark_unit,
         before=r"5\text{ cm}^2", after=r"5\unit{ cm^2}"),
    Rule("\\unit", ".+", drop_units,
         before=r"5\unit{ km}/\unit{h}", after="5 "),
    Rule("\\", r"\\(?:text|mathrm|unit)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r" \1 ",
         before=r"\text{or}", after=" or "),
    Rule("{}", r"^\s*\{\}|\{\}(?=\s*\^)|\{\}\s*$", "",
         before="{}5", after="5"),
    # Ordinals and degrees.
    Rule("", r"(?<=\d)\s*(?:\^\s*\{?\s*)?(?:st|nd|rd|th)(?![a-zA-Z])\s*\}?", "",
         before="21^{st}", after="21"),
    Rule("", r"(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))|\\degree(?![a-z])|"
             r"(?<=\d)\\deg(?![a-z])|°)(?:\s*[CF]\b)?", "°",
         before=r"45^{\circ}", after="45°"),
    # Hours are letters, as it were: 2:10 PM is not 1:05 PM.
    Rule(":", r"\{:\}", ":",
         before="3{:}30", after="3:30"),
    Rule("", r"\b(\d{1,2})(?::(\d\d)\s*|\s+)([AaPp])\.?\s?[Mm]\b\.?", hour,
         before="6 p.m.", after="t_{6:00P}"),
    Rule("nswer", r"^\s*(?:[Tt]he )?(?:[Ff]inal )?[Aa]nswer(?: is\b\s*:?|\s*[:=])", "",
         before="The answer is: 5", after=" 5"),
    Rule("hope", r"\s*\.?\s*I hope it is correct\s*\.?\s*$", "",
         before="5. I hope it is correct.", after="5"),
    Rule('"', r'^\s*"(.*)"\s*\.?\s*$', r"\1",
         before='"5"', after="5"),
    Rule("\\&", r"\\&", " and ",
         before=r"1 \& 2", after="1  and  2"),
    Rule("o", r"^\s*(?:[Oo]ption|[Cc]hoice)\s+(?=\(?[A-Z]\b)", "",
         before="Option A", after="A"),
    Rule("=", r"^\s*=", "",
         before="= 5", after=" 5"),
    # One spelling of dots, primes, sets of numbers, remainders.
    Rule("\\not", r"\\not\s*=", r"\\ne ",
         before=r"x\not=0", after=r"x\ne 0"),
    Rule("\\AA", r"\\AA(?![a-zA-Z])", "Å",
         before=r"5 \AA", after="5 Å"),
    Rule("dots", r"\\[lc]?dots(?:[bcmio])?(?![a-z])", r"\\ldots ",
         before=r"1,\dots,5", after=r"1,\ldots ,5"),
    Rule("prime", r"\^\s*(?:\\prime(?![a-z])|\{\s*((?:\\prime\s*)+)\})",
         lambda m: "'" * max(1, (m[1] or "").count("prime")),
         before=r"y^{\prime\prime}", after="y''"),
    Rule("\\", r"\\(mathbb|mathcal|mathfrak|d?dot|bar|tilde)\s+([A-Za-z])(?![a-zA-Z])", r"\\\1{\2}",
         before=r"\mathbb Z", after=r"\mathbb{Z}"),
    Rule("mod", r"\(?\s*(?:\\[pb]?mod(?![a-z])|\bmod\b)\s*\{?\s*(\w+)\s*\}?\s*\)?", r"\\pmod{\1}",
         before=r"5 \pmod 7", after=r"5\pmod{7}"),
    # One spelling of repeating decimals, of arguments without braces, of mixed numbers.
    Rule("\\dot", r"\\dot\s*\{(\d)\}(\d*)\\dot\s*\{(\d)\}", r"\\overline{\1\2\3}",
         before=r"0.\dot{1}4\dot{2}", after=r"0.\overline{142}"),
    Rule("\\", r"\\(?:bar|dot)\s*\{(?=\s*\d)", r"\\overline{",
         before=r"0.\bar{3}", after=r"0.\overline{3}"),
    Rule("\\", r"(\\frac|\\binom|\\sqrt)\s*(\d)", r"\1{\2}",
         before=r"\frac12", after=r"\frac{1}2"),
    Rule("\\frac", r"(?<![\w.^}])(\d+)\s*(\\frac\{\d+\}(?:\{\d+\}|\s*\d))", r"(\1+\2)",
         before=r"1\frac{1}{2}", after=r"(1+\frac{1}{2})"),
    Rule("/", r"(?<![\w.^}/])(\d+)\s+(\d+/\d+)(?!\.?\d)", r"(\1+\2)",
         before="1 1/2", after="(1+1/2)"),
    Rule("10", r"(?<=\d)\s?x\s?(?=10\s*\^)", r"\\cdot ",
         before="3 x 10^8", after=r"3\cdot 10^8"),
    # Units behind a value, outside of \text.
    Rule("", UNIT_IN_LIST, "",
         before="5 cm, 6 cm", after="5, 6 cm"),
    Rule("", UNIT_TAIL, "",
         before="12 miles per hour", after="12"),
    Rule("", BRACKETED_TAIL, "",
         before="9 (apples)", after="9"),
    Rule("{", r"([_^])\s*\{\s*(\w)\s*\}(?!\w)", r"\1\2",
         before="x_{1}+x_{2}", after="x_1+x_2"),
    # Sets and systems.
    Rule(")", r"(?<=[-+,(\[ ])(?:inf|oo)(?=\s*[,)\]])", "∞",
         before="(-oo, 2)", after="(-∞, 2)"),
    Rule("U", r"(?<=[)\]])\s*U\s*(?=[(\[])", r"\\cup",
         before="(0,1) U (2,3)", after=r"(0,1)\cup(2,3)"),
    Rule("mathbb{R}", r"\\mathbb\{R\}", "ℝ",
         before=r"\mathbb{R}", after="ℝ"),
    Rule("eal", r"^\s*[Aa]ll real(?:s| numbers)\W*$", "ℝ",
         before="all real numbers", after="ℝ"),
    Rule("except", r"^\s*(?:[Aa]ll real(?:s| numbers)|ℝ)\s+except(?: for)?\s+([^,]+)$",
         r"ℝ\\setminus\\{\1\\}",
         before="all real numbers except 2", after=r"ℝ\setminus\{2\}"),
    Rule("ℝ", r"ℝ\s*[\^_]\s*(?:\{\s*(?:\+|>\s*0)\s*\}|\+)", r"(0,∞)",
         before="ℝ^+", after="(0,∞)"),
    Rule("\\{", r"(?<=[ℝ)\]])\s*[-/]\s*(?=\\\{)", r"\\setminus",
         before=r"ℝ-\{2\}", after=r"ℝ\setminus\{2\}"),
    Rule("for", r"^([^=]*\(([a-z])\)\s*=.*?)\s*,?\s*"
                r"(?:\bfor (?:all|every|any)|\\forall(?![a-z]))\s+"
                r"(?:real\s+(?:numbers?\s+)?)?\2(?:\s*\\in\s*ℝ)?\s*\.?\s*$", r"\1",
         before="f(x)=2x for all x", after="f(x)=2x"),
    Rule("{", r"(?:\\\{|^\s*\{)\s*([a-z])\s*(?:\\in\s*(?:ℝ|R\b)\s*)?(?:\||\\mid(?![a-z])|:)(.*?)"
                r"(?:,\s*\1\s*\\in\s*ℝ\s*)?(?:\\\}|\}\s*\.?\s*$)", r"\2",
         before=r"\{x|x>3\}", after="x>3"),
    Rule("\\begin", r"\\\\\[[\d.]+[a-z]{2}\]|\\cr(?![a-z])", r"\\\\",
         before=r"\begin{matrix}1\\[4pt]2", after=r"\begin{matrix}1\\2"),
    Rule("\\begin", r"(\\\{\s*)?\\begin\{(cases|aligned|align\*?|gathered|split|array)\}"
                   r"(?:\{[lcr| ]*\})?(.*)\\end\{\2\}", system,
         before=r"\begin{cases}x=1\\y=2\end{cases}", after="x=1, y=2"),
    # The end of a sentence; then the spaces that separate nothing: 1 2 is not 12.
    Rule("", r"(?<![.,;:\s])\s*[.,;:]?\s*$", "",
         before="5 .", after="5"),
    Rule(" ", r"\s+", " ",
         before="1   2", after="1 2"),
    Rule(" ", r"(?<![A-Za-z0-9,]) | (?![A-Za-z0-9])|(?<=,) (?!\d{3})", "",
         before="x + 1, 2", after="x+1,2"),
    Rule("{", r"^\{([^{}\\]*)\}$", r"\1",
         before="{(C)}", after="(C)"),
]
# fmt: on
RULES = [rule._replace(pattern=re.compile(rule.pattern, re.ASCII)) for rule in RULES]


def tidy(text: str) -> str:
    """Returns the answer in plain spelling, without layout commands, units and separators."""
    if INTEGER.fullmatch(text):
        return text  # as most golds are
    if not text.isascii():
        text = re.sub("[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda m: "^{" + m[0].translate(SCRIPTS) + "}", text)
        text = re.sub("[₀-₉]+", lambda m: "_{" + m[0].translate(SCRIPTS) + "}", text)
        text = CHINESE_TAIL.sub("", text.translate(UNICODE))
    text = " ".join(text.split())
    for rule in RULES:
        # Few rules find anything, and looking is quicker than getting ready to replace.
        if rule.marker in text and rule.pattern.search(text):
            text = rule.pattern.sub(rule.replacement, text)
    return text if TRIGONOMETRY.search(text) else text.replace("°", "")
