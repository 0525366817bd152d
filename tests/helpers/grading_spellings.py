"""One answer in other spellings, by kind, with what is near and differs: as in `helpers.grading_cases`."""

SPELLINGS: dict[str, list[tuple[str, str, bool]]] = {
    "braces": [
        ("{1,2}", r"\{1,2\}", True), ("{2,1}", r"\{1,2\}", True), (r"k\in{1,2}", r"\{1,2\}", True), (r"x \in \{1, 2\}", r"\{1,2\}", True),
        ("{1,2}", r"\{1,3\}", False), ("{1,2,3}", r"\{1,2\}", False), (r"\{\}", r"\emptyset", True), (r"\varnothing", r"\{\}", True), (r"\{0\}", r"\emptyset", False),
        (r"\lbrace 1,2 \rbrace", r"\{1,2\}", True), ("{5}", "5", True), (r"\{x: x>2\}", r"(2,\infty)", True), (r"\{x: x\ge 2\}", r"(2,\infty)", False),
    ],
    "names of several letters": [
        ("AB=4,CD=5", "4,5", True), (r"\|AB\|=1", "1", True), ("|AB|=1", "1", True), (r"\angle APC=74^\circ", "74", True), (r"\angle APC=74^\circ", r"74^\circ", True),
        (r"\angle A = 30^\circ", "30", True), (r"m\angle ABC = 45^\circ", r"45^{\circ}", True), (r"S_{\triangle ABC}=6", "6", True), (r"\overline{AB}=7", "7", True),
        ("AB=4", "5", False), (r"\angle APC=74^\circ", "47", False), ("AB=4,CD=5", "4,6", False), ("AB=4", "CD=4", False),
    ],
    "semicolons": [
        ("(0;0;0)", "(0,0,0)", True), ("(1;2)", "(1,2)", True), ("1;2", r"\{1,2\}", True), ("(0;0;1)", "(0,0,0)", False), ("(1;2)", "(2,1)", False), ("1;3", r"\{1,2\}", False),
    ],
    "units in commands": [
        (r"125\textnormal{ miles}", "125", True), (r"\frac13\textbf{ meters}", r"\frac13", True), ("3s", "3", True), ("[45 degrees]", "45", True), (r"7\textit{ cm}", "7", True),
        (r"12\ \textsf{kg}", "12", True), (r"9.8\,\mathrm{m/s^2}", "9.8", True), (r"9.8\,\mathrm{m}/\mathrm{s}^2", r"9.8\text{ m/s}^2", True), (r"5\hbox{ ft}", "5", True),
        (r"125\textnormal{ miles}", "126", False), (r"5\textit{ cm}", r"5\text{ km}", False), ("[45 degrees]", "54", False), (r"30\text{ m}^2", r"30\text{ m}", False),
        (r"25^\circ\text{C}", "25", True), (r"25^\circ\text{C}", r"25^\circ\text{F}", False), ("25°C", r"25^\circ C", True), ("€36", r"36\text{ euros}", True), ("€36", r"36\text{ dollars}", False),
    ],
    "matrices among other things": [
        (r"\begin{pmatrix}1\\2\end{pmatrix},\begin{pmatrix}3\\4\end{pmatrix}", r"\begin{pmatrix}3\\4\end{pmatrix},\begin{pmatrix}1\\2\end{pmatrix}", True),
        (r"x=\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", True), (r"A = \begin{bmatrix}1&0\\0&1\end{bmatrix}", r"\begin{pmatrix}1&0\\0&1\end{pmatrix}", True),
        (r"\left\{\begin{pmatrix}1\\2\end{pmatrix},\begin{pmatrix}0\\1\end{pmatrix}\right\}", r"\left\{\begin{bmatrix}0\\1\end{bmatrix},\begin{bmatrix}1\\2\end{bmatrix}\right\}", True),
        (r"\begin{pmatrix}1\\2\end{pmatrix},\begin{pmatrix}3\\4\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix},\begin{pmatrix}3\\5\end{pmatrix}", False),
        (r"x=\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}", False), (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix},\begin{pmatrix}3\\4\end{pmatrix}", False),
        (r"\langle1,2\rangle", "(1,2)", True), (r"\left\langle 1, -2, 3\right\rangle", "(1,-2,3)", True), (r"\langle1,2\rangle", "(2,1)", False), ("⟨1,2⟩", "(1,2)", True),
        (r"\langle 3, 4\rangle", r"\begin{pmatrix}3\\4\end{pmatrix}", True),
    ],
    "as programs write": [
        ("2**(1/4)", r"\sqrt[4]{2}", True), ("x**2 + 1", "x^2+1", True), ("x != 2", r"x\ne 2", True), (r"\\frac{1}{2}", "0.5", True), ("sqrt(3)/2", r"\frac{\sqrt3}{2}", True),
        ("2*pi", r"2\pi", True), ("exp(1)", "e", True), ("log(8)/log(2)", "3", True), ("x**2", "2x", False), ("x != 2", "x=2", False), (r"\\frac{1}{2}", "2", False), ("3*x**2*y", "3x^2y", True),
        ("asin(1)", r"\frac{\pi}{2}", True), ("1.5e3", "1500", True), ("floor(7/2)", "3", True), ("x<=3", r"x\le 3", True),
    ],
    "a value with its rounding": [
        (r"2\sqrt3\approx3.46", r"2\sqrt3", True), (r"2\sqrt3\approx3.46", "3.46", True), (r"2\sqrt3", r"2\sqrt3\approx3.46", True), ("3.46", r"2\sqrt3\approx3.46", True),
        (r"\frac{22}{7} \approx 3.14", r"\frac{22}{7}", True), (r"x=\sqrt2\approx1.41", r"\sqrt2", True), (r"\sqrt2\approx1.414", "1.414", True), (r"\approx 3.5", "3.5", True),
        (r"2\sqrt3\approx5", "5", False), (r"2\sqrt3\approx3.52", "3.52", False), (r"4\approx5", "5", False), (r"2\sqrt3\approx3.46", r"3\sqrt2", False), ("3.47", r"2\sqrt3\approx3.46", False),
        (r"\sqrt2\approx1.41", "1.42", False),
    ],
    "products of letters": [
        (r"x\cdot y", "xy", True), ("nm", "mn", True), ("xy", r"y \times x", True), ("2ab", "2ba", True), (r"p q r", "rqp", True), ("xy", "xz", False), (r"x\cdot y", "x+y", False), ("on", "no", False),
        ("tea", "eat", False), ("listen", "silent", False),
    ],
    "scripts": [
        ("C^2_5", "C_5^2", True), ("C_5^2", "C_5^3", False), ("a^2_{n}", "a_n^2", True), (r"\overline{x}", r"\bar{x}", True), (r"\bar x", r"\overline{x}", True), (r"\bar{x}", "x", False),
        (r"0.\bar{3}", r"\frac13", True), (r"{16\choose2}", "120", True), (r"{16\choose2}", r"\binom{16}{2}", True), (r"{n\choose 2}", r"\frac{n(n-1)}{2}", True), (r"{16\choose2}", "8", False),
    ],
    "inequalities": [
        ("-x>-1", "x<1", True), ("2x>4", "x>2", True), ("-2x<-6", "x>3", True), ("x-1>0", r"(1,\infty)", True), ("3 > x", "x<3", True), (r"2x+1\le 5", r"x\le 2", True), (r"0 \ge x-4", r"(-\infty,4]", True),
        ("-x>-1", "x>1", False), ("2x>4", r"x\ge 2", False), ("-2x<-6", "x<3", False), ("x>2", "x>3", False), ("x>a", "x<a", False), ("x > a", "a < x", True), ("x^2>4", "x>2", False),
    ],
    "boxes": [
        (r"RAW:So \boxed 7.", "7", True), (r"RAW:\fbox{5}", "5", True), (r"RAW:\boxed 7 or \boxed{8}", "8", True), (r"RAW:\boxed{8} not \boxed 7", "7", True), (r"RAW:\boxed 7", "8", False),
    ],
    "factorials, sums and limits": [
        ("4!", "24", True), ("0!", "1", True), (r"\frac{6!}{3!3!}", "20", True), ("n!", "n(n-1)!", True), ("5!-1", "119", True), ("4!", "4", False), ("3!!", "720", False), (r"\sum_{k=1}^{4}k", "10", True),
        (r"\sum_{k=1}^{10} k^2", "385", True), (r"\prod_{k=1}^{5}k", "120", True), (r"\sum_{i=0}^{3} 2^i", "15", True), (r"\sum_{k=1}^{3}\sum_{j=1}^{2} kj", "18", True), (r"\sum_{k=1}^{4}k", "9", False),
        (r"\lim_{x\to 0}\frac{\sin x}{x}", "1", True), (r"\lim_{n\to\infty}\frac{2n+1}{n}", "2", True), (r"\lim_{x\to 0^+}\frac{|x|}{x}", "1", True), (r"\lim_{x\to 0}\frac{\sin x}{x}", "0", False),
        (r"\binom{5}{2}", "10", True), (r"\sum_{k=1}^{4}x^k", "x+x^2+x^3+x^4", True), (r"\prod_{k=1}^{4}\frac{k}{k+1}", r"\frac15", True), (r"2\cdot 3!", "12", True), ("1000!", "1", False),
    ],
    "Chinese numerals": [
        ("五", "5", True), ("十二", "12", True), ("二十", "20", True), ("三十五", "35", True), ("一百二十", "120", True), ("五个", "5", True), ("百分之五", "0.05", True), ("五分之三", r"\frac35", True), ("一万二千", "12000", True),
        ("五", "6", False), ("十二", "102", False), ("三角形", "3", False), ("选C", "C", True), ("选择 B", "B", True), ("选C", "D", False), ("第五", "6", False), ("二五", "25", True),
    ],
    "English numerals": [
        ("five", "5", True), ("twenty-one", "21", True), ("one hundred and five", "105", True), (r"\text{seven}", "7", True), ("two thousand", "2000", True), ("five", "4", False), ("twenty one two", "23", False), ("five six", "11", False),
        ("ten", "10", True), ("zero", "0", True),
    ],
    "conditions": [
        (r"2n-1 \text{ where } n\ge1", "2n-1", True), (r"k\pi, \text{ where } k \in \mathbb{Z}", r"k\pi", True), (r"k\pi \text{ for } k \in \mathbb{Z}", r"k\pi", True), ("2n-1 where n is an integer", "2n-1", True),
        (r"k\pi, \text{ where } k \in \mathbb{Z}", r"k\pi, \text{ where } k \in \mathbb{N}", False), (r"2n+1 \text{ where } n\ge1", "2n-1", False), (r"4 \text{ if } x>0", "4", False),
    ],
    "brackets and marks": [
        ("(" * 40 + "5" + ")" * 40, "5", True), ("((5))", "5", True), ("((1,2))", "(1,2)", True), (r"\left(\left(x+1\right)\right)", "x+1", True), ("(5", "5", False), ("((6))", "5", False), (r"\underline{5}", "5", True),
        (r"\mathbf{12}", "12", True), (r"\displaystyle 7", "7", True), (r"\;9\;", "9", True), ("5 .", "5", True),
    ],
}  # fmt: skip
