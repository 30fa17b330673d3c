"""The numbers that tutorial 001 printed, in its two versions: with biases that start at zero, and at random."""

FIRST, LATER = "zero biases", "random biases"

_PRINTED = {
    "a": """
        0.0326758 0.0226918 0.011696 0.00415453 0.0012666 0.000752955 0.000594137 0.000480352 0.000391988
        0.000325791 0.000274367 0.000232857 0.000203347 0.000174712 0.000152048 0.000133337 0.000117509
        0.000103682 0.00018705 8.6625e-05""",
    "b": """
        1.64046 1.04613 0.615243 0.374377 0.240936 0.170561 0.129946 0.102381 0.0822558 0.0662137 0.0936523
        0.0526802 0.0419153 0.0369021 0.0325753 0.0288781 0.0255475 0.0382324 0.0227736 0.0192759""",
    "c": """
        -0.00801988 -0.013019 -0.0185127 -0.0222809 -0.0237242 -0.0239777 -0.0240584 -0.0241174 -0.0241601
        -0.0241909 -0.0242153 -0.0242261 -0.0242466 -0.0242636 -0.0242755 -0.0242843 -0.0242866 -0.0242972
        -0.0242552 -0.0243094 -0.0243143 -0.0243181 -0.0243214 -0.0243235 -0.0243226 -0.0243273 -0.0243295
        -0.0243309 -0.024331 -0.0243338 -0.0243016 -0.0243358 -0.0243359 -0.0243366 -0.0243367 -0.0243389
        -0.0243368 -0.0243384 -0.0243396 -0.0243389""",
    "d": """
        -0.158069 -0.249643 -0.343518 -0.418605 -0.455141 -0.460284 -0.465122 -0.466948 -0.469912 -0.468146
        -0.467525 -0.471092 -0.473378 -0.473418 -0.474825 -0.475874 -0.476462 -0.474458 -0.464896 -0.475941""",
    "e": """
        -0.463207 -0.464091 -0.465909 -0.466617 -0.466904 -0.467223 -0.466796 -0.466863 -0.467507 -0.466914
        -0.466527 -0.466555 -0.466267 -0.466574 -0.467172 -0.466934 -0.467269 -0.466998 -0.466324 -0.466956""",
    "f": """
        -0.165047 -0.287878 -0.437618 -0.554195 -0.606653 -0.616126 -0.616575 -0.617646 -0.61589 -0.617932
        -0.617993 -0.619369 -0.619804 -0.620771 -0.621155 -0.621924 -0.621459 -0.622785 -0.623806 -0.622236""",
}
LOSSES = {letter: [float(number) for number in numbers.split()] for letter, numbers in _PRINTED.items()}
"""The losses that the first version printed, before steps 25, 50, ... are taken, by training."""

STARTS = {
    "a": {FIRST: 0.2626268, LATER: 0.0589143},
    "b": {FIRST: 11.55283, LATER: 6.25280},
    "c": {FIRST: 0.1069660, LATER: 0.0051087},
    "d": {FIRST: 2.2044296, LATER: 0.1149422},
}
"""The losses at the common initial state, by training."""

ENDS = {
    "a": {FIRST: 8.66250e-5, LATER: 2.6069e-5},
    "b": {FIRST: 0.0192759, LATER: 0.0142583},
    "c": {FIRST: -0.0243389, LATER: -0.0242375},
    "d": {FIRST: -0.4759409, LATER: -0.4670448},
    "e": {FIRST: -0.4669560, LATER: -0.4685720},
    "f": {FIRST: -0.6222359, LATER: -0.5758561},
}
"""The last losses by training: before step 500, of c before step 1,000."""

C_AT_500 = {FIRST: -0.0243094, LATER: -0.0243392}
C_BEST = {LATER: -0.0243492}
"""The loss of c before step 500, and the smallest of any step."""

SCORE_AT_ENDS = {
    "a": ({FIRST: 7.55523, LATER: 6.99703}, {FIRST: -7.03534, LATER: -7.00277}),
    "b": ({FIRST: 7.00408, LATER: 7.00132}, {FIRST: -7.06138, LATER: -6.99112}),
    "c": ({FIRST: 7.53048, LATER: 7.28941}, {FIRST: -7.01606, LATER: -7.20665}),
    "d": ({FIRST: 9.44848, LATER: 5.90841}, {FIRST: -6.97239, LATER: -6.64694}),
    "e": ({FIRST: 6.28832, LATER: 6.08112}, {FIRST: -6.91366, LATER: -6.83517}),
    "f": ({FIRST: 7.07824, LATER: 7.31557}, {FIRST: -9.33212, LATER: -4.67879}),
}
"""The learned scores at -10 and at 10, where the true one is 7 and -7, by training."""

RECOVERED = {
    "a": (0.0200, 0.1003),
    "b": (0.0133, 0.0957),
    "c": (0.0441, 0.1030),
    "d": (0.0283, 0.1239),
    "e": (0.0210, 0.0842),
    "f": (0.1171, 0.0077),
}
"""Total variation of the recovered density to the target, and its mass left of the valley, by training.

They are read off the figures of the later version; the true mass is 0.0998.
"""


def printed(letter: str) -> dict[int, float]:
    """Return the losses that the first version printed, by step."""
    return {25 * (i + 1): loss for i, loss in enumerate(LOSSES[letter])}
