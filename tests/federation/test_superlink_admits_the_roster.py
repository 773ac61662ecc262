"""A real SuperLink's list of nodes follows the roster: neither more nor fewer, also after a restart."""

from contextlib import closing
from dataclasses import replace

import pytest

from synthkit.federation.commands import LOOPBACK, free_port, quiet_environment
from synthkit.federation.pki import create_authority, create_node_key, create_server_certificate
from synthkit.federation.processes import Children
from synthkit_server.enrolment import Member
from synthkit_server.service import enrol_nodes, online_sites
from synthkit_server.superlink import start_superlink

pytestmark = pytest.mark.slow


def member(folder, name, *, number=1):
    key = create_node_key(folder / f"{name}-{number}").decode()
    return Member(name=name, public_key=f"{number}", node_key=key, declared_size=100, enrolled="")


def admitted(control):
    return {node.name: node.public_key.decode() for node in control.nodes() if not node.unregistered_at}


def test_the_list_is_the_rosters(tmp_path):
    files = create_server_certificate(tmp_path, create_authority(tmp_path))
    north, south, west = (member(tmp_path, name) for name in ("north", "south", "west"))
    changed = member(tmp_path, "south", number=2)
    for roster in ((north, south), (north, changed, west), (west,), (replace(west, declared_size=7),)):
        environment = quiet_environment(home=tmp_path / "home", temporary=tmp_path, has_proxies=False)
        with Children(tmp_path) as children:
            link = start_superlink(
                children,
                files,
                host=LOOPBACK,
                port=free_port(),
                environment=environment,
                cwd=tmp_path,
                database=tmp_path / "superlink.db",
            )
            with closing(link.control()) as control:
                enrol_nodes(control, roster)
                expected = {one.name: one.node_key for one in roster}
                assert admitted(control) == expected
                before = {node.node_id for node in control.nodes() if not node.unregistered_at}
                enrol_nodes(control, roster)
                assert {node.node_id for node in control.nodes() if not node.unregistered_at} == before
                assert online_sites(control) == frozenset()
