"""Every number that decides between readings, with its reason.

A reading needs a place, a street and something that holds them together; scores only rank readings that explain every
token. One point is about what a clear sign is worth: a field of its own, a label, a known word.
"""

from __future__ import annotations

from typing import Final

# -- decision ----------------------------------------------------------------------------------------------------
ENOUGH: Final = 7.0  # a place (4) and a street (3.5), less half a point for one weak sign
MARGIN: Final = 0.7  # a reading that says something else must be worse by more than one weak sign

# -- city and state ----------------------------------------------------------------------------------------------
CITY_BEFORE_STATE: Final = 4.0  # "Campinas - SP": what people write
CITY_AFTER_STATE: Final = 3.0  # "SP - Campinas"
STATE_OPENS_FIELD: Final = 0.2  # "…, Bahia" may be a street's name, ", BA" hardly
STATE_LABELLED: Final = 1.0
CITY_LABELLED: Final = 2.0
CITY_OPENS_FIELD: Final = 0.5
PER_CITY_WORD: Final = 0.8  # the longer name wins: "São José do Rio Preto" over "Rio Preto"
PER_NICKNAME_WORD: Final = 0.6
ABBREVIATED_CITY: Final = -0.3  # "S. J. do Rio Preto": a name in full is better evidence
ENDS_TEXT: Final = 1.0  # nothing unexplained follows
CEP_AGREES: Final = 0.5
CEP_DISAGREES: Final = -3.0  # never enough, whatever else holds
CITY_BY_CEP: Final = 4.0  # a field of its own that the CEP's state has
CITY_BY_STATE_APART: Final = 2.5  # the state stands somewhere else
CITY_IS_CAPITAL: Final = 3.5
CITY_IS_NAMESAKE: Final = 4.0  # "…, São Paulo": city and state at once
CITY_IN_ONE_STATE: Final = 2.5
TAIL_IS_PLAIN: Final = 4.0  # the last words of a field are a name that is nothing else
TAIL_BY_CEP: Final = 3.5
CLEAR_PLACE: Final = 5.0  # with such a place, cities without a state are not looked for

# -- street ------------------------------------------------------------------------------------------------------
LONG_TYPE: Final = 4.0  # "Rua", "Travessa" …
SHORT_TYPE: Final = 3.7  # "R", "Av": also initials
COUNTED_TYPE: Final = 5.2  # "2ª Travessa X": more than the Travessa inside it
TYPE_OPENS_FIELD: Final = 1.0
TYPE_INSIDE_FIELD: Final = -0.5
PER_TOKEN_BEFORE: Final = -0.01  # of two equal streets, the first
TYPE_BEHIND_PLACE: Final = 3.2  # "lages sc coral r sete 40"
CODED_STREET: Final = 4.5  # "BR 277", "SQN 210": nothing else is written so
QUADRA: Final = 4.0
RURAL_TYPE: Final = 4.0
LOCALITY: Final = 4.0  # "Povoado Lagoa Azul": it opens the address
BARE_NAME: Final = 2.5  # a name without a type: only with much else in its favour

# -- number and district ------------------------------------------------------------------------------------------
NUMBER: Final = 2.0
NO_NUMBER: Final = 2.0  # "S/N" right behind the street
NO_NUMBER_APART: Final = 1.5
NUMBER_ANNOUNCED: Final = 0.5  # "nº 12"
UNITS_FOR_NUMBER: Final = 1.0  # "Quadra 3, Lote 4" instead of a number
DISTRICT_LABELLED: Final = 1.0
DISTRICT: Final = 1.0
DISTRICT_KNOWN: Final = 0.5  # a label or a district's first word shows it
