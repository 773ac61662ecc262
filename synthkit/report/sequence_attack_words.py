"""Every attack on records of visits in three sentences; see `attack_words` for those on tables.

Knows the names that an audit of records gives its attacks; refuses to know a result.
"""

from synthkit.domain.audit import AuditReport
from synthkit.report.attacker import Attacker

MEMBER = "names members more often than people whom the generator never saw"
RECORD = "the release and a target's whole record"

SEQUENCE_ATTACKERS = {
    "exact record match": Attacker(
        who="someone who wonders whether a person they know is in the data",
        holds=RECORD,
        success=(
            f"{MEMBER}: their visits, in any order or in theirs, their codes, or the gaps between visits, "
            "as the public calendar's kinds, stand there"
        ),
    ),
    "near record match": Attacker(
        who="the same, who allows for a few altered visits",
        holds=RECORD,
        success=f"{MEMBER}: a synthetic record has most of their visits, or is nearest by visits or by codes",
    ),
    "partial record match": Attacker(
        who="someone who knows a part, as a colleague knows of two visits",
        holds="the release and one, two, three or half of a target's visits, or three or half of their codes",
        success=f"{MEMBER}: one synthetic record contains all that is known",
    ),
    "rare codes of records": Attacker(
        who="someone who knows of a person what few people have",
        holds="the release and the two or four rarest codes of a target",
        success=f"{MEMBER}: one synthetic record has them all",
    ),
    "record density ratio": Attacker(
        who="someone who wonders whether a person they know is in the data",
        holds=f"{RECORD}, and a sample of the same population",
        success=f"{MEMBER}: synthetic records are nearer to them than other people are",
    ),
    "earlier records": Attacker(
        who="someone who kept the records released before",
        holds=f"earlier releases, {RECORD}, and a sample of the same population",
        success=f"{MEMBER}: all the releases together come nearer to them than one alone",
    ),
    "static columns of records": Attacker(
        who="someone with another file about the person",
        holds=(
            "the release, a target's static columns or the quasi-identifiers among them, and the number of "
            "visits or the day of the first"
        ),
        success=f"{MEMBER}: a synthetic patient has the same",
    ),
    "white-box membership by likelihood of records": Attacker(
        who="whoever is given the model itself: a receiving site, the coordinator",
        holds="the generator's weights, a target's whole record, and a sample of the same population",
        success=f"{MEMBER}: the model explains their records better",
    ),
}


def is_of_records(report: AuditReport) -> bool:
    """Whether the audit attacked records of visits; one that stopped before any attack does not say."""
    return any(attack.name in SEQUENCE_ATTACKERS for attack in report.attacks)
