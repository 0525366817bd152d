"""Names: of units with their prefixes, of scales, and words that say something of the number they stand behind."""

from __future__ import annotations

from fractions import Fraction

_WORDS = {
    "m": "meter meters metre metres 米", "cm": "centimeter centimeters centimetre centimetres 厘米",
    "dm": "decimeter decimeters decimetre decimetres 分米", "mm": "millimeter millimeters millimetre millimetres 毫米",
    "nm": "nanometer nanometers nanometre nanometres 纳米", "km": "kilometer kilometers kilometre kilometres 千米 公里",
    "in": "inch inches", "ft": "foot feet", "yd": "yard yards", "mi": "mile miles", "nmi": "nautical",
    "s": "sec secs second seconds 秒", "min": "min mins minute minutes 分钟", "h": "hr hrs hour hours 小时",
    "ms": "millisecond milliseconds 毫秒", "ns": "nanosecond nanoseconds", "day": "day days 天 日",
    "week": "week weeks wk wks 周 星期", "month": "month months 月 个月", "year": "year years yr yrs 年",
    "decade": "decade decades", "century": "century centuries",
    "g": "gram grams 克", "kg": "kgs kilogram kilograms 千克 公斤", "mg": "milligram milligrams 毫克", "jin": "斤",
    "t": "ton tons tonne tonnes 吨", "lb": "lbs pound pounds", "oz": "ounce ounces", "stone": "stone stones",
    "L": "liter liters litre litres 升", "mL": "ml milliliter milliliters millilitre millilitres 毫升",
    "gal": "gallon gallons", "qt": "quart quarts", "pint": "pint pints", "cup": "cup cups", "tsp": "teaspoon teaspoons",
    "tbsp": "tablespoon tablespoons",
    "dollar": "dollar dollars usd buck bucks 美元", "cent": "cent cents", "euro": "euro euros eur 欧元",
    "yuan": "yuan rmb 元 块", "jiao": "角", "yen": "yen 日元", "rupee": "rupee rupees", "peso": "peso pesos",
    "ruble": "ruble rubles", "franc": "franc francs", "penny": "penny pennies pence", "nickel": "nickel nickels",
    "dime": "dime dimes", "deg": "deg degree degrees 度", "rad": "rad rads radian radians 弧度",
    "degC": "celsius 摄氏度", "degF": "fahrenheit", "K": "kelvin kelvins", "Hz": "hertz", "N": "newton newtons",
    "J": "joule joules", "W": "watt watts", "kW": "kilowatt kilowatts", "V": "volt volts",
    "A": "amp amps ampere amperes",
    "Pa": "pascal pascals", "atm": "atmosphere atmospheres", "mol": "mole moles", "erg": "erg ergs",
    "ohm": "ohm ohms", "cal": "calorie calories", "kcal": "kilocalorie kilocalories", "acre": "acre acres",
    "ha": "hectare hectares 公顷", "bit": "bit bits", "B": "byte bytes", "kn": "knot knots", "fathom": "fathom fathoms",
    "ly": "lightyear lightyears", "au": "au", "unit": "unit units", "beat": "beat beats",
}  # fmt: skip
_BASES = "m g s L W J N V A Hz Pa eV mol cal Wh B F C".split()  # noqa: SIM905
_PREFIXES = "k M G T m n c d".split()  # noqa: SIM905
_SYMBOLS = {
    **{base: base for base in _BASES},
    **{f"{prefix}{base}": f"{prefix}{base}" for prefix in _PREFIXES for base in _BASES},
    **{name: name for name in "in ft yd mi h t lb oz gal qt K atm ha dB rpm".split()},  # noqa: SIM905
    **{"hr": "h", "pt": "pint", "min": "min", "Nm": "N m", "l": "L", "ml": "mL", "sec": "s", "μm": "um", "um": "um"},
    **{"T": "T", "H": "H", "kph": "km h^-1", "bpm": "beat min^-1"},
}  # fmt: skip
"""Symbols, whose case counts."""
_ANY_CASE = frozenset("cm mm km kg ml hr min sec ft in lb oz gal".split())  # noqa: SIM905
_BY_WORD = {name: unit for unit, names in _WORDS.items() for name in names.split()}
SHORTHAND = {"mph": "mi h^-1", "kph": "km h^-1", "kmh": "km h^-1", "kmph": "km h^-1", "fps": "ft s^-1"}
"""Rates in one word."""
_SHORT = frozenset("cm mm km kg ft hr mi lb oz ml mL mph min dm sec kph".split())  # noqa: SIM905
GLUED = _SHORT | {word for word in _BY_WORD if len(word) > 3}
"""Units that are known behind a number without a space."""
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
POWERS_BEHIND = {"squared": 2, "cubed": 3}

