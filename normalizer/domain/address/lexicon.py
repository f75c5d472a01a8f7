"""The word lists that the rules ask, each derived from the roles in `words/words.toml`.

What a role means stands in that file; here is what the rules call it. Keys are folded (`text.word_key`).
"""

from __future__ import annotations

from typing import Final

from normalizer.domain.address.words import WORDS, phrase_key

_keys, _table = WORDS.keys, WORDS.table

# Streets.
STREET_TYPES: Final = _table("street")
WEAK_TYPES: Final = _keys("street-weak")
LAST_RESORT_TYPES: Final = _keys("street-last")
RURAL_TYPES: Final = _keys("rural")
LOCALITIES: Final = _table("locality")
SETTLEMENTS: Final = _table("settlement")
DOUBTFUL_LOCALITIES: Final = _keys("doubtful-locality")
RURAL_PLACES: Final = _keys("rural-place")
INSTITUTIONS: Final = _keys("institution", "building")
OPENING_TYPES: Final = _table("street-opening")
DEFAULT_TYPE: Final = WORDS.the("street-default")
COUNTED_TYPES: Final = _keys("street-counted")
GLUED_TYPES: Final = WORDS.spellings("street-glued")
INITIAL_TYPES: Final = _keys("street-initial")
COMMON_TYPES: Final = _keys("street-common")
ROAD_TYPES: Final = WORDS.longs("road")
ROAD: Final = WORDS.the("road-default")
AREA_STREET: Final = WORDS.the("area-street")
EXTENSIONS: Final = _keys("extension")
NUMBERED_STREET_WORDS: Final = _keys("numbered-name")
NO_STREETS: Final = _keys("no-street")
ROAD_CODES: Final = _keys("road-code")
SECTORS: Final = _keys("sector")
SECTOR_PREFIXES: Final = _keys("sector-prefix")
SECTOR_WORDS: Final = _keys("sector", "sector-word", "side")
STATE_STREETS: Final = _table("state-street")
MONTHS: Final = _keys("month")

# Names.
TITLES: Final = _table("title")
WEAK_TITLES: Final = _keys("title-weak")
WORD_TITLES: Final = _keys("title-word")
DOTTED_TITLES: Final = _keys("title-dotted")
MARQUIS: Final = _table("title-marquis")
INITIALS: Final = WORDS.meanings("initial")
RAISED: Final = {short: phrase_key(long) for short, long in _table("raised").items()}
SAINT: Final = WORDS.the("saint")
SAINT_FEMININE: Final = WORDS.the("saint-feminine")
SAINT_BEFORE_VOWEL: Final = WORDS.the("saint-before-vowel")
SAINT_INITIALS: Final = _keys("saint-initial")
DOM: Final = WORDS.the("dom")
DONA: Final = WORDS.the("dona")
DOM_INITIALS: Final = _keys("dom-initial")
OUR: Final = WORDS.the("our")
OUR_WORDS: Final = _keys("our", "our-letter")
OUR_LADY: Final = _keys("our-lady", "our-initial")
OUR_INITIALS: Final = _keys("our-initial")
LADY: Final = _keys("lady")
LADY_TITLE: Final = WORDS.the("lady-title")
LADY_TITLES: Final = _keys("lady-title")
FEMININE_SAINTS: Final = _keys("saint-f")
DOM_NAMES: Final = _keys("dom-name")
DONA_NAMES: Final = _keys("dona-name")
SURNAMES: Final = _keys("surname")
UNACCENTED: Final = _keys("unaccented")
PREPOSITIONS: Final = _keys("preposition")
PLURAL_ARTICLES: Final = _keys("plural-article")
SMALL_WORDS: Final = _keys("small")
OF: Final = _keys("of", "bare-of")
BARE_OF: Final = _keys("bare-of")
ARTICLES: Final = _keys("article")
AND: Final = _keys("and")
TO: Final = _keys("to")
BREAKS_OFF: Final = PREPOSITIONS - _keys("no-break")  # the last word of a name that is not whole
ROMAN: Final = _keys("roman")
ROMAN_LETTERS: Final = _keys("roman-letter")
NUMERALS: Final = _table("numeral")
SIDES: Final = _keys("side")
QUADRA_SIDES: Final = _keys("quadra-side")
LONG_ABBREVIATIONS: Final = _keys("abbreviation-long")

