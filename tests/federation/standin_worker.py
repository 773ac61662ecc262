"""The site's real executor around the stand-in agent; takes the real executor's options."""

import argparse
import json
import logging
import os
from pathlib import Path

from standin import StandIn

from synthkit_client.app import make_app
from synthkit_client.worker import serve


class Recorded:
    """Notes the process that answered, so that a test can count processes."""

    def __init__(self, site_dir: Path) -> None:
        self.agent, self.site_dir = StandIn.open(site_dir), site_dir

    def answer(self, request):
        with (self.site_dir / "answers.jsonl").open("a") as file:
            file.write(json.dumps({"pid": os.getpid(), "round": request.server_round}) + "\n")
        return self.agent.answer(request)

    def note(self, closing):
        (self.site_dir / "witness.json").write_text(closing.witness)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--secret-file", required=True, type=Path)
    parser.add_argument("--site-dir", required=True, type=Path)
    parser.add_argument("--allow", action="append", default=[])
    given = parser.parse_args()
    serve(
        make_app(Recorded(given.site_dir)),
        runtime=given.runtime,
        secret_file=given.secret_file,
        approved=frozenset(given.allow),
    )
