"""Recognise the words that anonymisers write in place of a patient's ID or name."""

import re
from functools import lru_cache

# The beginnings of "anonymous", "pseudonym", "removed", "unknown" and their like in the languages
# of Europe; a word that holds one of them, and no number, is a placeholder.
ROOTS = (
    r"an[oò]n[yií]m|аноним|ανωνυμ|anoniem|nafnlaus|匿名|익명|pseudon|psevdon|redact|redigiert|caviard"
    r"|deident|de.?identif|entpersonal|removed|suppress|supprim|eliminad|rimoss|gel[oö]scht|entfernt"
    r"|verwijderd|borrad|usunięt|deleted|erased|blanked|withheld|hidden|masked|scrubbed|sanitiz"
    r"|confidential|vertraulich|unknown|unbekannt|inconnu|desconocid|desconhecid|sconosciut"
    r"|onbekend|okänd|ukjent|ukendt|nieznan|tuntematon|neznám|неизвест|不明|unnamed|unspecified"
    r"|sansnom|ohnename|sinnombre|senzanome|nodisponible|nichtverfügbar|notavailable|notapplicable"
)
WORDS = (
    r"anon|unknown|none|null|nil|na|nan|noname|noid|first|last|patient|paciente|paziente|pasient"
    r"|name|vorname|nachname|nombre|nom|subject|proband|test|dummy|blank|empty|leer|vide|private"
    r"|privat|nobody|someone"
)
PLACEHOLDER = re.compile(rf"(?:{WORDS})*|0+|x+|9999+|([^\W\d_])\1\1+")
ANONYMISER_WORD = re.compile(rf"[^\d]*(?:{ROOTS})[^\d]*", re.DOTALL)
PLACEHOLDER_BIRTH_DATES = {"19000101", "19010101", "11111111", "00010101", "99991231", "18000101"}


@lru_cache(8192)  # the files of a series hold the same words
def is_placeholder(word: str) -> bool:
    """Check whether an ID or a name is a placeholder: empty, `ANON`, `0000`, `xx`, `REDACTED`."""
    bare = re.sub(r"[\W_]+", "", word).lower()
    return bool(PLACEHOLDER.fullmatch(bare) or ANONYMISER_WORD.fullmatch(bare))


def is_placeholder_birth_date(date: str) -> bool:
    """Check whether a birth date is empty or one that anonymisers write for every patient."""
    return is_placeholder(date) or date in PLACEHOLDER_BIRTH_DATES