# Districts.
DISTRICT_WORDS: Final = _table("district")
STRONG_STARTERS: Final = _keys("district-strong")
GENERIC_DISTRICTS: Final = _keys("district-generic")
SECOND_DISTRICTS: Final = _keys("district-second")
BEFORE_SECOND: Final = PREPOSITIONS | STRONG_STARTERS | _keys("before-second")
BEFORE_CENTRE: Final = _keys("before-centre")
CHAINED_DISTRICTS: Final = WORDS.longs("district-chained")
RUNNING_ON: Final = _keys("district-runs-on")
DISTRICT_LABELS: Final = _keys("district-label")
DISTRICT_QUALIFIERS: Final = _keys("district-qualifier")
CENTRE: Final = _keys("centre")
TOWN_WORDS: Final = _keys("town-word")
TOWN_DISTRICTS: Final = _keys("town-district")
TOWN_LIKE_DISTRICTS: Final = frozenset(phrase_key(long) for long in WORDS.longs("town-like-district"))
SHORTEST_DISTRICTS: Final = WORDS.longs("shortest-district")
AFTER_SHORT_LABEL: Final = _keys("after-short-label")
AFTER_GOOD: Final = _keys("after-good")
SHORT_DISTRICT_LABELS: Final = _keys("raised-label")
GOOD: Final = _keys("good")
PLACES: Final = _keys("place", "locality")
ESTATE_WORDS: Final = _keys("estate")
SHORT_HEADS: Final = _keys("estate-head")
ESTATE_PHRASES: Final = _keys("estate-phrase")
BUILDING_WORDS: Final = _table("building")
BEFORE_NAMES: Final = PREPOSITIONS | _keys("person-before")  # "Silva Jardim" was a person

# Complements.
BUILDING_PHRASES: Final = _keys("building-phrase")
REGISTRY_COUNTS: Final = _keys("registry-count")
UNIT_WORDS: Final = _table("unit")
BEHIND_FLATS: Final = _table("unit-behind-flat")
ALONE_UNITS: Final = WORDS.longs("unit-alone")
VALUELESS_UNITS: Final = WORDS.longs("unit-valueless")
NAMED_UNITS: Final = WORDS.longs("unit-named")
NAMED_HEADS: Final = _keys("unit-named")
PLACED_AT: Final = _keys("placed-at")
PART_HEADS: Final = _keys("unit-head")
PART_TAILS: Final = _keys("unit-tail")
PLOTS: Final = WORDS.longs("plot")
AREAS: Final = WORDS.longs("area")
UNIT_PHRASES: Final = _table("unit-phrase")
PHRASE_FIRST: Final = frozenset(phrase.split()[0] for phrase in UNIT_PHRASES)
UNIT_FIRST: Final = UNIT_WORDS.keys() | PHRASE_FIRST
PLURAL_UNITS: Final = WORDS.longs("plural")
LEVELS: Final = _keys("level")
ORDINALS: Final = _keys("ordinal")
FLOORS: Final = _keys("floor")
FLOOR_UNITS: Final = WORDS.longs("floor")
HOUSES: Final = _keys("house-unit")
HOUSE_DISTRICTS: Final = _keys("house-district")
HOUSE_LOOKS: Final = HOUSE_DISTRICTS | _keys("colour")
HOUSE_DISTRICT_ENDS: Final = _keys("house-district-end")
BEHIND: Final = _keys("behind")
COUNTED: Final = _keys("counted")
KM: Final = _keys("km")
POST_BOXES: Final = _keys("post-box")

