"""Answers that a reviewer found falsely accepted or refused, by mechanism: as in `helpers.grading_cases`."""


def wrong(*pairs: str) -> list[tuple[str, str, bool]]:
    """Pairs, written ``answer => gold``, that are not the same."""
    return [(*pair.split(" => "), False) for pair in pairs]  # type: ignore[misc]


def right(*pairs: str) -> list[tuple[str, str, bool]]:
    """Pairs, written ``answer => gold``, that are the same."""
    return [(*pair.split(" => "), True) for pair in pairs]  # type: ignore[misc]


ATTACKS: dict[str, list[tuple[str, str, bool]]] = {
    "letters behind a number": wrong(
        "5abc => 5", "2xyz => 2", "6 => 6xyz", "12xyz => 12xyw", "4pqr => 4", "-4abc => -4", "(x+1)abc => x+1", r"\frac{1}{2}xyz => \frac12",
        r"\frac12 => \frac12abc", r"\sqrt2abc => \sqrt2", "x^{2}yzw => x^2", "2 => 2mg", "2sinx => 2", "2lnx => 2", "3tanx => 3", "2 => 2sinx",
        "2cosh x => 2", "2sec x => 2", "2arctan x => 2", "3exp x => 3", "2 sinh => 2", "5 theta => 5", "2theta => 2", "3delta => 3", "2 lambda => 2",
        "5 => 5theta", r"2\mathbf{A} => 2", r"2 => 2\mathbf{A}", r"3\mathbf{V} => 3", r"2\mathrm{AB} => 2", r"2 => 2\mathrm{AB}",
    ),
    "fractions and scales in words": wrong(
        "7 sixteenths => 7", "3 twentieths => 3", "2 thirteenths => 2", "5 eleventh => 5", "7 millionths => 7", r"3\text{ sixteenths} => 3",
        "2 quadrillion => 2", "5 lakh => 5", "2 crore => 2", "3 score => 3", "4 gross => 4", "2 grand => 2", "6 tens => 6", "5 googol => 5", "5 thousandfold => 5",
        "3 tenfold => 3", "8 permille => 8", "8 ppm => 8", "8 basis points => 8", "12 fourth graders => 3", "5 half-lives => 2.5", "1,2 million => 12000000",
        "1,2 dozen => 144", "2+3 squared => 25", "a+2nd => a+2",
    ) + right("4 elevenths => 4/11", "3 lakh => 300000"),
    "words that say something of a number": wrong(
        "5 doubled => 5", "10 halved => 10", "8 reciprocal => 8", "5 inverse => 5", "4 opposite => 4", "9 rooted => 9", "0.3 repeating => 0.3", "101 binary => 101",
        "12 hex => 12", "4 imaginary => 4", "5 greater => 5", "5 onwards => 5", "5 exceeding => 5", "5 excluded => 5", "5 higher => 5 lower", "12 noon => 12 midnight",
        "5 minimum => 5 maximum", r"500\text{ BC} => 500\text{ AD}",
    ),
    "other things and other units": wrong(
        "20 percent increase => 20 percent decrease", "5 dollars profit => 5 dollars loss", "5 miles north => 5 miles south", "90 degrees clockwise => 90 degrees counterclockwise",
        "5 wins => 5 losses", "60 miles per hour => 60 kilometers per hour", "60 miles per hour => 60 miles per minute", r"60\text{ km per hour} => 60\text{ m/s}",
        "5 dollars per hour => 5 dollars per day", "5 dollars per pound => 5 cents per pound", r"6 meters per second => 6\text{ m/s}^2", "5 apples per hour => 5 apples per minute",
        "60 beats per minute => 60 beats per second", "5 meters long => 5 feet", "6 feet tall => 6 inches tall", "5 hours later => 5 minutes", "3 years old => 3 months old",
        r"5\text{ MPa} => 5\text{ kPa}", r"5\text{ mA} => 5\text{ A}", r"5\text{ kN} => 5\text{ N}", r"5\text{ keV} => 5\text{ eV}", r"5\text{ mW} => 5\text{ MW}", r"5\text{ ns} => 5\text{ ms}",
        r"5\text{ kcal} => 5\text{ cal}", r"5\text{ Mg} => 5\text{ mg}", r"5\text{ Nm} => 5\text{ nm}", "5 calories => 5 joules", r"5\text{ knots} => 5\text{ mph}", "5 stone => 5 pounds",
        "5 pesos => 5 dollars", "5 nickels => 5 dimes", "5 cubic units => 5 square units", r"\$5 => €5", r"\$5 => 5\text{ cents}", r"\$5 => 5 euros", r"¥5 => \$5", "5㎡ => 10m",
    ) + right(
        "60 miles per hour => 60 mph", "5 meters long => 5 meters", "12 red apples => 12 apples", r"\$5 => 5 dollars", r"\$5 => 5", "5 => 5 dollars",
        "5 cups of flour => 5", "12 months of the year => 12", "7 positive integers => 7", "2 real roots => 2", "15 prime numbers => 15", "8 more apples => 8", "5 m/s => 5",
        "9.8 m/s^2 => 9.8", "10 m^2 => 10", "60 km per hour => 60", r"\text{5 cm} => 5", r"\mathrm{5\,cm} => 5", r"25\pi cm^2 => 25\pi",
    ),
    "Chinese units and signs": wrong(
        "-3或5 => 3或5", "x>3或x<-1 => x<3或x>1", "[-1,2)或3 => [1,2)或3", "y=-x或y=x => y=x或y=x", "x=1/2或x=3 => x=12或x=3", "约3.5 => 约35", "增加3.5 => 增加35",
        "5分之一 => 5", "3又二分之一 => 3", "3成 => 3", "8折 => 8", "5的平方 => 5", "5平方 => 5", "5的倒数 => 5", "5减三 => 5", "5加二 => 5", "5点五 => 5", "5十 => 5",
        "5以上 => 5", "5或六 => 5", "3万元 => 3", "2亿元 => 2", "5百万 => 5", "3千万 => 3", "5角 => 5元", "5斤 => 5公斤", "5米每秒 => 5千米每小时", "一百五 => 105", "一千五 => 1005",
    ) + right("3万元 => 30000", "5百万 => 5000000", "x=1或x=2 => 1,2"),
    "words and products": wrong(
        "xy-z => xyz", "ab-cd => abcd", r"a/b \text{ of the total} => ab \text{ of the total}", r"n-k \text{ if even} => nk \text{ if even}", r"n!\text{ if odd} => n\text{ if odd}",
        r"|x|\text{ if real} => x\text{ if real}", "red, blue => der, lube", "north, east => north, seat", "room 12 => moor 12", "N2O4 => N4O2", "CO2 => C2O", "A1 => 1A",
        "2ˣ => 2x", "eⁱ => ei", "xᵃ => xa", "in correct => incorrect",
    ) + right("2ˣ => 2^x", "red, blue => blue, red", "right-angled => right angled"),
    "numbers beside numbers": wrong(
        "1 4 => 4", "5 1 => 5", "4 4 => 16", "2 3 => 6", r"1\quad 7 => 7", "1~4 => 4", r"2\,3 => 6", "0 5 => 0", "3 2/1 => 6", r"30^\circ 15 => 450", "7%3 => 73", "1%2 => 12",
        r"1+5\% => 6", "10-5% => 5", r"20\%x => 20x", "0.(3) => 0", "1.(6) => 6", "2.1(6) => 12.6", "0.333... => 0.333", "3.14159… => 3.14159", "1, 2, 3, ... => 1,2,3", "1.2.3 => 0.36",
        "1..2 => 0.2", "0xA => 0", r"√2.5 => \frac{\sqrt2}{2}", "sqrt12 => 2", "3sqrt10 => 0", r"0.5\% => \frac12", r"0.25\% => 0.25",
    ) + right(r"0.(3) => \frac13", r"0.\dot3 => \frac13", r"sqrt12 => 2\sqrt3", r"√2.5 => \sqrt{2.5}", r"0.5\% => 0.005", r"50\% => 50", "1,000, 2,000 => 1000, 2000"),
    "values further away": wrong(
        r"\lfloor\frac n2\rfloor+1 => \lceil\frac n2\rceil", r"\lfloor x\rfloor => \lceil x\rceil-1", r"\lfloor n/3\rfloor+1 => \lceil n/3\rceil", r"\lfloor\sqrt n\rfloor+1 => \lceil\sqrt n\rceil",
        "|x+10| => x+10", "|x-10| => 10-x", r"\min(x,10) => x", r"\max(x,-10) => x", r"\sqrt{(x+6)^2} => x+6", r"\operatorname{sgn}(x+10) => 1", r"\frac{|x-7|}{x-7} => -1",
        "y=|x+10| => y=x+10", r"\lfloor x/10\rfloor => \lceil x/10\rceil-1", r"\ln|x| => \ln x", r"\ln|x|+C => \ln x+C", r"\pi\cdot10^{-61} => 0", r"\pi\cdot10^{-61} => 2\pi\cdot10^{-61}",
        "10^{-61}x => 0", "x+10^{35} => y+10^{35}", "2^{1000}x+1 => 2^{1000}x", r"10^{40}+\pi => 10^{40}+e", "x^{1000}+x => x^{1000}", "x+10^{-32} => x",
    ) + right(r"\lceil\frac n2\rceil => \lfloor\frac{n+1}2\rfloor", r"n-\lfloor n/2\rfloor => \lceil n/2\rceil", r"\ln x^2 => 2\ln x"),
    "calls in other brackets": wrong(
        "E[X^2] => E[X]^2", r"\mathbb{E}[X^2] => \mathbb{E}[X]^2", "f[2t] => 2f[t]", r"\text{Var}[2X] => 2\text{Var}[X]", r"\mathbf{F}(2t) => 2\mathbf{F}(t)", r"\vec r(2t) => 2\vec r(t)",
        r"\mathcal{F}(2x) => 2\mathcal{F}(x)", r"\mathrm{P}(2A) => 2\mathrm{P}(A)", r"\frac{\mathrm dy}{\mathrm dx} => \frac yx", r"\frac{d}{dx}(x^2) => x", r"\frac{d^2y}{dx^2} => \frac{dy}{x^2}",
        r"\vec a\times\vec b => \vec a\cdot\vec b", r"\vec a\times\vec b => \vec b\times\vec a", r"\ln^{-1}(x) => \frac1{\ln x}",
    ) + right(r"\frac{d^2y}{dx^2} => \frac{d^2y}{dx^2}", "f(2023)=5 => 5", r"\varphi(12)=4 => 4", "f^{-1}(x)=2x => 2x", "e=2 => 2"),
    "conditions that limit": wrong(
        r"4 \text{ for } x>0 => 4", r"x^2\text{ for }x<0 => x^2", "x for x>0, -x for x<0 => x", "x => x for x>0, -x for x<0", r"n\text{ for even }n, n+1\text{ for odd }n => n", "3 for n even, 5 for n odd => 3",
        "5 for n=1, 7 otherwise => 5", "4 for 5 => 4", "4 with remainder 3 => 4", "circle with radius 3 => circle", "0 with error 5 => 0",
    ) + right(r"k\pi, k\in\mathbb Z => k\pi", r"2^n, n\ge1 => 2^n", r"\frac1x, x\ne0 => \frac1x", r"n\pi \text{ for all integers } n => n\pi"),
    "sets, relations and names": wrong(
        r"\{2x\mid x>3\} => x>3", r"\{x^2\mid x>3\} => (3,\infty)", r"\{-x:x>2\} => (2,\infty)", r"\{x\in\mathbb Z\mid x>2\} => (2,\infty)", r"x<-1\text{ and }x>3 => x<-1\text{ or }x>3",
        r"x>2\text{ and }x<5 => (-\infty,5)\cup(2,\infty)", "x>2 => y>2", "1<x<3 => 1<y<3", "a:b => a:b=2:3", "x:y:z => x:y:z=1:2:3", "(2a,b) => (2a,b)=(4,2)", r"4.4\approx4 => 4", r"4.5\approx5 => 5",
        r"\pi\approx3 => 3", r"\frac13\approx0 => 0", "1,1,2 => 1,2", "5,5,6 => 5,6", "2,2,3 => 2,3,3", "5,5 => 5,5,5", "2,1 => a=1,b=2", "a=2,b=1 => 1,2", r"\mathbb Z_5 => \mathbb Z^5", r"\mathbb N_0 => \mathbb N^0",
        r"5\in\{1,2\} => \{1,2\}", r"(1,2),(3,4) => (1,2)\cup(3,4)", "(1,2,3] => (1,2,3)",
    ) + right(r"x>2\text{ and }x<5 => (2,5)", "a:b=2:3 => 2:3", r"x<1\text{ or }x>3 => (-\infty,1)\cup(3,\infty)", r"\{x\mid x>2\} => (2,\infty)", r"\pm1,3 => 1,-1,3", "a=1,b=2 => 1,2", "1,2 => 2,1"),
    "choices among others": wrong(
        "(A) or (B) => A", "(A), (C) => A", "(A)(B)(C) => A", "A. B. C. D. => A", "A: or B => A", "A. no, B => A", "AABB => AB", "ABBA => AB",
    ) + right("(A), (C) => AC", "(A)(C) => AC", "A and C => AC", "A;C => A,C", "B. 12 => B", "(B) because of this => B"),
    "spellings that were refused": right(
        "30∘ => 30", "∠A=30° => 30", "⌊n/2⌋ => \\lfloor n/2\\rfloor", r"x⩽2 => x\le 2", r"\varphi => φ", r"\varepsilon => \epsilon", r"\nicefrac12 => \frac12", r"\textcolor{red}{5} => 5", r"5\tag1 => 5", r"\emph{yes} => yes",
        r"y^{\prime} => y'", "**5** => 5", "`5` => 5",
    ),
    "unbounded work": wrong(
        "1e5000 million => 4", "1e3000000 million => 4", "1e10000000 dozen => 4", "(x^{1000})^{1000} => x+1", "((x^{1000})^{1000})^{1000} => x+1", r"\sum_{k=1}^{9}k^{k^{k}} => x+1", r"\prod_{k=1}^{1000}(k!)^{k} => x+1",
        r"\sum_{k=1}^{1000}\sum_{j=1}^{1000}\frac{x}{k+j} => x+1", r"\sum_{k=1}^{5000}k => 12502500", r"\exp(\exp(\exp(\exp(5)))) => 7", r"\lfloor\exp(10^{9})\rfloor => 7",
    ),
}  # fmt: skip
