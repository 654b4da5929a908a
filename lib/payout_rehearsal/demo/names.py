"""Studios that could exist: countries, currencies, and the words that their names are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Market:
    """
    Where studios of one kind are.

    Attributes:
        studios: How many of two hundred.

        locales: What their owners read; None where the ledger does not know.

        rate: Roughly how many units of the currency one US dollar buys, to make amounts believable.

        first, second: The words of a name, in the order in which *pattern* uses them.
    """

    country: str
    currency: str
    studios: int
    locales: tuple[str | None, ...]
    rate: float
    pattern: str
    first: tuple[str, ...]
    second: tuple[str, ...]


_PLACES = (
    "Alder Lane",
    "Blue Heron",
    "Cedar Hollow",
    "Copper Kettle",
    "Driftwood",
    "Foxglove",
    "Juniper & Rye",
    "Little Finch",
    "Mill Street",
    "North Fork",
    "O'Hara's",
    "Paper Moon",
    "Quiet Harbor",
    "Red Barn",
    "Saltmarsh",
    "Second Story",
    "Tide & Timber",
    "Wildflower",
)
_CRAFTS = (
    "Ceramics",
    "Clay Studio",
    "Dance Loft",
    "Fiber Arts",
    "Glassworks",
    "Letterpress",
    "Music Rooms",
    "Print Shop",
    "Woodworking",
    "Yoga",
)

MARKETS = (
    Market("US", "usd", 130, ("en_US", "en_US", "en_US", "es_US", None), 1.0, "{} {}", _PLACES, _CRAFTS),
    Market(
        "DE",
        "eur",
        16,
        ("de_DE",),
        0.92,
        "{} {}",
        ("Töpferei", "Werkstatt", "Atelier", "Tanzraum"),
        ("Müller & Söhne", "am Kanal", "Grünwald", "Lindenhof", "Weiß", "Zur alten Mühle"),
    ),
    Market(
        "FR",
        "eur",
        12,
        ("fr_FR",),
        0.92,
        "{} {}",
        ("Atelier", "Les Mains de", "La Fabrique", "L'Étoile de"),
        ("Argile", "Belleville", "Céleste", "Noémie", "Saint-Aubin"),
    ),
    Market(
        "ES",
        "eur",
        8,
        ("es_ES",),
        0.92,
        "{} {}",
        ("Taller", "Casa", "Estudio"),
        ("Barro y Sol", "Niña Azul", "La Peña", "Olivares"),
    ),
    Market(
        "GB",
        "gbp",
        14,
        ("en_GB",),
        0.79,
        "{} {}",
        ("Bramble", "Canal Yard", "Hackney", "Pennine", "St Mary's", "Thistle"),
        ("Pottery", "Bookbinders", "Joinery", "Life Drawing"),
    ),
    Market(
        "CA",
        "cad",
        10,
        ("en_CA", "fr_CA"),
        1.36,
        "{} {}",
        ("Maple Row", "Plateau", "Fraser", "Lakehead"),
        ("Pottery", "Weavers", "Atelier", "Glass"),
    ),
    Market(
        "JP",
        "jpy",
        7,
        ("ja_JP",),
        150.0,
        "{}{}",
        ("陶芸工房", "木工房", "書道教室"),
        ("青", "やまびこ", "月見", "さくら"),
    ),
    Market(
        "KW",
        "kwd",
        3,
        ("ar_KW", "en_KW"),
        0.31,
        "{} {}",
        ("Dar", "Bayt", "Sadu"),
        ("Al Fann", "Al Khazaf", "House Weaving"),
    ),
)