_ORDINALS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15,
    "sixteenth": 16, "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30,
    "fortieth": 40, "fiftieth": 50, "sixtieth": 60, "seventieth": 70, "eightieth": 80, "ninetieth": 90,
    "hundredth": 100, "thousandth": 1_000, "millionth": 10**6, "billionth": 10**9,
}  # fmt: skip
SCALES = {
    "hundred": Fraction(100), "thousand": Fraction(1_000), "million": Fraction(10**6), "billion": Fraction(10**9),
    "trillion": Fraction(10**12), "quadrillion": Fraction(10**15), "lakh": Fraction(10**5), "crore": Fraction(10**7),
    "dozen": Fraction(12), "万": Fraction(10**4), "亿": Fraction(10**8), "百": Fraction(100), "千": Fraction(1_000),
    **{name: Fraction(1, value) for name, value in _ORDINALS.items()},
}  # fmt: skip
"""Words for scale, in the singular, and what they multiply by."""

ADJECTIVES = frozenset(
    """
    positive negative even odd prime real imaginary complex rational irrational natural whole more fewer less first
    last greater smaller larger equal additional extra distinct different other such minimum maximum total
    """.split()  # noqa: SIM905
)
"""Words that name no thing, and may stand before one."""
JOINING = frozenset("of the a an in to on at per".split())  # noqa: SIM905
"""Words that may stand between things."""
_FUNCTIONS = "log ln sin cos tan cot sec csc sinh cosh tanh coth sech csch exp sqrt arcsin arccos arctan lim mod"
_LETTERS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi "
    "psi omega"
)
SAYING = frozenset(
    f"""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    plus minus times over by divided multiplied subtract subtracted add added rooted factorial choose
    modulo remainder point below above under beneath beyond between about nearly almost approximately roughly
    around up down not no never except but without instead or and nor if when where while unless for from is are was
    equals becomes any each every all some many infinitely infinity infinite true false yes undefined squared cubed base
    doubled tripled quadrupled halved inverse inverted reciprocal negated opposite increased decreased reduced rounded
    truncated repeating recurring binary decimal hexadecimal hex octal greater higher lower onwards upwards downwards
    exceeding excluded included excluding including than most least minimum maximum score scores gross grand tens teens
    googol zillion permille mille ppm ppb basis am pm noon midnight bc ad bce ce true approx {_FUNCTIONS} {_LETTERS}
    """.split()
)
"""Words that say something of a number, and name nothing that is counted."""
SAYING_IN_CHINESE = (
    "分之", "又", "成", "折", "平方根", "的", "倒数", "减", "加", "乘", "除", "点", "半", "十", "以上", "以下", "以内",
    "或", "和", "多", "余", "不", "左右", "大于", "小于", "至", "到", "次方",
)  # fmt: skip


def unit_of(name: str) -> str | None:
    """The unit that a name or symbol stands for, or None."""
    if name in _SYMBOLS:
        return _SYMBOLS[name]
    lower = name.lower()
    return _BY_WORD.get(lower) or (_SYMBOLS[lower] if lower in _ANY_CASE else None)
