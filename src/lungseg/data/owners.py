"""Whose an image is, by its name."""

import re
from pathlib import Path

from lungseg.errors import UserError
from lungseg.imaging.pairs import common_stem

OPTION = "data.patient_regex"


def compiled(pattern: str | None, option: str = OPTION) -> re.Pattern[str] | None:
    """What finds the patient in a stem; ``option`` is its name where it was typed.

    Raises:
        UserError: it is no regular expression.
    """
    if pattern == "":
        raise UserError(f"{option}= must be a regular expression that finds the patient, or null.")
    try:
        return None if pattern is None else re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{option}='{pattern}' is no regular expression ({error}).") from error


def owner(pattern: re.Pattern[str] | None, image: Path, option: str = OPTION) -> str | None:
    """The patient of an image: the first group, or the whole match, in its stem; None where nobody says how to find it.

    Raises:
        UserError: the stem names none.
    """
    if pattern is None:
        return None
    stem = common_stem(image)
    match = pattern.search(stem)
    patient = match.group(1 if pattern.groups else 0) if match else None
    if not patient:
        raise UserError(f"{option}={pattern.pattern!r} finds no patient in {stem!r} ({image}).")
    return str(patient)
