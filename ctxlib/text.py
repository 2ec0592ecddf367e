"""Text in the form that both HDF5 and SQLite take."""


def storable_text(text: str) -> str:
    """Escape what cannot be stored: lone surrogates and NUL become `\\udc80` and `\\x00`.

    HDF5 refuses both and SQLite cuts at NUL; a result is never lost over it.
    """
    if "\0" not in text and text.isprintable():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
