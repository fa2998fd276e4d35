"""Languages by their ISO 639-1 codes and by their English names, both of which OpenAI's audio endpoints use."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LANGUAGES = """
    af:afrikaans am:amharic ar:arabic as:assamese az:azerbaijani ba:bashkir be:belarusian bg:bulgarian bn:bengali bo:tibetan
    br:breton bs:bosnian ca:catalan cs:czech cy:welsh da:danish de:german el:greek en:english es:spanish et:estonian eu:basque
    fa:persian fi:finnish fo:faroese fr:french gl:galician gu:gujarati ha:hausa haw:hawaiian he:hebrew hi:hindi hr:croatian
    ht:haitian_creole hu:hungarian hy:armenian id:indonesian is:icelandic it:italian ja:japanese jw:javanese ka:georgian
    kk:kazakh km:khmer kn:kannada ko:korean la:latin lb:luxembourgish ln:lingala lo:lao lt:lithuanian lv:latvian mg:malagasy
    mi:maori mk:macedonian ml:malayalam mn:mongolian mr:marathi ms:malay mt:maltese my:myanmar ne:nepali nl:dutch nn:nynorsk
    no:norwegian oc:occitan pa:punjabi pl:polish ps:pashto pt:portuguese ro:romanian ru:russian sa:sanskrit sd:sindhi
    si:sinhala sk:slovak sl:slovenian sn:shona so:somali sq:albanian sr:serbian su:sundanese sv:swedish sw:swahili ta:tamil
    te:telugu tg:tajik th:thai tk:turkmen tl:tagalog tr:turkish tt:tatar uk:ukrainian ur:urdu uz:uzbek vi:vietnamese
    yi:yiddish yo:yoruba yue:cantonese zh:chinese
"""

NAMES: Mapping[str, str] = dict(pair.split(":") for pair in _LANGUAGES.split())
"""English names of the languages that Whisper knows, by the code that Whisper gives them."""

_CODES = {name.replace("_", " "): code for code, name in NAMES.items()}
_CODE = re.compile(r"[a-z]{2,3}")


def name_of(code: str) -> str:
    """The English name in lower case, as OpenAI writes it; the code itself where the language has no name here."""
    return NAMES.get(code, code).replace("_", " ")


def code_of(said: str) -> str:
    """The code of a language given by code or English name. Raises ValueError for what is neither."""
    word = said.strip().lower()
    if code := _CODES.get(word):
        return code
    if _CODE.fullmatch(word):
        return word
    raise ValueError("a language is given by its ISO 639-1 code, such as 'en' or 'es'")
