"""Numbers separated by commas, as options of the command line have them."""

from thinwire.errors import ThinwireError


def parse_numbers(option: str, text: str, example: str = "10,100") -> list[float]:
    """The numbers of an option, in order.

    Raises:
        ThinwireError: one is none, or there are none.
    """
    found = []
    for word in text.split(","):
        try:
            found.append(float(word))
        except ValueError:
            raise ThinwireError(
                f"{option} has {word!r}, which is no number; write one, or several as {example}."
            ) from None
    return found


def parse_counts(option: str, text: str) -> tuple[int, ...]:
    """The numbers of an option that count something, in order, each once.

    Raises:
        ThinwireError: one is no whole number of at least 1, or there are none.
    """
    found = parse_numbers(option, text, "1,2,4")
    for number in found:
        if not (number.is_integer() and number >= 1):
            raise ThinwireError(f"{option} has {number:g}; give whole numbers of at least 1.")
    return tuple(dict.fromkeys(map(int, found)))
