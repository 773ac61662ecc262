"""Every attack in three sentences: who attacks, what they hold, what counts as success.

Knows the names that an audit gives its attacks; refuses to know a result. An attack without words here is
a gap that a test finds, not a blank on the page.
"""

from synthkit.report.attacker import Attacker
from synthkit.report.sequence_attack_words import SEQUENCE_ATTACKERS

MEMBER = "names members more often than people whom the generator never saw"
RECORD = "the table and a target's whole record"
POPULATION = f"{RECORD}, and a sample of the same population"
GUESSED = (
    "reads the secret off the closest synthetic row and is right, more often for members than for people "
    "whom the generator never saw"
)

ATTACKERS = {
    "membership by density ratio": Attacker(
        who="someone who wonders whether a person they know is in the data",
        holds=POPULATION,
        success=f"{MEMBER}: synthetic rows are nearer to them than other people are",
    ),
    "presence by near match": Attacker(
        who="the same, without a sample of the population",
        holds=RECORD,
        success=f"{MEMBER}: a synthetic row lies close by",
    ),
    "presence by exact match": Attacker(
        who="the same, without a sample of the population",
        holds=RECORD,
        success=f"{MEMBER}: the record stands in the table word for word",
    ),
    "presence by near match on half of the columns": Attacker(
        who="someone with another file about the person",
        holds="the table and half of a target's columns",
        success=f"{MEMBER}: a synthetic row lies close by in what is known",
    ),
    "presence by near match on quasi-identifiers": Attacker(
        who="someone who knows of a person what neighbours, employers or registries know",
        holds="the table and a target's quasi-identifiers, as the schema declares them",
        success=f"{MEMBER}: a synthetic row lies close by in what is known",
    ),
    "presence by near match on quasi-identifiers and half of the rest": Attacker(
        who="the same, with another file about the person",
        holds="the table, a target's quasi-identifiers and half of the other columns",
        success=f"{MEMBER}: a synthetic row lies close by in what is known",
    ),
    "membership by shared rare cells": Attacker(
        who="someone who suspects that rows were made by replacing parts of real ones",
        holds=POPULATION,
        success=f"{MEMBER}: some row shares cells with them that few people share",
    ),
    "membership by two-way tables": Attacker(
        who="a statistician who reads counts rather than rows",
        holds=POPULATION,
        success=f"{MEMBER}: their pairs of values are more frequent in the table than among people",
    ),
    "membership by classifier": Attacker(
        who="someone who trains a classifier to tell synthetic rows from people",
        holds=POPULATION,
        success=f"{MEMBER}: the classifier takes them for synthetic",
    ),
    "singling out": Attacker(
        who="someone who knows nobody in the data",
        holds="the table alone",
        success=(
            "describes exactly one patient of a group, more often among members than in an equally large "
            "group of people whom the generator never saw"
        ),
    ),
    "linkability": Attacker(
        who="someone with two files that share no column",
        holds="the table and a target's record in each of the two files",
        success=(
            "both records lead to one synthetic row, more often for members than for people whom the "
            "generator never saw"
        ),
    ),
    "attribute inference": Attacker(
        who="someone who knows a person and wants to learn one thing more",
        holds="the table and all of a target's columns but the secret ones",
        success=GUESSED,
    ),
    "attribute inference from quasi-identifiers": Attacker(
        who="someone who knows of a person what neighbours, employers or registries know",
        holds="the table and a target's quasi-identifiers, as the schema declares them",
        success=GUESSED,
    ),
    "attribute inference from quasi-identifiers and half of the rest": Attacker(
        who="the same, with another file about the person",
        holds="the table, a target's quasi-identifiers and half of the other columns but the secret ones",
        success=GUESSED,
    ),
    "identity disclosure": Attacker(
        who="someone who knows a few cells of a person, as a neighbour or an employer does",
        holds="the table and a target's quasi-identifiers; four columns where the schema declares none",
        success=(
            "finds a row for a person who is alone with these, and learns a secret that most people do "
            "not have, more often for members"
        ),
    ),
    "several releases together": Attacker(
        who="someone who kept the tables released before",
        holds=f"earlier tables, and {POPULATION}",
        success=f"{MEMBER}: all the tables together come nearer to them than one alone",
    ),
    "membership by shadow trainings": Attacker(
        who="someone who knows how the table was made and trains the same generator many times over",
        holds=f"the generator and its settings, {POPULATION}; from the weights: the model as well",
        success=f"{MEMBER}: the table differs as tables with such a lonely person differ from those without",
    ),
    "canaries in shadow trainings": Attacker(
        who="the same; nobody's records, put into trainings of the audit's own by the toss of a coin",
        holds="the tables of those trainings, and the invented records",
        success="says of each record whether it was put in; what the generator allows at worst",
    ),
    "white-box membership by likelihood": Attacker(
        who="whoever is given the model itself: a receiving site, the coordinator",
        holds="the generator's weights, a target's whole record, and a sample of the same population",
        success=f"{MEMBER}: the model finds their records more likely",
    ),
}


def attacker(name: str) -> Attacker | None:
    """The words of an attack, by its name or that name and a comma's addition; None for an unknown one."""
    words = {**ATTACKERS, **SEQUENCE_ATTACKERS}
    return words.get(name) or words.get(name.partition(",")[0])
