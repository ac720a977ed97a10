import pytest
from tilth.core.normalise import normalise


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Blue, Sash!", "blue sash"),
        ("an old U.S. lamp", "old us lamp"),
        ("3.5 kg.", "3.5 kg"),
        ("1,200 men", "1200 men"),
        ("1,20", "1 20"),
        ("twenty-three", "23"),
        ("three hundred and forty-two", "342"),
        ("a hundred steps", "100 steps"),
        ("two thousand and five", "2005"),
        ("twelve thousand five hundred", "12500"),
        ("two three", "2 3"),
        ("someone bought tenants a tent", "someone bought tenants tent"),
        ("sixteen", "16"),
        ("12 %", "12 percent"),
        ("It isn’t so", "it is not so"),  # noqa: RUF001
        ("sea–green", "sea green"),  # noqa: RUF001
        ("Orrow's", "orrows"),
        ("...", ""),
        ("Vitamin A", "vitamin a"),
        ("It is vitamin A, a vitamin", "it is vitamin a vitamin"),
        ("A", "a"),
        ("-5 or −5 degrees", "-5 or -5 degrees"),  # noqa: RUF001
        ("1939-45, pre-1900", "1939 45 pre 1900"),
        ("C++, C# and C", "c++ c# and c"),
        ("Grade A+", "grade a+"),
        ("No. #5, 2+3", "no 5 2 + 3"),
        ("3½ and 3 1/2 metres", "3 1 2 and 3 1 2 metres"),
        ("10⁵, 10^5, 10¹² and 10⁻³", "10 5 10 5 10 12 and 10 -3"),
        ("5 m², H₂O", "5 m2 h2o"),
        ("x < 5, y >= 4", "x < 5 y > = 4"),
        ("x == y != z", "x = = y = z"),
        ("7 × 8, 7 * 8 and 7 / 8", "7 * 8 7 * 8 and 7 / 8"),  # noqa: RUF001
        ("> **1702** <b>1703</b>, and/or x=y", "1702 b 1703 b and or x y"),
        ("हिन्दी में", "हिन्दी में"),
        ("كَتَبَ light\u00adhouse", "كتب lighthouse"),
        ("It rains 😢, said it😀", "it rains 😢 said it 😀"),
        ("它建于1874年。", "它 建 于 1874 年"),
    ],
)
def test_normalise(text: str, normal: str):
    assert normalise(text) == normal