# Shapes of registers.
PARTIAL: Final = _keys("partial")
SIDE_OF_STREET: Final = _keys("street-side")
PARITY: Final = _keys("parity")
UP_TO: Final = _keys("up-to")
THE_END: Final = _keys("the-end")
JOINS_NUMBERS: Final = _keys("joins-numbers")
MEETING: Final = _keys("meeting")
DISTRICT_TOO: Final = _keys("district-too")

# Labels; the field "other" is none of an address, and its value is dropped.
LABELS: Final = WORDS.fields("label")
OTHER_FIELD: Final = "other"
LABEL_QUALIFIERS: Final = _keys("label-qualifier")
SERIAL_LABELS: Final = _keys("label-serial")
BARE_LABELS: Final = _keys("label-bare")
NUMBER_WORDS: Final = _keys("number-word")
SURE_NUMBER_WORDS: Final = _keys("number-word-sure")
REMARK_LABELS: Final = _keys("remark-label")
SLOT_NAMES: Final = _keys("slot")
TOWN_LABELS: Final = _keys("town-label")
TOWN_NAMES: Final = _keys("town-name")
OF_TOWN: Final = _keys("of-town")
IN_TOWN: Final = _keys("in-town")
STATE_WORDS: Final = _keys("state-word")
NULL_SLOTS: Final = _keys("null")
NONE_WORDS: Final = _keys("none-word")
NO_NUMBERS: Final = _keys("no-number")
WITHOUT: Final = _keys("without")

BEFORE_NO_LABEL: Final = _keys("before-no-label")  # the "do" of "Rua do Bairro", the "sem" of "sem CEP"
IN_THE: Final = _keys("in-the")

# Remarks, people, orders, abroad.
REFERENCE_WORDS: Final = _keys("reference")
REFERENCE_OF: Final = _keys("reference-of")
REFERENCE_PHRASES: Final = _keys("reference-phrase")
BESIDE: Final = _keys("beside")
BETWEEN: Final = _keys("between")
BETWEEN_WHAT: Final = _keys("article", "between-what")
POINTS: Final = _keys("point")
POINTED_AT: Final = _keys("pointed-at")
PLACED_IN: Final = _keys("placed-in")
PAINTED_WORDS: Final = _keys("painted")
COLOURS: Final = _keys("colour")
CONTACT_PHRASES: Final = _keys("contact-phrase")
# The words that may open a reference or a contact.
ASIDE_FIRST: Final = (
    REFERENCE_WORDS | PAINTED_WORDS | {phrase.split()[0] for phrase in REFERENCE_PHRASES | CONTACT_PHRASES}
)
PERSON_WORDS: Final = _keys("person")
BY_NAME: Final = _keys("by-name")
NOTE_WORDS: Final = _keys("note")
NO_NAMES: Final = _keys("no-name")
LEAD_WORDS: Final = _keys("lead")
LIVES: Final = _keys("lives")
CORNERS: Final = _keys("corner")
AT_CORNERS: Final = _keys("at-corner")
CAPITAL_WORDS: Final = _keys("capital")
OWN_COUNTRY: Final = _keys("country-own")
ORDER_WORDS: Final = _keys("order")
WEAK_ORDER_WORDS: Final = _keys("order-weak")
FOREIGN_WORDS: Final = _keys("foreign")
COUNTRIES: Final = _keys("country")

# One abbreviated word of a municipality's name and the words it may stand for.
CITY_SHORTS: Final = WORDS.meanings("city")

# What opens no street's name without a type.
NO_BARE_NAMES: Final = frozenset().union(
    STRONG_STARTERS, INSTITUTIONS, LOCALITIES, DOUBTFUL_LOCALITIES, UNIT_WORDS, PERSON_WORDS, BY_NAME, REFERENCE_WORDS
)

# Several addresses in a cell.
ADDRESS_KINDS: Final = WORDS.spellings("address-kind")
ADDRESS_LABELS: Final = WORDS.spellings("label.rua") - STREET_TYPES.keys()
OLD_ADDRESS: Final = WORDS.spellings("old-address")
OR: Final = WORDS.the("or")
AFTER_OR: Final = _keys("after-or")
