"""A command called in this process, with all that it says."""

from synthkit.cli.main import run


def call_plain(capsys, *arguments: object) -> tuple[int, str]:
    """Exit code, and standard output and error together."""
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err
