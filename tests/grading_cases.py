"""Answers a grader must tell apart, by category: (what stands in the box, gold answer, correct).

A text that starts with ``RAW:`` is a whole completion.
"""

CASES: dict[str, list[tuple[str, str, bool]]] = {
    "integers": [
        ("14", "14", True), ("14.0", "14", True), ("+14", "14", True), ("014", "14", True), ("14", "15", False),
        ("12", "1", False), ("-3", "3", False), ("−3", "-3", True), ("１４", "14", True), ("1 4", "14", False),
        ("14.", "14", True), ("--14", "-14", False), ("1e2", "100", True), ("-0", "0", True), ("0", "-0.0", True),
    ],
    "fractions": [
        (r"\frac{1}{2}", "0.5", True), (r"\dfrac12", r"\frac{1}{2}", True), (r"\tfrac{2}{4}", r"\frac12", True),
        ("2/5", "4/10", True), (r"-\frac{1}{2}", "-1/2", True), (r"\frac{-1}{2}", r"-\frac12", True),
        (r"\frac{1}{-2}", r"-\frac12", True), (r"\frac{1}{3}", "0.33", False), (r"\frac{1}{3}", "0.3333333333", False),
        (r"\frac{1}{0}", "1", False), ("1/0", "0", False), (r"\frac{3}{2}", r"\frac{2}{3}", False),
        (r"\frac{\frac{1}{2}}{3}", r"\frac16", True), (r"\frac 59", r"\frac{5}{9}", True), (r"5\div 9", r"\frac59", True),
        (r"\frac{10}{4}", "2.5", True), (r"\frac{1}{2}\cdot\frac{1}{2}", "0.25", True), ("3/4", "4/3", False),
    ],
    "decimals": [
        ("0.50", "0.5", True), (".5", "0.5", True), ("0.500001", "0.5", False), ("3.14", r"\pi", False),
        (r"0.\overline{3}", r"\frac13", True), (r"0.1\overline{6}", r"\frac16", True), ("2.999999", "3", False),
        (r"0.\overline{3}", "0.3", False), ("1.50", "1.5", True), ("0,5", "0.5", False),
    ],
    "percent": [
        (r"25\%", "25", True), (r"25\%", "0.25", True), (r"25\%", r"\frac14", True), ("25", r"25\%", True),
        ("0.25", r"25\%", True), (r"25\%", "2.5", False), (r"2.5\%", "25", False), (r"25\%", r"52\%", False),
        (r"20 \%", "20%", True), ("27.3%", "27.3", True), ("0.0025", r"25\%", False), (r"50\%", "5", False),
    ],
    "units": [
        (r"14 \text{ cm}", "14", True), ("14", r"14\text{ cm}", True), (r"15\mbox{ cm}^2", "15", True),
        (r"5\text{ cm}", r"5\text{ m}", False), (r"5\text{ m}", r"5\text{ meters}", True), ("70 miles per hour", "70", True),
        ("350,000 pages", "350000", True), (r"9\ \mathrm{km}", "9", True), ("12 apples", "12", True),
        (r"5\text{ cm}^2", r"5\text{ cm}^3", False), (r"36\sqrt{7}\text{ cm}^{3}", r"36\sqrt{7}cm^{3}", True),
        (r"5.4 \text{ cents}", "5.4", True), (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}", True),
        (r"4000 / 49 \mathrm{~m} / \mathrm{s}", r"\frac{4000}{49}", True), ("6 hours", "7 hours", False),
        ("12 feet", "12 inches", False),
    ],
    "separators": [
        ("1,000", "1000", True), ("1000", "1,000", True), (r"11,\! 111,\! 111,\! 100", "11111111100", True),
        (r"10\,080", "10080", True), ("1{,}000", "1000", True), ("1,00", "100", False), ("1,2", "12", False),
        ("(1,234)", "(1234)", False), ("(1,234)", "1234", False), ("1,000.5", "1000.5", True), ("12,345,678", "12345678", True),
        ("1 000", "1000", True), ("1,234", "1,235", False),
    ],
    "intervals": [
        ("(0, 1)", "(0,1)", True), ("[0, 1)", "(0,1)", False), (r"(-\infty, 0]", r"(-\infty,0]", True),
        (r"(-\infty, 0)", r"(-\infty,0]", False), (r"x \in [-2,7]", "[-2,7]", True), ("[-2,7]", r"x \in [-2,7]", True),
        (r"(0,9) \cup (9,36)", r"(9,36)\cup(0,9)", True), (r"(0,9) \cup (9,36)", "(0,36)", False),
        (r"-2 \le x < 1", "[-2,1)", True), (r"x \geq 2", r"[2,\infty)", True), (r"x > 2", r"[2,\infty)", False),
        (r"\{x \mid -2 \leq x < 1\}", r"\{x|-2\leq x < 1\}", True), (r"[-2,1)", r"\{x|-2\leq x < 1\}", True),
        (r"k \geqslant 2", r"k\ge2", True), (r"2 \le k", r"k\ge2", True), (r"k \le 2", r"k\ge2", False),
        (r"(2, +\infty)", r"(2,\infty)", True), (r"\left[\frac{1}{2}, 1\right]", "[0.5,1]", True),
    ],
    "sets": [
        (r"\{1, 2\}", r"\{2,1\}", True), (r"\{1,2\}", r"\{1,2,3\}", False), (r"\{-2\}", "-2", True),
        ("1, 2", r"\{1,2\}", True), (r"\emptyset", r"\varnothing", True), (r"\{1,1,2\}", r"\{1,2\}", True),
        ("7, 5, 3", "3,5,7", True), ("3 and 5", "5, 3", True), (r"3 \text{ or } 5", "3,5", True), ("3, 5", "3", False),
        ("4, 5", "4", False), (r"3 \text{ or } 4", "4", False), ("3 or 4", "4", False),
    ],
    "tuples": [
        ("(1,2)", "(1, 2)", True), ("(1,2)", "(2,1)", False), ("(1,2)", "12", False), ("(3,4)", "3,4", False),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})", True), ("(x,y)=(1,2)", "(1,2)", True),
        ("(1,2),(3,4)", "(3,4),(1,2)", True), ("(1,2),(3,4)", "(1,2)", False), ("(0.5, 1)", r"(\frac12,1)", True),
        ("(1,2,3)", "(1,2)", False), (r"(1, -4, -2)", "(1,-4,-2)", True), ("(2:3)", "2:3", True), ("4:6", "2:3", True),
        ("3:2", "2:3", False), ("1;2", "1; 2", True), ("2;1", "1;2", False),
    ],
    "matrices": [
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", True),
        (r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", True),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}", False),
        (r"\begin{pmatrix} 16/49 \\ 48/49 \end{pmatrix}", r"\begin{pmatrix} \frac{16}{49} \\ \frac{48}{49} \end{pmatrix}", True),
        (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", False),
        (r"\left[\begin{array}{l}1 \\ 9 \\ 0\end{array}\right]", r"\begin{pmatrix} 1 \\ 9 \\ 0 \end{pmatrix}", True),
        (r"(1, 2)", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", True),
        (r"\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", False),
    ],
    "equations": [
        ("x=5", "5", True), ("5", "x=5", True), ("x = 5", "x=6", False), ("y = -2x", "y=-2x", True), ("-2x", "y=-2x", True),
        ("2x + y = 0", "y=-2x", True), ("2x - y = 0", "y=-2x", False), ("f(x) = x - 1", "x-1", True),
        ("x - 1", "f(x)=x-1", True), ("3x-y=0", "y-3x=0", True), ("3=4", "4", False), ("4=4", "4", True), ("4=3", "4", False),
        ("x=3=4", "4", False), (r"\frac{x^2}{2}-\frac{y^2}{4}=1", r"2x^2-y^2=4", True), ("x=5, y=2", "x=5,y=2", True),
        ("k=3", "n=3", False), (r"2 + 2 = 4", "4", True), (r"2 + 2 = 5", "5", False), ("x < 5", "5", False),
        (r"x \ne 5", "5", False), ("x^2 = 4", "4", False),
    ],
    "expressions": [
        ("x^3+3x-6", "3x + x^3 - 6", True), ("(x+1)^2", "x^2+2x+1", True), ("(x+1)^2", "x^2+1", False),
        (r"18+2\pi", r"2(9+\pi)", True), ("2n", "n+n", True), (r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}", True),
        ("2n", "2m", False), ("x", "x^2", False), (r"\frac{11+9a}{20}", r"0.55+0.45a", True), ("5r^5", "5r^{5}", True),
        (r"\sin^2 x + \cos^2 x", "1", True), (r"\sin 2x", r"2\sin x\cos x", True), (r"\sin 2x", r"2\sin x", False),
        (r"e^{2x}", r"(e^x)^2", True), (r"\ln 4", r"2\ln 2", True), (r"\log_{2} 8", "3", True), (r"\log_{10} 2", r"\log_2 10", False),
        (r"\cot x", r"\frac{\cos x}{\sin x}", True), (r"|x|", "x", False),
        (r"\sqrt{x^2}", "|x|", True), (r"\binom{n}{2}", r"\frac{n(n-1)}{2}", True), (r"\lfloor 3.7 \rfloor", "3", True),
        (r"x^{-1}", r"\frac1x", True), ("ab", "ba", False), ("a b c", "c a b", True), (r"x_1 + x_2", r"x_{2}+x_{1}", True),
        (r"x_1", "x_2", False), (r"\tan^{-1} 1", r"\frac{\pi}{4}", True), ("x+C", "x", False),
    ],
    "roots": [
        (r"\sqrt{51}", r"\sqrt{51}", True), (r"\sqrt2", r"\sqrt{2}", True), (r"\sqrt{8}", r"2\sqrt{2}", True),
        (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}", True), (r"\sqrt[3]{8}", "2", True), (r"\sqrt{4}", "-2", False),
        ("√2", r"\sqrt{2}", True), ("√12", r"2\sqrt3", True), (r"\sqrt{2}", "1.41421356", False), (r"3\sqrt{13}", r"\sqrt{117}", True),
        (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}", True), (r"sqrt(2)", r"\sqrt{2}", True), (r"\sqrt{-4}", "2i", True),
    ],
    "plus-minus": [
        (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}", True), (r"1-\sqrt2,1+\sqrt2", r"1\pm\sqrt{2}", True),
        (r"\pm 3", "3", False), (r"\pm 3", "3,-3", True), (r"y=\pm\sqrt{3}x", r"y=\sqrt{3}x", False), (r"\pm 3", r"\mp 3", True),
    ],
    "complex": [
        ("1 - 12i", "-12i+1", True), ("1+2i", "1-2i", False), (r"i^2", "-1", True), (r"\frac{1}{i}", "-i", True),
        (r"-2+2 \sqrt{3} i", r"4e^{2\pi i/3}", True), (r"4-\mathrm{i}", "4-i", True), (r"e^{i\pi}", "-1", True),
    ],
    "degrees": [
        (r"90^\circ", "90", True), ("90", r"90^{\circ}", True), ("90°", "90", True), (r"90^\circ", "91", False),
        (r"90\text{ degrees}", r"90^\circ", True),
    ],
    "currency": [
        (r"\$36", "36", True), ("$36$", r"\$36", True), (r"\$5.40", "5.4", True), ("36元", "36", True), ("€36", "36", True),
        ("¥36", "36", True), (r"36\text{ dollars}", r"\$36", True), (r"\$36", "63", False),
    ],
    "mixed numbers": [
        (r"1\frac45", r"\frac{9}{5}", True), ("1 4/5", "1.8", True), (r"2\frac{1}{3}", r"\frac{7}{3}", True),
        (r"2\frac{1}{3}", r"\frac{2}{3}", False), ("14/5", "1 4/5", False), (r"2\frac58", r"\frac58", False),
    ],
    "text": [
        (r"\text{Evelyn}", "Evelyn", True), ("evelyn", r"\text{Evelyn}", True), ("east", "seat", False), ("Yes", "yes", True),
        ("Yes", "No", False), (r"\text{no solution}", "No solution", True), ("True", "False", False), ("ellipse", "parabola", False),
        (r"\text{Navin}", r"\text{Nevin}", False), ("undefined", "Undefined", True), (r"\textbf{yes}", "Yes", True),
    ],
    "times of day": [
        ("1:58 am", r"1:58 \text{ a.m.}", True), ("1:58 am", "1:58 pm", False), ("5am", "5:00 AM", True), ("12:30 pm", "0:30 pm", True),
        ("1:58", "1:59", False),
    ],
    "bases": [
        ("4343_6", "4343_{6}", True), ("4343_6", "4343_7", False), ("4210_{5}", "4210_5", True), ("40_9", "41_9", False),
    ],
    "choices": [
        (r"\text{(B)}", "B", True), ("B", r"\text{(B)}", True), ("(B) 12", "B", True), ("B. 12", "B", True), ("C", "B", False),
        ("ACD", "A,C,D", True), ("A, C", "AC", True), ("AC", "ACD", False), ("DCA", "ACD", True), ("12", "B", False), ("AB", "A", False),
    ],
    "Chinese": [
        ("5个", "5", True), ("36 元", "36", True), ("（1，2）", "(1,2)", True), ("三角形", "三角形", True), ("三角形", "正方形", False),
        ("1或2", "1,2", False), ("２０％", "20%", True), ("3、4", "3,4", True), ("5；6", "5;6", True), ("6；5", "5;6", False),
    ],
    "Unicode": [
        ("x²+1", "x^2+1", True), ("π/2", r"\frac{\pi}{2}", True), ("x²", "x2", False), ("½", "0.5", True), ("3×4", "12", True),
        ("∞", r"\infty", True), ("2⋅3", "6", True), ("5≤x", r"x\ge 5", True),
    ],
    "scientific": [
        (r"4.46 \times 10^{19}", "4.46e19", True), ("4.46e19", r"4.46\cdot10^{19}", True), (r"10^{-5}", "1e-5", True),
        (r"4.46 \times 10^{18}", "4.46e19", False), (r"1.09 \times 10^{0}", "1.09", True),
    ],
    "boxes and braces": [
        (r"RAW:\boxed{1} and then \boxed{2}", "2", True), (r"RAW:\boxed{1} and then \boxed{2}", "1", False),
        (r"RAW:\boxed{\frac{1}{2}", r"\frac12", False), (r"RAW:\boxed{4} \boxed{5", "4", True), ("RAW:no box, 4", "4", False),
        (r"RAW:\boxed{}", "", False), (r"RAW:\boxed{\boxed{4}}", "4", True), (r"RAW:\fbox{7}", "7", False),
        (r"RAW:\boxed {8}", "8", True), ("RAW:```\n\\boxed{4}\n```\nso \\boxed{5}", "5", True),
        ("RAW:so \\boxed{5}\n```output\n\\boxed{4}\n```", "5", True), (r"RAW:<think>\boxed{4}</think>\boxed{5}", "5", True),
        (r"RAW:\boxed{5}<think>\boxed{4}", "5", True), (r"RAW:<think>\boxed{4}", "4", False), (r"{{{4}}}", "4", True),
        (r"RAW:\boxed{x}} 4", "4", False),
    ],
    "hacks": [
        (r"1,2,3,4,5,6,7,8,9", "4", False), (r"4 \text{ or } 5 \text{ or } 6", "5", False), ("4 4", "4", False),
        (r"\text{the answer is } 4", "4", False), (r"4^{1}", "4", True), ("x", "4", False), ("", "4", False), ("?", "4", False),
        (r"4 \ne 5", "4", False), (r"\{4,5\}", "4", False), ("[4]", "4", True), ("0 \\cdot x + 4", "4", True), ("nan", "4", False),
        (r"\infty", "4", False), (r"\frac{0}{0}", "0", False), (r"4\pm0", "4", True), ("4.000000000000000000000000000001", "4", False),
    ],
    "code": [
        ("__import__('os').system('touch hacked')", "4", False), ("exec(\"open('hacked','w')\")", "4", False),
        ("eval('2+2')", "4", False), (r"\input{/etc/passwd}", "4", False), ("lambda: 4", "4", False), ("(1).__class__", "4", False),
        ("os._exit(0)", "4", False), ("4 if True else 5", "4", False), ("sympy.Integer(4)", "4", False), (r"\write18{ls}", "4", False),
    ],
    "too much": [
        ("9^{9^{9^{9}}}", "1", False), ("9**9**9**9", "1", False), ("1000000000!", "1", False), ("(" * 400 + "1" + ")" * 400, "1", False),
        ("{" * 5000 + "4" + "}" * 5000, "4", False), ("1" * 100_000, "1", False), ("x" * 100_000, "x", False),
        (r"\frac{" * 30 + "1" + "}{2}" * 30, "1", False), (r"\sqrt{" * 100 + "2" + "}" * 100, "2", False),
        ("2^{100000}", "1", False), ("(x+y+z)^{64}", "1", False), (r"\sum_{n=1}^{\infty} \frac{1}{n^2}", r"\frac{\pi^2}{6}", False),
        (r"\int_0^1 x dx", r"\frac12", False), (r"2^{1009}", r"2 \cdot 2^{1008}", True), (r"\prod_{k=1}^{10^9} k", "1", False), ("10^{10^{10}}", "1", False),
        (r"\sin(" * 60 + "x" + ")" * 60, "x", False), ("+".join(["x"] * 199), "199x", True), (r"\binom{10^6}{10^5}", "1", False),
        (r"e^{e^{e^{e^{e}}}}", "1", False), (r"\lfloor 10^{60} \pi^{60} \rfloor", "1", False), ("RAW:" + r"\boxed{" * 20_000, "1", False),
        ("RAW:" + "}" * 100_000 + r"\boxed{3}", "3", True), ("RAW:" + "\\" * 100_000 + r" \boxed{3}", "3", True),
        (r"\log_{0} 5", "1", False), (r"0^{-1}", "1", False), (r"(1+10^{-60})^{64}", "1", False),
    ],
}  # fmt: skip
